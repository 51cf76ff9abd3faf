//! The scripts, and repeated calls.

use std::time::{Duration, Instant};

use bytes::Bytes;
use test_support::entries::{
    HOUR, LEASE, NAME, TAG, entry, every_call, insert, put, put_with, random_key, remove, version,
};
use test_support::redis::{Fault, RedisServer, Wire};
use tower_oauth_refresh::store::{Lease, Store, Swap, Ttl};

use super::{PATIENT, connect};

/// A claim that replaces an expired lease reports that again when it is repeated.
#[tokio::test]
async fn a_repeated_claim_still_reports_the_takeover() {
    let server = RedisServer::start().await;
    let store = connect(&server.url()).await;
    for lease in [1, 2, 3, 4].map(Duration::from_millis) {
        let key = random_key();
        assert_eq!(put(&store, &key, None, 1).await.unwrap(), Swap::Swapped);
        for _ in 0..2 {
            let claim = store
                .claim(&key, &TAG, version(2), lease)
                .await
                .unwrap()
                .unwrap();
            assert_eq!(
                (claim.lease, claim.taken_over),
                (Lease::Taken, false),
                "it was free: {lease:?}"
            );
        }
        let end = Instant::now() + PATIENT;
        let claim = loop {
            let claim = store
                .claim(&key, &TAG, version(3), LEASE + lease)
                .await
                .unwrap()
                .unwrap();
            if claim.lease == Lease::Taken {
                break claim;
            }
            assert!(Instant::now() < end, "the lease does not expire: {claim:?}");
        };
        assert!(claim.taken_over, "{lease:?}");
        assert_eq!(
            store.claim(&key, &TAG, version(3), LEASE).await.unwrap(),
            Some(claim),
            "{lease:?}"
        );
    }
}

/// Every call whose request arrives twice or whose reply is lost has the effect of one call.
#[tokio::test]
async fn a_repeated_call_has_no_further_effect() {
    let server = RedisServer::start().await;
    let wire = Wire::in_front_of(server.port()).await;
    let store = connect(&wire.url()).await;
    for fault in [Fault::Repeat, Fault::LoseAnswer, Fault::Drop] {
        let key = random_key();
        let inject = || wire.once("EVALSHA", fault.clone());
        inject();
        assert_eq!(
            put_with(&store, &key, None, 1, HOUR, Some("sidecar"))
                .await
                .unwrap(),
            Swap::Swapped,
            "{fault:?}"
        );
        inject();
        let claim = store
            .claim(&key, &TAG, version(2), LEASE)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(claim.lease, Lease::Taken, "{fault:?}");
        assert_eq!(
            store.get(&key).await.unwrap(),
            Some(claim.entry),
            "{fault:?}"
        );
        inject();
        assert_eq!(
            put_with(&store, &key, Some(2), 3, Ttl::Keep, None)
                .await
                .unwrap(),
            Swap::Swapped,
            "{fault:?}"
        );
        assert_eq!(store.get(&key).await.unwrap(), Some(entry(3)), "{fault:?}");
        wire.once("GET", fault.clone());
        assert_eq!(
            store.sidecar(&key, &NAME).await.unwrap(),
            Some(Bytes::from_static(b"sidecar")),
            "{fault:?}"
        );
        inject();
        assert_eq!(
            remove(&store, &key, 3).await.unwrap(),
            Swap::Swapped,
            "{fault:?}"
        );
        assert_eq!(store.get(&key).await.unwrap(), None, "{fault:?}");
    }
}

/// A claim, a swap with a sidecar, a read: each is one command in one round trip.
#[tokio::test]
async fn every_call_is_one_round_trip() {
    let server = RedisServer::start().await;
    let wire = Wire::in_front_of(server.port()).await;
    let store = connect(&wire.url()).await;
    let key = random_key();
    wire.commands();
    wire.round_trips();
    insert(&store, &key).await;
    assert_eq!(
        (wire.round_trips(), wire.commands().len()),
        (1, 1),
        "an insert"
    );
    for (call, outcome) in every_call(&store, &key).await {
        outcome.unwrap_or_else(|error| panic!("{call}: {error:?}"));
    }
    assert_eq!(
        (wire.round_trips(), wire.commands().len()),
        (5, 5),
        "every call"
    );
}

/// Scripts are loaded again into a server that has lost them, for any call.
#[tokio::test]
async fn flushed_scripts_fail_no_call() {
    let server = RedisServer::start().await;
    let store = connect(&server.url()).await;
    let key = random_key();
    server.command(&["SCRIPT", "FLUSH"]).await;
    assert_eq!(put(&store, &key, None, 1).await.unwrap(), Swap::Swapped);
    server.command(&["SCRIPT", "FLUSH"]).await;
    assert_eq!(
        store
            .claim(&key, &TAG, version(2), LEASE)
            .await
            .unwrap()
            .unwrap()
            .lease,
        Lease::Taken
    );
}
