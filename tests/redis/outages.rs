//! Redis fails at every step of a rotation and comes back: that costs time, and no session.

use std::time::Duration;

use test_support::Upstream;
use test_support::redis::{RedisServer, Wire};
use tokio::task::JoinSet;
use tower_oauth_refresh::EventKind;
use tower_oauth_refresh::store::RedisStore;

use crate::faults::{
    LIMIT, RedisApp, Stage, Step, assert_away, durable_server, events, go_on, instance_over,
    log_in_many, refresh_each,
};

/// The number of sessions that are in the middle of a rotation when Redis fails.
const SESSIONS: usize = 30;

/// The way in which Redis fails and comes back.
#[derive(Clone, Copy, Debug)]
enum Outage {
    Stopped,
    Frozen,
    Killed,
    /// The network between Redis and the instances is cut.
    Cut,
}

impl Outage {
    async fn begin(self, server: &RedisServer, wire: &Wire) {
        match self {
            Self::Stopped => server.stop().await,
            Self::Frozen => server.freeze(),
            Self::Killed => server.kill(),
            Self::Cut => wire.cut().await,
        }
    }

    async fn end(self, server: &RedisServer, wire: &Wire) {
        match self {
            Self::Stopped | Self::Killed => server.restart().await,
            Self::Frozen => server.thaw(),
            Self::Cut => wire.mend().await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_redis_loses_no_session() {
    at_every_step(Outage::Stopped).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_redis_loses_no_session() {
    at_every_step(Outage::Frozen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redis_loses_no_session() {
    at_every_step(Outage::Killed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_network_loses_no_session() {
    at_every_step(Outage::Cut).await;
}

async fn instance(
    url: &str,
    upstream: &Upstream,
    step: Step,
    command_timeout: Duration,
) -> RedisApp {
    let store = RedisStore::builder(url)
        .command_timeout(command_timeout)
        .connect()
        .await
        .unwrap();
    instance_over(store, upstream, |builder| {
        step.settings(builder.rotation_timeout(Duration::from_secs(1)))
    })
}

/// Runs each step over its own server, all concurrently, because most of the time is waiting.
async fn at_every_step(outage: Outage) {
    const LENGTHS: [u64; Step::ALL.len()] =
        [300, 2000, 600, 1200, 800, 400, 500, 1000, 2000, 1200, 700];
    let mut steps = JoinSet::new();
    for (step, length) in Step::ALL.into_iter().zip(LENGTHS) {
        steps.spawn(at_step(outage, step, Duration::from_millis(length)));
    }
    assert_eq!(
        steps.join_all().await,
        [0; Step::ALL.len()],
        "{outage:?}: sessions lost, by step"
    );
}

/// Returns how many sessions are lost.
async fn at_step(outage: Outage, step: Step, length: Duration) -> usize {
    let case = format!("{outage:?} for {length:?} at {step:?}");
    let (server, upstream) = (durable_server().await, Upstream::new());
    let wire = Wire::in_front_of(server.port()).await;
    // Nothing before the outage times out, because two dozen servers write to one disk.
    let patient = [instance(&server.url(), &upstream, step, LIMIT).await];
    let tokens = log_in_many(&patient, SESSIONS).await;
    let idle = log_in_many(&patient, 2).await;
    step.prepare(&patient, &tokens).await;
    let one = async || instance(&wire.url(), &upstream, step, Duration::from_secs(2)).await;
    let instances = [one().await, one().await];
    let stage = Stage {
        server: &server,
        wire: &wire,
        upstream: &upstream,
        connections: instances.len(),
        tokens: &tokens,
    };
    let mut requests = None;
    let gate = stage
        .halt(step, || requests = Some(refresh_each(&instances, &tokens)))
        .await;

    outage.begin(&server, &wire).await;
    if step.is_a_lost_reply() && !matches!(outage, Outage::Cut) {
        // Replies that are still on the wire are lost with it.
        wire.cut().await;
        wire.mend().await;
    }
    gate.open();
    while_away(&case, &instances, &upstream, &idle).await;
    tokio::time::sleep(length).await;
    wire.unhook();
    outage.end(&server, &wire).await;

    // The requests in progress get a response, and every client can go on, whatever that response
    // is.
    let answers = requests.unwrap().join_all().await;
    assert_eq!(answers.len(), SESSIONS);
    answers
        .iter()
        .filter(|answer| answer.status != 200)
        .for_each(assert_away);
    let (lost, mut tokens) = go_on(&instances, &tokens).await;
    for instance in &instances {
        instance.layer.drain().await;
    }
    let (idle_lost, rest) = go_on(&instances, &idle).await;
    tokens.extend(rest);
    let emitted = events(&instances);
    assert!(
        emitted.contains(&EventKind::StoreUnavailable),
        "{case}: {emitted:?}"
    );
    assert!(
        !emitted.contains(&EventKind::CommitLost),
        "{case}: {emitted:?}"
    );
    // Clients that log in during the outage get no refresh token, although the upstream has their
    // session.
    assert_eq!(
        (upstream.reuses(), upstream.alive()),
        (0, tokens.len() + instances.len()),
        "{case}"
    );
    lost + idle_lost
}

/// Checks that requests consume nothing and that clients are asked to retry.
async fn while_away(case: &str, instances: &[RedisApp], upstream: &Upstream, idle: &[String]) {
    let seen = upstream.refreshes();
    for (instance, token) in instances.iter().zip(idle) {
        for _ in 0..2 {
            assert_away(&instance.refresh(token).await);
        }
        let form = [("grant_type", "password"), ("client_id", "app")];
        let answer = instance.post("/token", &form).await;
        assert_eq!(answer.status, 200, "{case}: {answer:?}");
        assert!(
            answer.get("access_token").is_some() && answer.get("refresh_token").is_none(),
            "{case}: {answer:?}"
        );
    }
    assert_eq!(
        upstream.refreshes(),
        seen,
        "{case}: no other request reached the upstream"
    );
}
