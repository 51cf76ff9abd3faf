//! An instance dies at every step of a rotation, and another one takes over its sessions.

use std::time::Duration;

use test_support::Upstream;
use test_support::redis::{RedisServer, Wire};
use test_support::requests::generation;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tower_oauth_refresh::EventKind;
use tower_oauth_refresh::store::RedisStore;

use crate::faults::{
    LIMIT, RedisApp, Stage, Step, count, events, go_on, instance_over, log_in_many,
};

const SESSIONS: usize = 30;

/// Starts an instance on which nothing times out before it dies: a store call may take very long,
/// and a call of the upstream as long as a short lease allows.
async fn instance(url: &str, upstream: &Upstream, step: Step) -> RedisApp {
    let store = RedisStore::builder(url)
        .command_timeout(LIMIT)
        .connect()
        .await
        .unwrap();
    instance_over(store, upstream, |builder| {
        step.settings(builder.rotation_timeout(Duration::from_secs(4)))
    })
}

/// An instance in its own runtime, which dies with it.
struct Mortal {
    runtime: Runtime,
    app: RedisApp,
}

impl Mortal {
    async fn start(url: String, upstream: &Upstream, step: Step) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let upstream = upstream.clone();
        let app = runtime
            .spawn(async move { instance(&url, &upstream, step).await })
            .await
            .unwrap();
        Self { runtime, app }
    }

    /// Stops all tasks of the instance and closes its connections.
    async fn die(self) {
        let Self { runtime, app } = self;
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(LIMIT))
            .await
            .unwrap();
        drop(app);
    }
}

/// The fate of the last request of the dead instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Arrives,
    /// It is lost on the way, with the connection.
    IsLost,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_lost_only_between_the_response_of_a_strict_upstream_and_the_commit() {
    let rows = [
        (Step::Claim, Last::IsLost, 0),
        (Step::Claim, Last::Arrives, 0),
        (Step::Claimed, Last::IsLost, 0),
        (Step::Upstream, Last::IsLost, 0),
        (Step::Commit, Last::IsLost, SESSIONS),
        (Step::Commit, Last::Arrives, 0),
        (Step::Committed, Last::IsLost, 0),
        (Step::Replay, Last::IsLost, 0),
        (Step::Link, Last::IsLost, 0),
        (Step::Reclaim, Last::IsLost, 0),
        (Step::Reclaim, Last::Arrives, 0),
        (Step::Reclaimed, Last::IsLost, 0),
        (Step::Converge, Last::IsLost, SESSIONS),
        (Step::Converge, Last::Arrives, 0),
        (Step::Converged, Last::IsLost, 0),
    ];
    at_every_step(&rows, Upstream::new).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_session_is_lost_with_an_upstream_that_accepts_its_previous_token() {
    let rows = [
        (Step::Upstream, Last::IsLost, 0),
        (Step::Commit, Last::IsLost, 0),
        (Step::Commit, Last::Arrives, 0),
        (Step::Converge, Last::IsLost, 0),
        (Step::Converge, Last::Arrives, 0),
    ];
    let forgiving = || {
        let upstream = Upstream::new();
        upstream.forgive();
        upstream
    };
    at_every_step(&rows, forgiving).await;
}

async fn at_every_step(rows: &[(Step, Last, usize)], upstream: fn() -> Upstream) {
    let mut steps = JoinSet::new();
    for &(step, last, expected) in rows {
        steps.spawn(async move {
            (
                step,
                last,
                at_step(step, last, upstream()).await == expected,
            )
        });
    }
    for (step, last, as_expected) in steps.join_all().await {
        assert!(as_expected, "{step:?}, the last request: {last:?}");
    }
}

/// Returns how many sessions are lost.
async fn at_step(step: Step, last: Last, upstream: Upstream) -> usize {
    let server = RedisServer::start().await;
    let wire = Wire::in_front_of(server.port()).await;
    let dying = Mortal::start(wire.url(), &upstream, step).await;
    let others = [
        instance(&server.url(), &upstream, step).await,
        instance(&server.url(), &upstream, step).await,
    ];
    let tokens = log_in_many(&others, SESSIONS).await;
    step.prepare(&others, &tokens).await;
    let stage = Stage {
        server: &server,
        wire: &wire,
        upstream: &upstream,
        connections: 1,
        tokens: &tokens,
    };
    let start = || {
        for token in tokens.clone() {
            let app = dying.app.clone();
            dying
                .runtime
                .spawn(async move { app.refresh(&token).await });
        }
    };
    let gate = stage.halt(step, start).await;
    dying.die().await;
    if last == Last::IsLost {
        wire.cut().await;
    }
    gate.open();

    let (lost, left) = go_on(&others, &tokens).await;
    let events = events(&others);
    assert_eq!(
        count(&events, EventKind::UpstreamRejected),
        lost,
        "{step:?}, {last:?}: {events:?}"
    );
    assert_eq!(
        (upstream.reuses() as usize, upstream.alive()),
        (lost, SESSIONS - lost),
        "{step:?}, {last:?}"
    );
    assert!(
        left.iter().all(|token| generation(token) == 2),
        "{step:?}, {last:?}: {left:?}"
    );
    println!("{step:?}, the last request {last:?}: {SESSIONS} sessions, {lost} lost");
    lost
}
