//! Reads that confirm with the replicas.

use std::sync::Arc;
use std::time::{Duration, Instant};

use test_support::entries::{LEASE, TAG, entry, put, random_key, remove, version};
use test_support::redis::{Fault, RedisServer};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tower_oauth_refresh::RedisStore;
use tower_oauth_refresh::store::{Claim, ClaimTag, Lease, Store, Swap};

use super::{PATIENCE, connect, inserted, is_unavailable, waiting};

/// It must neither be replayed nor reject a request, because a failover would undo it.
#[tokio::test]
async fn a_read_that_a_failover_could_undo_is_unavailable() {
    let master = RedisServer::start().await;
    let replica = RedisServer::builder()
        .replica_of(master.port())
        .start()
        .await;
    let store = connect(&master, 1, Duration::from_millis(100)).await;
    let key = random_key();
    inserted(&store, &key).await;
    let old = ClaimTag::new([9; 32]);
    replica.freeze();
    let outcome = put(&store, &key, Some(1), 2).await;
    assert!(is_unavailable(&outcome), "{outcome:?}");
    for time in 1..=2 {
        let outcome = store.claim(&key, &old, version(3), LEASE).await;
        assert!(
            is_unavailable(&outcome),
            "a claim with another tag, time {time}: {outcome:?}"
        );
        let outcome = put(&store, &key, Some(1), 4).await;
        assert!(
            is_unavailable(&outcome),
            "a swap that meets a conflict, time {time}: {outcome:?}"
        );
        // Over another connection, which has written nothing itself.
        master
            .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
            .await;
    }
    replica.thaw();
    let end = Instant::now() + PATIENCE;
    let claim = loop {
        match store.claim(&key, &old, version(3), LEASE).await {
            Ok(claim) => break claim.unwrap(),
            Err(error) => assert!(Instant::now() < end, "it never succeeds: {error}"),
        }
    };
    assert_eq!(claim, Claim::new(Lease::OtherTag(None), entry(2)));
    assert_eq!(
        put(&store, &key, Some(1), 4).await.unwrap(),
        Swap::Conflict(Some(entry(2)))
    );
}

/// It would report a grant as absent that exists on the server that has replaced it.
#[tokio::test]
async fn a_master_without_replicas_does_not_report_absence() {
    let master = RedisServer::start().await;
    let replica = RedisServer::builder()
        .replica_of(master.port())
        .start()
        .await;
    let store = connect(&master, 1, Duration::from_millis(100)).await;
    replica.command(&["REPLICAOF", "NO", "ONE"]).await;
    let key = random_key();
    let outcome = store.get(&key).await;
    assert!(is_unavailable(&outcome), "{outcome:?}");
    let outcome = store.claim(&key, &TAG, version(2), LEASE).await;
    assert!(is_unavailable(&outcome), "{outcome:?}");
    let outcome = put(&store, &key, Some(1), 2).await;
    assert!(is_unavailable(&outcome), "{outcome:?}");
    let outcome = remove(&store, &key, 1).await;
    assert!(is_unavailable(&outcome), "{outcome:?}");
}

/// Until the connection to a replica counts as lost, the master considers it present.
#[tokio::test]
async fn a_master_unaware_of_lost_replicas_does_not_report_absence() {
    let master = RedisServer::start().await;
    let replica = RedisServer::builder()
        .replica_of(master.port())
        .start()
        .await;
    let store = connect(&master, 1, Duration::from_millis(100)).await;
    inserted(&store, &random_key()).await;
    let key = random_key();
    assert_eq!(store.get(&key).await.unwrap(), None);
    assert_eq!(
        store.claim(&key, &TAG, version(2), LEASE).await.unwrap(),
        None
    );
    assert_eq!(
        put(&store, &key, Some(1), 2).await.unwrap(),
        Swap::Conflict(None)
    );
    replica.freeze();
    let outcome = store.get(&key).await;
    assert!(is_unavailable(&outcome), "{outcome:?}");
    let outcome = store.claim(&key, &TAG, version(2), LEASE).await;
    assert!(is_unavailable(&outcome), "{outcome:?}");
    let outcome = put(&store, &key, Some(1), 2).await;
    assert!(is_unavailable(&outcome), "{outcome:?}");
    assert_eq!(master.dump().await.len(), 1, "it is removed");
}

/// While writes wait for a replica that hangs, reads work, and each write gets an error within the
/// time limit. Afterwards no write waits behind one that has failed.
#[tokio::test]
async fn a_frozen_replica_delays_no_read_and_leaves_no_backlog() {
    const WRITES: usize = 64;
    let master = RedisServer::start().await;
    let replica = RedisServer::builder()
        .replica_of(master.port())
        .start()
        .await;
    let builder = RedisStore::builder(&master.url()).command_timeout(Duration::from_secs(4));
    // A backlog would take more than a minute.
    let store = builder
        .wait_for_replicas(1, Duration::from_secs(2))
        .connect()
        .await
        .unwrap();
    let key = random_key();
    inserted(&store, &key).await;
    replica.freeze();
    let mut writes = JoinSet::new();
    for _ in 0..WRITES {
        let store = store.clone();
        writes.spawn(async move { put(&store, &random_key(), None, 1).await });
    }
    tokio::task::yield_now().await;
    assert_eq!(store.get(&key).await.unwrap(), Some(entry(1)));
    assert!(writes.try_join_next().is_none(), "the writes still wait");
    for outcome in writes.join_all().await {
        assert!(is_unavailable(&outcome), "{outcome:?}");
    }
    replica.thaw();
    inserted(&store, &random_key()).await;
}

/// Anyone can send unknown tokens. Their confirmation with the replicas, which never completes
/// here, must not delay other requests.
#[tokio::test]
async fn lookups_of_absent_keys_do_not_delay_others() {
    let (master, _replica, wire, store) = waiting().await;
    let key = random_key();
    inserted(&store, &key).await;
    let known = key_in(&master).await;

    let (asked, goes_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    wire.hook({
        let (asked, goes_on) = (Arc::clone(&asked), Arc::clone(&goes_on));
        move |words| {
            if !words[0].starts_with(b"EVAL") || words[3] == known {
                return Fault::Pass;
            }
            asked.notify_one();
            Fault::Hold(Arc::clone(&goes_on))
        }
    });
    let probes: Vec<_> = (0..64_u64)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                match number % 2 {
                    0 => store.get(&random_key()).await.map(|found| found.is_none()),
                    _ => store
                        .claim(&random_key(), &TAG, version(2), LEASE)
                        .await
                        .map(|found| found.is_none()),
                }
            })
        })
        .collect();
    asked.notified().await;
    assert_eq!(store.get(&key).await.unwrap(), Some(entry(1)));
    let claim = store
        .claim(&key, &TAG, version(2), LEASE)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(claim.lease, Lease::Taken);
    assert_eq!(put(&store, &key, Some(2), 3).await.unwrap(), Swap::Swapped);
    assert!(
        probes.iter().all(|probe| !probe.is_finished()),
        "they are still being confirmed"
    );
    wire.unhook();
    goes_on.notify_one();
    for probe in probes {
        assert!(probe.await.unwrap().unwrap(), "there is nothing");
    }
}

/// Returns the name of the only key.
async fn key_in(server: &RedisServer) -> Vec<u8> {
    let [(name, _)] = &*server.dump().await else {
        panic!("there is one")
    };
    name.clone()
}

/// One server lacks a key that the next one has, as around a failover: the entry is found, and not
/// claimed.
#[tokio::test]
async fn a_key_that_has_appeared_is_not_reported_absent() {
    let (master, _replica, wire, store) = waiting().await;
    let other = connect(&master, 1, PATIENCE / 2).await;
    for claims in [false, true] {
        let key = random_key();
        let (asked, goes_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        wire.hook({
            let (asked, goes_on) = (Arc::clone(&asked), Arc::clone(&goes_on));
            move |words| {
                if !words[0].starts_with(b"EVAL") {
                    return Fault::Pass;
                }
                asked.notify_one();
                Fault::Hold(Arc::clone(&goes_on))
            }
        });
        let asking = tokio::spawn({
            let store = store.clone();
            async move {
                match claims {
                    false => store.get(&key).await,
                    true => store
                        .claim(&key, &TAG, version(2), LEASE)
                        .await
                        .map(|claim| claim.map(|claim| claim.entry)),
                }
            }
        });
        asked.notified().await;
        inserted(&other, &key).await;
        wire.unhook();
        goes_on.notify_one();
        let outcome = asking.await.unwrap();
        match claims {
            false => assert_eq!(outcome.unwrap(), Some(entry(1))),
            true => assert!(is_unavailable(&outcome), "{outcome:?}"),
        }
        assert_eq!(
            other.get(&key).await.unwrap(),
            Some(entry(1)),
            "it is not claimed"
        );
    }
}
