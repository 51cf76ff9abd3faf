//! Several instances over one Redis: one rotation and the same response for all, in two round
//! trips.

use std::collections::HashSet;
use std::time::Duration;

use test_support::redis::{RedisServer, Wire};
use test_support::requests::{forged, patched};
use test_support::{App, ManualClock, Upstream, refresh_form};
use tokio::task::JoinSet;
use tower_oauth_refresh::EventKind;
use tower_oauth_refresh::store::{RedisStore, TieredStore};

use crate::faults::{
    Asked, RedisApp, Settings, asked, assert_nothing_lost, count, events, go_on, instance,
    log_in_many, patient_with, refresh_each, without_epochs,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_refreshes_of_one_token_get_one_response() {
    let (server, upstream) = (RedisServer::start().await, Upstream::new());
    let mut instances = Vec::new();
    for _ in 0..4 {
        instances.push(patient(&server, &upstream).await);
    }
    let mut token = instances[0].log_in("app").await;
    for round in 1..=10 {
        let answers = refresh_each(&instances, &vec![token; 64]).join_all().await;
        let bodies: HashSet<_> = answers.iter().map(|answer| answer.body.clone()).collect();
        assert_eq!(bodies.len(), 1, "{bodies:?}");
        token = answers[0].token();
        assert_eq!(upstream.refreshes(), round);
    }
    let events = events(&instances);
    assert_eq!(
        (
            count(&events, EventKind::Rotated),
            count(&events, EventKind::Replayed)
        ),
        (10, 630),
        "{events:?}"
    );
    assert_nothing_lost("64 at once", &upstream, &[token], &events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_old_copies_of_every_age_get_one_response() {
    const ROUNDS: usize = 6;
    let (server, upstream) = (RedisServer::start().await, Upstream::new());
    let mut instances = Vec::new();
    for _ in 0..4 {
        let settings = |builder: Settings| builder.shared_token_window(Duration::from_secs(3600));
        instances.push(patient_with(&server.url(), &upstream, settings).await);
    }
    let mut tokens = vec![instances[0].log_in("app").await];
    for round in 1..=ROUNDS {
        // A request for less, so that its stored answer is not for the copies.
        let newest = tokens.last().unwrap();
        let form = [&refresh_form("app", newest)[..], &[("scope", "read")]].concat();
        tokens.push(instances[round % 4].post("/token", &form).await.token());
        // In each round, another age comes first.
        let copies = tokens.iter().rev().cycle().skip(round).take(64);
        let copies: Vec<_> = copies.cloned().collect();
        let answers = refresh_each(&instances, &copies).join_all().await;
        let bodies: HashSet<_> = answers.iter().map(|answer| answer.body.clone()).collect();
        assert_eq!(bodies.len(), 1, "round {round}: {bodies:?}");
        assert_eq!(upstream.refreshes(), 2 * round, "round {round}");
        let token = answers[0].token();
        if !tokens.contains(&token) {
            tokens.push(token);
        }
    }
    assert_eq!((upstream.reuses(), upstream.alive()), (0, 1));
    let events = events(&instances);
    let upstream_calls = [EventKind::Rotated, EventKind::Converged]
        .map(|kind| count(&events, kind))
        .iter()
        .sum::<usize>();
    assert_eq!(
        (upstream_calls, count(&events, EventKind::Replayed)),
        (2 * ROUNDS, 63 * ROUNDS),
        "{events:?}"
    );
}

/// Returns an instance with time limits long enough for a busy machine.
async fn patient(server: &RedisServer, upstream: &Upstream) -> RedisApp {
    patient_with(&server.url(), upstream, |builder| builder).await
}

/// Returns what went over the wire since the last call, and in how many round trips.
fn traffic(wire: &Wire) -> (Vec<Asked>, usize) {
    (
        wire.commands().iter().map(|words| asked(words)).collect(),
        wire.round_trips(),
    )
}

#[tokio::test]
async fn a_rotation_takes_two_round_trips_on_any_instance() {
    let (server, upstream) = (RedisServer::start().await, Upstream::new());
    let wires = [(); 3].map(|()| Wire::in_front_of(server.port()));
    let [issuer, other, uncached] = wires;
    let (issuer, other, uncached) = (issuer.await, other.await, uncached.await);
    let store = RedisStore::connect(&uncached.url()).await.unwrap();
    let store = TieredStore::builder(store).ttl(Duration::ZERO).build();
    let without = App::over(ManualClock::new(), store, upstream.clone(), |builder| {
        builder
    });
    let (first, second) = (
        instance(&issuer.url(), &upstream).await,
        instance(&other.url(), &upstream).await,
    );
    let rows = [
        ("on the instance that issued it", &first, &issuer),
        ("elsewhere", &second, &other),
    ];
    let rows = [
        &rows[..],
        &[("without a cache", &without, &uncached)],
        &rows,
    ]
    .concat();

    traffic(&issuer);
    let mut token = first.log_in("app").await;
    assert_eq!(traffic(&issuer), (vec![Asked::Insert], 1));
    for wire in [&issuer, &other, &uncached] {
        traffic(wire);
    }
    for (row, instance, wire) in rows {
        // The second time, this instance has the grant in its cache.
        for cached in [false, true] {
            token = instance.refresh(&token).await.token();
            // An instance reads the epochs at most once a second, at the same time as it claims.
            let all = wire.commands();
            let sent = all.len();
            let commands = without_epochs(all);
            let read = sent - commands.len();
            assert!(
                commands.iter().all(|words| words[0] == "EVALSHA"),
                "{row}: {commands:?}"
            );
            let asked: Vec<_> = commands.iter().map(|words| asked(words)).collect();
            assert_eq!(
                asked,
                [Asked::Claim, Asked::Commit],
                "{row}, cached: {cached}"
            );
            let round_trips = wire.round_trips();
            assert!(
                (2..=2 + read).contains(&round_trips),
                "{row}, cached: {cached}: {round_trips} round trips"
            );
        }
    }
    assert_eq!((upstream.reuses(), upstream.alive()), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_clients_and_dead_tokens_rarely_reach_redis() {
    let (server, upstream) = (RedisServer::start().await, Upstream::new());
    let wire = Wire::in_front_of(server.port()).await;
    // On a busy machine, 256 requests that wait for each other take longer than the defaults.
    let store = RedisStore::builder(&wire.url()).command_timeout(crate::faults::LIMIT);
    let store = store.connect().await.unwrap();
    // The facts in the cache outlive the test, even on a slow machine.
    let store = TieredStore::builder(store).ttl(Duration::from_secs(3600));
    let app = App::over(
        ManualClock::new(),
        store.build(),
        upstream.clone(),
        |builder| builder.rotation_timeout(crate::faults::LIMIT),
    );
    let token = app.log_in("app").await;
    traffic(&wire);
    for _ in 0..1000 {
        assert_eq!(
            app.refresh_as("thief", &token).await.error(),
            (400, "invalid_grant".into())
        );
    }
    assert_eq!(
        traffic(&wire),
        (vec![], 0),
        "the wrong client of a known grant"
    );

    let first = token.clone();
    let token = app.refresh(&token).await.token();
    let token = app.refresh(&token).await.token();
    assert_eq!(app.revoke(&token).await.status, 200);
    let mut dead = vec![first, token.clone()];
    dead.extend((0..4).map(|generation| forged(&token, generation)));
    // A grant that is unknown on this instance.
    dead.extend((0..2).map(|n| patched(&token, |bytes| bytes[0] ^= 1 + n)));
    traffic(&wire);
    let mut requests = JoinSet::new();
    for n in 0..256 {
        let (app, dead) = (app.clone(), dead.clone());
        requests.spawn(async move {
            for request in 0..40 {
                let answer = app.refresh(&dead[(n + request) % dead.len()]).await;
                assert_eq!(answer.error(), (400, "invalid_grant".into()));
            }
        });
    }
    assert_eq!(requests.join_all().await.len(), 256);
    let commands = without_epochs(wire.commands());
    assert!(
        commands.len() <= dead.len(),
        "10,240 requests with dead tokens took {} commands",
        commands.len()
    );
    assert_eq!(upstream.refreshes(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_ten_seconds_apart_lose_no_session() {
    const SESSIONS: usize = 60;
    let (server, upstream) = (RedisServer::start().await, Upstream::new());
    let mut instances = Vec::new();
    for _ in 0..3 {
        instances.push(patient(&server, &upstream).await);
    }
    // One clock is behind, one is right, one is ahead.
    instances[1].clock.advance(Duration::from_secs(10));
    instances[2].clock.advance(Duration::from_secs(20));
    let mut tokens = log_in_many(&instances, SESSIONS).await;
    for pause in [0, 5, 45, 25, 3600] {
        // Half of the responses are lost. Those clients retry at another instance, immediately or
        // after some time.
        let (retry, wait) = tokens.split_at(SESSIONS / 2);
        for answer in refresh_each(&instances[..2], retry).join_all().await {
            answer.token();
        }
        for instance in &instances {
            instance.clock.advance(Duration::from_secs(pause));
        }
        let mut newest = Vec::new();
        for tokens in [retry, wait] {
            let (lost, tokens) = go_on(&instances, tokens).await;
            assert_eq!(lost, 0, "after {pause} s");
            newest.extend(tokens);
        }
        tokens = newest;
    }
    assert_eq!((upstream.reuses(), upstream.alive()), (0, SESSIONS));
    let events = events(&instances);
    for kind in [
        EventKind::Late,
        EventKind::ReuseDetected,
        EventKind::Expired,
    ] {
        assert!(!events.contains(&kind), "{kind}");
    }
    assert!(events.contains(&EventKind::Recovered) && events.contains(&EventKind::Replayed));
}
