//! A client that hangs up at any step of a rotation over Redis loses nothing.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use test_support::Upstream;
use test_support::redis::{RedisServer, Wire};
use tokio::task::JoinSet;
use tower_oauth_refresh::EventKind;

use crate::faults::{
    RedisApp, Settings, Stage, Step, assert_nothing_lost, count, events, go_on, log_in_many,
    patient_with, refresh_each, refresh_patiently,
};

const SESSIONS: usize = 50;

/// Returns two instances with time limits that never expire here.
async fn two_instances(
    wire: &Wire,
    upstream: &Upstream,
    settings: impl Fn(Settings) -> Settings,
) -> [RedisApp; 2] {
    let one = async || patient_with(&wire.url(), upstream, &settings).await;
    [one().await, one().await]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_can_hang_up_at_every_step() {
    let server = RedisServer::start().await;
    let wire = Wire::in_front_of(server.port()).await;
    for step in Step::ALL {
        let upstream = Upstream::new();
        let settings = |builder: Settings| step.settings(builder);
        let instances = two_instances(&wire, &upstream, settings).await;
        let tokens = log_in_many(&instances, SESSIONS).await;
        step.prepare(&instances, &tokens).await;
        let before = upstream.refreshes();
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
        // No client waits for the results of the rotations any more.
        requests.unwrap().shutdown().await;
        gate.open();
        for instance in &instances {
            instance.layer.drain().await;
        }
        wire.unhook();
        let begun = if step == Step::Replay { 0 } else { SESSIONS };
        assert_eq!(
            upstream.refreshes(),
            before + begun,
            "{step:?}: rotations that have begun complete"
        );
        assert_eq!(upstream.rotations(), before + begun, "{step:?}");

        let (lost, tokens) = go_on(&instances, &tokens).await;
        assert_eq!(lost, 0, "{step:?}");
        let events = events(&instances);
        assert_nothing_lost(&format!("{step:?}"), &upstream, &tokens, &events);
        let replayed = count(&events, EventKind::Replayed);
        assert!(
            replayed >= SESSIONS,
            "{step:?}: replays of the lost responses: {replayed}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_can_hang_up_at_any_moment() {
    let server = RedisServer::start().await;
    let wire = Wire::in_front_of(server.port()).await;
    let upstream = Upstream::new();
    let instances = two_instances(&wire, &upstream, |builder| builder).await;
    let tokens = log_in_many(&instances, SESSIONS).await;
    let mut clients = JoinSet::new();
    for (number, mut token) in tokens.into_iter().enumerate() {
        let instances = instances.clone();
        clients.spawn(async move {
            let mut random = StdRng::seed_from_u64(number as u64);
            for round in 0..20 {
                let patience = Duration::from_micros(random.random_range(0..8000));
                let asked = instances[(number + round) % 2].refresh(&token);
                if let Ok(answer) = tokio::time::timeout(patience, asked).await
                    && answer.status == 200
                {
                    token = answer.token();
                    continue;
                }
                // The client may hang up on its retry as well, and then waits.
                let again = instances[random.random_range(0..2)].refresh(&token);
                let _ = tokio::time::timeout(patience, again).await;
                token = refresh_patiently(&instances, round, &token).await.token();
            }
            token
        });
    }
    let tokens = clients.join_all().await;
    for instance in &instances {
        instance.layer.drain().await;
    }
    let (lost, tokens) = go_on(&instances, &tokens).await;
    assert_eq!(lost, 0);
    assert_nothing_lost("at any moment", &upstream, &tokens, &events(&instances));
}
