//! A client that hangs up at any step of a rotation over Redis loses nothing.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use test_support::Upstream;
use test_support::redis::{RedisServer, Wire};
use tokio::task::JoinSet;
use tower_oauth_refresh::EventKind;
use tower_oauth_refresh::store::RedisStore;

use crate::faults::{
    LIMIT, RedisApp, Stage, Step, assert_nothing_lost, count, events, go_on, instance_over,
    log_in_many, refresh_each, refresh_patiently,
};

const SESSIONS: usize = 50;

/// Returns two instances with time limits that never expire here.
async fn two_instances(wire: &Wire, upstream: &Upstream) -> [RedisApp; 2] {
    let one = async || {
        let store = RedisStore::builder(&wire.url())
            .command_timeout(LIMIT)
            .connect()
            .await
            .unwrap();
        instance_over(store, upstream, |builder| builder.rotation_timeout(LIMIT))
    };
    [one().await, one().await]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_can_hang_up_at_every_step() {
    let server = RedisServer::start().await;
    let wire = Wire::in_front_of(server.port()).await;
    for step in Step::ALL {
        let upstream = Upstream::new();
        let instances = two_instances(&wire, &upstream).await;
        let tokens = log_in_many(&instances, SESSIONS).await;
        if step == Step::Replay {
            for answer in refresh_each(&instances, &tokens).join_all().await {
                answer.token();
            }
        }
        let stage = Stage {
            server: &server,
            wire: &wire,
            upstream: &upstream,
            connections: instances.len(),
        };
        let mut requests = None;
        let gate = stage
            .halt(step, SESSIONS, || {
                requests = Some(refresh_each(&instances, &tokens))
            })
            .await;
        // No client waits for the results of the rotations any more.
        requests.unwrap().shutdown().await;
        gate.open();
        for instance in &instances {
            instance.layer.drain().await;
        }
        wire.unhook();
        assert_eq!(
            upstream.refreshes(),
            SESSIONS,
            "{step:?}: rotations that have begun complete"
        );
        assert_eq!(upstream.rotations(), SESSIONS, "{step:?}");

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
    let instances = two_instances(&wire, &upstream).await;
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
