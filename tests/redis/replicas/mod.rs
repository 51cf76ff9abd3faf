//! `RedisStore::wait_for_replicas`: a write that a failover could lose does not count as done.

mod reads;

use std::time::{Duration, Instant};

use bytes::Bytes;
use test_support::entries::{
    HOUR, LEASE, NAME, TAG, entry, put, put_with, random_key, remove, version,
};
use test_support::redis::{RedisServer, Wire};
use tower_oauth_refresh::RedisStore;
use tower_oauth_refresh::store::{Key, Lease, Store, StoreError, Swap};

const PATIENCE: Duration = Duration::from_secs(60);

async fn connect(server: &RedisServer, replicas: u32, wait: Duration) -> RedisStore {
    let builder = RedisStore::builder(&server.url()).command_timeout(PATIENCE);
    builder
        .wait_for_replicas(replicas, wait)
        .connect()
        .await
        .unwrap()
}

fn is_unavailable<T>(outcome: &Result<T, StoreError>) -> bool {
    matches!(outcome, Err(StoreError::Unavailable(_)))
}

/// Inserts an entry, once the replicas are connected.
async fn inserted(store: &RedisStore, key: &Key) {
    let end = Instant::now() + PATIENCE;
    while is_unavailable(&put(store, key, None, 1).await) {
        assert!(Instant::now() < end, "it never succeeds");
    }
}

/// Starts a master, its replica, and a store that waits for the replica and reaches the master
/// through a wire.
pub(crate) async fn waiting() -> (RedisServer, RedisServer, Wire, RedisStore) {
    let master = RedisServer::start().await;
    let replica = RedisServer::builder()
        .replica_of(master.port())
        .start()
        .await;
    let wire = Wire::in_front_of(master.port()).await;
    let builder = RedisStore::builder(&wire.url()).command_timeout(PATIENCE);
    let store = builder
        .wait_for_replicas(1, PATIENCE / 2)
        .connect()
        .await
        .unwrap();
    (master, replica, wire, store)
}

#[tokio::test]
async fn a_replicated_write_succeeds() {
    let master = RedisServer::start().await;
    let replica = RedisServer::builder()
        .replica_of(master.port())
        .start()
        .await;
    let store = connect(&master, 1, PATIENCE / 2).await;
    let key = random_key();
    assert_eq!(
        put_with(&store, &key, None, 1, HOUR, Some("sidecar"))
            .await
            .unwrap(),
        Swap::Swapped
    );
    assert_eq!(
        replica.dump().await.len(),
        2,
        "the entry and its sidecar are stored"
    );
    assert_eq!(
        store.sidecar(&key, &NAME).await.unwrap(),
        Some(Bytes::from_static(b"sidecar"))
    );
    let claim = store
        .claim(&key, &TAG, version(2), LEASE)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(claim.lease, Lease::Taken);
    assert_eq!(
        put(&store, &key, Some(7), 3).await.unwrap(),
        Swap::Conflict(Some(claim.entry))
    );
    assert_eq!(put(&store, &key, Some(2), 3).await.unwrap(), Swap::Swapped);
    assert_eq!(store.get(&key).await.unwrap(), Some(entry(3)));
    assert_eq!(remove(&store, &key, 3).await.unwrap(), Swap::Swapped);
    assert_eq!(
        replica.dump().await.len(),
        1,
        "the sidecar keeps its own expiry"
    );
    master.command(&["SCRIPT", "FLUSH"]).await;
    assert_eq!(
        put(&store, &key, None, 4).await.unwrap(),
        Swap::Swapped,
        "without the script"
    );
}

/// The repeated write, even over another connection, does not succeed before the replicas have it.
#[tokio::test]
async fn a_write_that_a_failover_could_lose_is_unavailable() {
    let master = RedisServer::start().await;
    let replica = RedisServer::builder()
        .replica_of(master.port())
        .start()
        .await;
    let store = connect(&master, 1, Duration::from_millis(100)).await;
    let key = random_key();
    replica.freeze();
    for time in 1..=3 {
        let outcome = put(&store, &key, None, 1).await;
        assert!(is_unavailable(&outcome), "time {time}: {outcome:?}");
        assert_eq!(
            store.get(&key).await.unwrap(),
            Some(entry(1)),
            "it has taken effect nevertheless"
        );
        master
            .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
            .await;
    }
    replica.thaw();
    inserted(&store, &key).await;
    replica.freeze();
    for time in 1..=3 {
        let outcome = remove(&store, &key, 1).await;
        assert!(
            is_unavailable(&outcome),
            "removal, time {time}: {outcome:?}"
        );
        assert_eq!(
            master.dump().await.len(),
            0,
            "it has taken effect nevertheless"
        );
        master
            .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
            .await;
    }
    replica.thaw();
    let end = Instant::now() + PATIENCE;
    while is_unavailable(&remove(&store, &key, 1).await) {
        assert!(Instant::now() < end, "it never succeeds");
    }
}

#[tokio::test]
async fn without_enough_replicas_every_write_is_unavailable() {
    let master = RedisServer::start().await;
    let _replica = RedisServer::builder()
        .replica_of(master.port())
        .start()
        .await;
    let store = connect(&master, 2, Duration::from_millis(50)).await;
    let outcome = put(&store, &random_key(), None, 1).await;
    assert!(is_unavailable(&outcome), "{outcome:?}");
}

/// Without its lease, a rotation must not begin: after a failover another request would use the
/// same upstream token.
#[tokio::test]
async fn a_lease_that_a_failover_could_lose_is_unavailable() {
    let master = RedisServer::start().await;
    let replica = RedisServer::builder()
        .replica_of(master.port())
        .start()
        .await;
    let store = connect(&master, 1, Duration::from_millis(100)).await;
    let key = random_key();
    inserted(&store, &key).await;
    replica.freeze();
    for time in 1..=3 {
        let outcome = store.claim(&key, &TAG, version(2), LEASE).await;
        assert!(is_unavailable(&outcome), "time {time}: {outcome:?}");
        assert_eq!(
            store.get(&key).await.unwrap().unwrap().version,
            version(2),
            "it was inserted nevertheless"
        );
        master
            .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
            .await;
    }
    replica.thaw();
    let end = Instant::now() + PATIENCE;
    let claim = loop {
        match store.claim(&key, &TAG, version(2), LEASE).await {
            Ok(claim) => break claim.unwrap(),
            Err(error) => assert!(Instant::now() < end, "it never succeeds: {error}"),
        }
    };
    assert_eq!(claim.lease, Lease::Taken);
    assert_eq!(replica.dump().await.len(), 1);
}

/// Each `WAIT` goes out together with its script. Only a claim of a key that this instance has not
/// seen reads it first, so that an absent key needs no `WAIT` on the connection of the writes.
#[tokio::test]
async fn a_rotation_that_waits_for_replicas_takes_two_round_trips() {
    let (master, _replica, wire, store) = waiting().await;
    let (key, foreign) = (random_key(), random_key());
    inserted(&store, &key).await;
    inserted(&connect(&master, 1, PATIENCE / 2).await, &foreign).await;
    let traffic = || {
        let commands = wire.commands();
        let names = commands.iter().map(|words| {
            let name = String::from_utf8_lossy(&words[0]);
            name.into_owned()
        });
        (names.collect::<Vec<_>>().join(" "), wire.round_trips())
    };
    traffic();
    let rotations = [
        ("inserted here", key, ("EVALSHA WAIT".to_owned(), 1)),
        (
            "inserted elsewhere",
            foreign,
            ("GET EVALSHA WAIT".to_owned(), 2),
        ),
        ("rotated here", foreign, ("EVALSHA WAIT".to_owned(), 1)),
    ];
    let mut number = 1;
    for (row, key, expected) in rotations {
        let claim = store.claim(&key, &TAG, version(number + 1), LEASE);
        assert_eq!(claim.await.unwrap().unwrap().lease, Lease::Taken, "{row}");
        assert_eq!(traffic(), expected, "{row}: the claim");
        let swap = put_with(&store, &key, Some(number + 1), number + 2, HOUR, Some("s"));
        assert_eq!(swap.await.unwrap(), Swap::Swapped, "{row}");
        assert_eq!(traffic(), ("EVALSHA WAIT".to_owned(), 1), "{row}: the swap");
        number += 2;
    }

    // A claim of an entry that is gone has a `WAIT` once.
    let other = connect(&master, 1, PATIENCE / 2).await;
    assert_eq!(remove(&other, &key, 3).await.unwrap(), Swap::Swapped);
    traffic();
    for expected in ["EVALSHA WAIT EVALSHA WAIT", "GET EVALSHA WAIT"] {
        let claim = store.claim(&key, &TAG, version(9), LEASE).await.unwrap();
        assert_eq!(claim, None);
        assert_eq!(traffic(), (expected.to_owned(), 2));
    }
}
