//! Failovers that lose writes.

use std::time::{Duration, Instant};

use redis::Value;
use test_support::redis::{RedisServer, Sentinels};
use test_support::{Act, Upstream};
use tower_oauth_refresh::EventKind;
use tower_oauth_refresh::store::RedisStoreBuilder;

use super::{SESSIONS, instances, two_instances};
use crate::faults::{
    Gate, LIMIT, assert_away, assert_nothing_lost, count, events, go_on, log_in_many, refresh_each,
    refresh_patiently, until,
};

/// Stops the replication from the master to the replica.
async fn hold_replication_back(replica: &RedisServer) {
    replica
        .command(&["CONFIG", "SET", "masterauth", "wrong"])
        .await;
    replica.command(&["CLIENT", "KILL", "TYPE", "master"]).await;
    let end = Instant::now() + LIMIT;
    while replica.info("replication").await["master_link_status"] != "down" {
        assert!(Instant::now() < end, "the link stays up: {replica:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_writes_lost_in_a_failover_are_rejected_and_reported() {
    let (sentinels, upstream) = (Sentinels::start().await, Upstream::new());
    let instances = two_instances(&sentinels.url(), &upstream, |builder| builder).await;
    let first = log_in_many(&instances, SESSIONS).await;
    let master = sentinels.master();
    assert!(matches!(
        master.command(&["WAIT", "1", "60000"]).await,
        Value::Int(_)
    ));
    let end = Instant::now() + LIMIT;
    while sentinels.replica().dump().await.len() < SESSIONS {
        assert!(Instant::now() < end, "they are not replicated");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    hold_replication_back(sentinels.replica()).await;
    let mut newer = Vec::new();
    for answer in refresh_each(&instances, &first).join_all().await {
        newer.push(answer.token());
    }
    sentinels.kill_master_and_wait().await;
    let promoted = sentinels.master();
    let refreshes = upstream.refreshes();
    events(&instances);

    for (number, token) in newer.iter().enumerate() {
        let answer = refresh_patiently(&instances, number, token).await;
        assert_eq!(answer.error(), (400, "invalid_grant".into()), "{answer:?}");
    }
    let emitted = events(&instances);
    assert_eq!(count(&emitted, EventKind::Ahead), SESSIONS, "{emitted:?}");
    assert_eq!(upstream.refreshes(), refreshes, "none of them is used");
    assert_eq!(
        promoted.dump().await.len(),
        SESSIONS,
        "and no grant is touched"
    );
    assert_eq!(upstream.alive(), SESSIONS);

    // The upstream has already seen the tokens that the store still knows.
    let (lost, _) = go_on(&instances, &first).await;
    assert_eq!(
        (lost, upstream.reuses() as usize, upstream.alive()),
        (SESSIONS, SESSIONS, 0),
        "a strict upstream"
    );
    assert_eq!(
        count(&events(&instances), EventKind::UpstreamRejected),
        SESSIONS
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_replicas_no_upstream_token_is_consumed_under_a_lease_that_could_be_lost() {
    let (sentinels, upstream) = (Sentinels::start().await, Upstream::new());
    let replicas =
        |builder: RedisStoreBuilder| builder.wait_for_replicas(1, Duration::from_secs(1));
    let instances = two_instances(&sentinels.url(), &upstream, replicas).await;
    let tokens = log_in_many(&instances, SESSIONS).await;
    hold_replication_back(sentinels.replica()).await;
    let answers = refresh_each(&instances, &tokens).join_all().await;
    answers.iter().for_each(assert_away);
    assert_eq!(
        upstream.refreshes(),
        0,
        "without a replicated lease, no rotation begins"
    );
    sentinels.kill_master_and_wait().await;
    sentinels.replica().restart().await;
    let (lost, _) = go_on(&instances, &tokens).await;
    assert_eq!(
        (lost, upstream.reuses(), upstream.alive()),
        (0, 0, SESSIONS)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_gets_a_token_that_a_failover_would_lose() {
    let (sentinels, upstream) = (Sentinels::start().await, Upstream::new());
    let replicas =
        |builder: RedisStoreBuilder| builder.wait_for_replicas(1, Duration::from_secs(1));
    // Their leases last longer than the failover.
    let instances = instances(&sentinels.url(), &upstream, LIMIT, replicas).await;
    let tokens = log_in_many(&instances, SESSIONS).await;
    let gate = Gate::default();
    for _ in 0..SESSIONS {
        upstream.then(Act::Wait(gate.hold().unwrap()));
    }
    let requests = refresh_each(&instances, &tokens);
    until("the upstream has them all", || {
        upstream.refreshes() == SESSIONS
    })
    .await;
    hold_replication_back(sentinels.replica()).await;
    gate.open();
    // Only the master has the commits.
    for answer in requests.join_all().await {
        assert_away(&answer);
    }
    let others: Vec<_> = instances.iter().rev().cloned().collect();
    for answer in refresh_each(&others, &tokens).join_all().await {
        assert_away(&answer);
    }
    sentinels.kill_master_and_wait().await;
    sentinels.replica().restart().await;
    let (lost, left) = go_on(&instances, &tokens).await;
    let emitted = events(&instances);
    assert_eq!(
        (lost, upstream.reuses(), upstream.alive()),
        (0, 0, SESSIONS),
        "{emitted:?}"
    );
    assert_nothing_lost(
        "commits that only the old master has",
        &upstream,
        &left,
        &emitted,
    );
}
