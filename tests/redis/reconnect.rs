//! A `RedisStore` whose server goes down fails at once, affects no other call, and reconnects by
//! itself.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use redis::Value;
use test_support::entries::{LEASE, TAG, entry, every_call, put, random_key, remove, version};
use test_support::redis::{Fault, RedisServer, Wire};
use tokio::sync::Notify;
use tower_oauth_refresh::RedisStore;
use tower_oauth_refresh::store::{ClaimTag, Key, Lease, Store, StoreError, Swap};

/// The time limit for an event that is certain to occur.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longer than any test runs: a call that fails earlier has not waited for it.
const NEVER: Duration = Duration::from_secs(3600);

async fn connect(url: &str, command_timeout: Duration) -> RedisStore {
    RedisStore::builder(url)
        .command_timeout(command_timeout)
        .connect()
        .await
        .unwrap()
}

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"))
}

async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn is_back(store: &RedisStore, key: &Key) {
    eventually("it reconnects", async || store.get(key).await.ok()).await;
}

fn is_unavailable<T>(outcome: &Result<T, StoreError>) -> bool {
    matches!(outcome, Err(StoreError::Unavailable(_)))
}

/// Returns the number of connections apart from the one that asks.
async fn connections(server: &RedisServer) -> usize {
    let Value::BulkString(list) = server.command(&["CLIENT", "LIST", "TYPE", "normal"]).await
    else {
        panic!("no list")
    };
    list.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .count()
        - 1
}

async fn close_connections(server: &RedisServer) {
    server
        .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
        .await;
}

#[tokio::test]
async fn the_store_reconnects_to_a_restarted_server() {
    let server = RedisServer::builder()
        .config("appendonly", "yes")
        .config("appendfsync", "always")
        .start()
        .await;
    let store = connect(&server.url(), NEVER).await;
    let key = random_key();
    assert_eq!(put(&store, &key, None, 1).await.unwrap(), Swap::Swapped);
    for _ in 0..3 {
        server.kill();
        for (call, outcome) in in_time("calls fail at once", every_call(&store, &key)).await {
            assert!(is_unavailable(&outcome), "{call}: {outcome:?}");
        }
        server.restart().await;
        is_back(&store, &key).await;
        assert_eq!(store.get(&key).await.unwrap(), Some(entry(1)));
    }
}

/// Neither a server that closes idle connections nor one that restarts between two calls makes a
/// call fail.
#[tokio::test]
async fn a_closed_connection_fails_no_call() {
    let server = RedisServer::start().await;
    let store = connect(&server.url(), NEVER).await;
    let key = random_key();
    assert_eq!(put(&store, &key, None, 1).await.unwrap(), Swap::Swapped);
    for number in 2..6 {
        close_connections(&server).await;
        let claim = store
            .claim(&key, &TAG, version(number), LEASE)
            .await
            .unwrap()
            .unwrap();
        assert!(number > 2 || claim.lease == Lease::Taken, "{claim:?}");
    }
    server.kill();
    server.restart().await;
    assert_eq!(
        store.get(&key).await.unwrap(),
        None,
        "this server keeps nothing"
    );
}

/// However many calls lose a connection, a single one replaces it.
#[tokio::test]
async fn one_new_connection_serves_all_calls() {
    let server = RedisServer::start().await;
    let store = connect(&server.url(), NEVER).await;
    let key = random_key();
    for _ in 0..5 {
        close_connections(&server).await;
        let calls: Vec<_> = (0..64)
            .map(|_| {
                let (store, key) = (store.clone(), key);
                tokio::spawn(async move { store.get(&key).await })
            })
            .collect();
        for call in calls {
            call.await.unwrap().unwrap();
        }
        assert_eq!(connections(&server).await, 1);
    }
}

/// Neither calls in progress nor calls made before the new connection is open fail.
#[tokio::test]
async fn a_connection_closed_under_load_fails_no_call() {
    let server = RedisServer::start().await;
    let store = connect(&server.url(), NEVER).await;
    let key = random_key();
    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..16)
        .map(|_| {
            let (store, over) = (store.clone(), Arc::clone(&over));
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    store.get(&key).await.unwrap();
                }
            })
        })
        .collect();
    for _ in 0..10 {
        close_connections(&server).await;
        store.get(&key).await.unwrap();
    }
    over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
}

/// With a frozen server, each call takes its time-out only until the failure is detected. After
/// that, calls fail at once.
#[tokio::test]
async fn a_frozen_server_is_detected() {
    let server = RedisServer::start().await;
    let limit = Duration::from_secs(2);
    let store = connect(&server.url(), limit).await;
    let key = random_key();
    assert_eq!(put(&store, &key, None, 1).await.unwrap(), Swap::Swapped);
    server.freeze();
    let outcome = in_time("a call times out", store.get(&key)).await;
    assert!(is_unavailable(&outcome), "{outcome:?}");
    eventually("calls fail at once", async || {
        let started = Instant::now();
        for (call, outcome) in every_call(&store, &key).await {
            assert!(is_unavailable(&outcome), "{call}: {outcome:?}");
        }
        (started.elapsed() < limit).then_some(())
    })
    .await;
    server.thaw();
    is_back(&store, &key).await;
    assert!(store.get(&key).await.unwrap().is_some());
}

/// Only the slow call times out: another call in progress on the same connection gets its reply.
#[tokio::test]
async fn a_slow_call_times_out_alone() {
    let server = RedisServer::start().await;
    let wire = Wire::in_front_of(server.port()).await;
    let store = connect(&wire.url(), Duration::from_secs(8)).await;
    let key = random_key();
    assert_eq!(put(&store, &key, None, 1).await.unwrap(), Swap::Swapped);
    let held = Arc::new(Notify::new());
    wire.once("GET", Fault::Hold(Arc::clone(&held)));
    let slow = tokio::spawn({
        let store = store.clone();
        async move { store.get(&key).await }
    });
    tokio::time::sleep(Duration::from_secs(4)).await;
    let other = tokio::spawn({
        let store = store.clone();
        async move { store.claim(&key, &TAG, version(2), LEASE).await }
    });
    let slow = slow.await.unwrap();
    assert!(is_unavailable(&slow), "{slow:?}");
    held.notify_one();
    let claim = other.await.unwrap().unwrap().unwrap();
    assert_eq!(claim.lease, Lease::Taken);
    assert_eq!(store.get(&key).await.unwrap(), Some(claim.entry));
}

/// If a server stops responding while the connection stays open, the store opens another
/// connection.
#[tokio::test]
async fn a_dead_connection_is_replaced() {
    let server = RedisServer::start().await;
    let wire = Wire::in_front_of(server.port()).await;
    let store = connect(&wire.url(), Duration::from_secs(2)).await;
    let key = random_key();
    wire.once("GET", Fault::Hold(Arc::new(Notify::new())));
    let dead = store.get(&key).await;
    assert!(is_unavailable(&dead), "{dead:?}");
    is_back(&store, &key).await;
}

#[tokio::test]
async fn the_store_reconnects_after_a_network_failure() {
    let server = RedisServer::start().await;
    let wire = Wire::in_front_of(server.port()).await;
    let store = connect(&wire.url(), NEVER).await;
    let key = random_key();
    assert_eq!(put(&store, &key, None, 1).await.unwrap(), Swap::Swapped);
    wire.cut().await;
    for (call, outcome) in in_time("calls fail at once", every_call(&store, &key)).await {
        assert!(is_unavailable(&outcome), "{call}: {outcome:?}");
    }
    wire.mend().await;
    is_back(&store, &key).await;
    assert_eq!(store.get(&key).await.unwrap(), Some(entry(1)));
}

/// A server that has become a replica rejects writes as long as it is one.
#[tokio::test]
async fn a_server_that_became_a_replica_is_unavailable_until_it_is_master_again() {
    let (server, other) = (RedisServer::start().await, RedisServer::start().await);
    let store = connect(&server.url(), NEVER).await;
    let key = random_key();
    server
        .command(&["REPLICAOF", "127.0.0.1", &other.port().to_string()])
        .await;
    let outcome = in_time("it fails", put(&store, &key, None, 1)).await;
    assert!(is_unavailable(&outcome), "{outcome:?}");
    server.command(&["REPLICAOF", "NO", "ONE"]).await;
    let swap = eventually("it accepts writes again", async || {
        put(&store, &key, None, 1).await.ok()
    })
    .await;
    assert_eq!(swap, Swap::Swapped);
    assert_eq!(store.get(&key).await.unwrap(), Some(entry(1)));
}

/// A replica may lack data of its master, so it must not decide that a grant is gone.
#[tokio::test]
async fn a_replica_is_not_trusted_to_report_absence() {
    let (server, other) = (RedisServer::start().await, RedisServer::start().await);
    // One store for each row, so that no call is rejected because the server is already known to be
    // unusable.
    let mut stores = Vec::new();
    for _ in 0..7 {
        stores.push(connect(&server.url(), NEVER).await);
    }
    let [a, b, c, d, e, f, g] = &*stores else {
        panic!("there are seven")
    };
    let (there, gone) = (random_key(), random_key());
    server
        .command(&["REPLICAOF", "127.0.0.1", &other.port().to_string()])
        .await;
    eventually("it follows", async || {
        server
            .info("replication")
            .await
            .get("master_link_status")
            .is_some_and(|status| status == "up")
            .then_some(())
    })
    .await;
    assert_eq!(
        put(&connect(&other.url(), NEVER).await, &there, None, 1)
            .await
            .unwrap(),
        Swap::Swapped
    );
    eventually("it has the entry", async || {
        (!server.dump().await.is_empty()).then_some(())
    })
    .await;
    let other_tag = ClaimTag::new([9; 32]);
    for (row, outcome) in [
        (
            "a claim of nothing",
            a.claim(&gone, &TAG, version(2), LEASE).await.map(drop),
        ),
        (
            "a claim of another tag",
            b.claim(&there, &other_tag, version(2), LEASE)
                .await
                .map(drop),
        ),
        (
            "a swap of nothing",
            put(c, &gone, Some(1), 2).await.map(drop),
        ),
        (
            "a swap of another version",
            put(d, &there, Some(2), 3).await.map(drop),
        ),
        (
            "a swap that is there",
            put(e, &there, None, 1).await.map(drop),
        ),
        ("a removal of nothing", remove(f, &gone, 1).await.map(drop)),
        (
            "a removal of another version",
            remove(g, &there, 2).await.map(drop),
        ),
    ] {
        assert!(is_unavailable(&outcome), "{row}: {outcome:?}");
    }
}

/// A dropped store leaves no connection behind, whether its server is reachable or not.
#[tokio::test]
async fn a_dropped_store_closes_its_connections() {
    let server = RedisServer::start().await;
    let store = connect(&server.url(), NEVER).await;
    let clone = store.clone();
    drop(store);
    clone.get(&random_key()).await.unwrap();
    drop(clone);
    eventually("its connection is closed", async || {
        (connections(&server).await == 0).then_some(())
    })
    .await;

    let store = connect(&server.url(), NEVER).await;
    server.kill();
    assert!(is_unavailable(&store.get(&random_key()).await));
    drop(store);
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    eventually("its task ends", async || (tasks() == 0).then_some(())).await;
}
