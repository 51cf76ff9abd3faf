//! `RedbStore` keeps the contract of `Store` and its own further promises.

mod removal;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::Database;
use test_support::ManualClock;
use test_support::session::{infallible, log_in, refresh};
use tokio::task::JoinSet;
use tower::Layer as _;
use tower_oauth_refresh::store::{Change, Claim, Lease, Store, Swap, Ttl};
use tower_oauth_refresh::{Clock as _, RedbStore, RefreshLayer, Timestamp};

use crate::redb_support::{
    ENDS, HOUR, TAG, TestFile, entry, has_sidecar, key, put, put_with, sidecar, version,
};

tower_oauth_refresh::store_conformance!({
    let file = TestFile::new();
    let store = file.open();
    // The directory is removed with the last handle of the test.
    let kept = Arc::new((store, file));
    async move || Arc::clone(&kept).0.clone()
});

/// The time for which an entry stays in the file after its expiry.
const GRACE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The time limit for an event that is certain to occur.
const PATIENCE: Duration = Duration::from_secs(60);

async fn claim(store: &RedbStore, number: u64, lease: Duration) -> Option<Lease> {
    let claim = store
        .claim(&key(1), &TAG, version(number), lease)
        .await
        .unwrap();
    claim.map(|Claim { lease, .. }| lease)
}

#[tokio::test]
async fn acknowledged_writes_survive_close_and_open() {
    let file = TestFile::new();
    let store = file.open();
    for number in 0..100 {
        let sidecars = [sidecar(7, HOUR)];
        assert_eq!(
            put_with(&store, &key(number), None, 1, Ttl::After(HOUR), &sidecars).await,
            Swap::Swapped
        );
    }
    for number in 0..50 {
        assert_eq!(
            put(&store, &key(number), Some(1), 2, Ttl::Keep).await,
            Swap::Swapped
        );
    }
    for number in 50..60 {
        let removed = store
            .swap(&key(number), Some(version(1)), Change::Remove, &[])
            .await
            .unwrap();
        assert_eq!(removed, Swap::Swapped);
    }
    drop(store);
    let store = file.open();
    for number in 0..100 {
        let expected = match number {
            0..50 => Some(entry(2)),
            50..60 => None,
            _ => Some(entry(1)),
        };
        assert_eq!(
            store.get(&key(number)).await.unwrap(),
            expected,
            "entry {number}"
        );
        assert_eq!(
            has_sidecar(&store, &key(number), 7).await,
            expected.is_some(),
            "the sidecar of entry {number}"
        );
    }
    drop(store);
    assert_eq!(file.rows(), [90, 90, 180], "a removal leaves no rows");
}

#[tokio::test]
async fn a_lease_does_not_outlive_its_process() {
    let file = TestFile::new();
    let store = file.open();
    assert_eq!(
        put(&store, &key(1), None, 1, Ttl::After(HOUR)).await,
        Swap::Swapped
    );
    assert_eq!(claim(&store, 2, HOUR).await, Some(Lease::Taken));
    assert!(matches!(claim(&store, 3, HOUR).await, Some(Lease::Held(_))));
    drop(store);
    let store = file.open();
    assert_eq!(store.get(&key(1)).await.unwrap(), Some(entry(1)));
    assert_eq!(claim(&store, 3, HOUR).await, Some(Lease::Taken));
}

#[tokio::test]
async fn expiry_uses_the_clock_of_the_store() {
    let (file, clock) = (TestFile::new(), ManualClock::new());
    let store = RedbStore::builder(file.path())
        .clock(clock.clone())
        .open()
        .unwrap();
    let sidecars = [sidecar(2, HOUR / 2)];
    assert_eq!(
        put_with(&store, &key(1), None, 1, Ttl::After(HOUR), &sidecars).await,
        Swap::Swapped
    );
    assert_eq!(claim(&store, 2, HOUR / 4).await, Some(Lease::Taken));
    let millisecond = Duration::from_millis(1);
    clock.advance(HOUR / 4 - millisecond);
    assert_eq!(claim(&store, 3, HOUR).await, Some(Lease::Held(millisecond)));
    clock.advance(millisecond);
    assert_eq!(claim(&store, 3, HOUR).await, Some(Lease::Taken));

    clock.advance(HOUR / 4 - millisecond);
    assert!(has_sidecar(&store, &key(1), 2).await);
    clock.advance(millisecond);
    assert!(!has_sidecar(&store, &key(1), 2).await);
    assert_eq!(
        put(&store, &key(1), Some(3), 4, Ttl::Keep).await,
        Swap::Swapped
    );
    clock.advance(HOUR / 2 - millisecond);
    assert_eq!(store.get(&key(1)).await.unwrap(), Some(entry(4)));
    clock.advance(millisecond);
    assert_eq!(store.get(&key(1)).await.unwrap(), None);
    assert_eq!(claim(&store, 5, HOUR).await, None);
    assert_eq!(
        put(&store, &key(1), Some(4), 5, Ttl::Keep).await,
        Swap::Conflict(None)
    );
}

#[tokio::test]
async fn more_than_128_sidecars_replace_the_oldest() {
    let file = TestFile::new();
    let store = file.open();
    // Names in descending order, so that the order of the table differs from that of time.
    for number in 1..=32 {
        let expected = (number > 1).then(|| number - 1);
        let first = 200 - 4 * u8::try_from(number).unwrap();
        let sidecars = [3, 2, 1, 0].map(|name| sidecar(first + name, HOUR));
        let ttl = Ttl::After(HOUR);
        assert_eq!(
            put_with(&store, &key(1), expected, number, ttl, &sidecars).await,
            Swap::Swapped
        );
    }
    // The oldest sidecars are written again, and are the youngest from then on.
    let again = [196, 197, 198, 199].map(|name| sidecar(name, HOUR));
    assert_eq!(
        put_with(&store, &key(1), Some(32), 33, Ttl::Keep, &again).await,
        Swap::Swapped
    );
    let new = [1, 2, 3, 4].map(|name| sidecar(name, HOUR));
    assert_eq!(
        put_with(&store, &key(1), Some(33), 34, Ttl::Keep, &new).await,
        Swap::Swapped
    );
    for (names, there) in [
        (196..=199, true),
        (192..=195, false),
        (72..=191, true),
        (1..=4, true),
    ] {
        for name in names {
            assert_eq!(
                has_sidecar(&store, &key(1), name).await,
                there,
                "sidecar {name}"
            );
        }
    }
    drop(store);
    assert_eq!(file.rows(), [1, 128, 129]);
}

#[test]
fn pending_calls_complete_after_the_last_handle_is_dropped() {
    let file = TestFile::new();
    for round in 0..20 {
        let store = file.open();
        // The runtime is dropped while its tasks are in the middle of a call.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            for number in 0..20 {
                let store = store.clone();
                tokio::spawn(async move {
                    put(&store, &key(round * 20 + number), None, 1, Ttl::After(HOUR)).await
                });
            }
            tokio::task::yield_now().await;
        });
        drop(runtime);
        drop(store);
        assert_eq!(file.rows()[0], (round + 1) * 20);
    }
}

#[tokio::test]
async fn calls_beyond_the_queue_size_wait() {
    let file = TestFile::new();
    let store = RedbStore::builder(file.path())
        .timeout(HOUR)
        .open()
        .unwrap();
    assert_eq!(
        put(&store, &key(1), None, 1, Ttl::After(HOUR)).await,
        Swap::Swapped
    );
    let mut calls = JoinSet::new();
    for number in 0..5_000 {
        let store = store.clone();
        calls.spawn(async move {
            match number % 2 {
                0 => assert!(store.get(&key(1)).await.unwrap().is_some()),
                _ => assert!(
                    store
                        .claim(&key(1), &TAG, version(2), HOUR)
                        .await
                        .unwrap()
                        .is_some()
                ),
            }
        });
    }
    assert_eq!(calls.join_all().await.len(), 5_000);
}

#[tokio::test]
async fn debug_shows_no_value() {
    let file = TestFile::new();
    let store = file.open();
    assert_eq!(
        put(&store, &key(1), None, 1, Ttl::After(HOUR)).await,
        Swap::Swapped
    );
    assert_eq!(
        format!("{store:?}"),
        format!("RedbStore {{ path: {:?}, .. }}", file.path())
    );
    let builder = format!("{:?}", RedbStore::builder(file.path()));
    assert!(
        builder.starts_with("RedbStoreBuilder { path: "),
        "{builder}"
    );
}

#[tokio::test]
async fn a_session_survives_a_restart() {
    let (file, upstream) = (TestFile::new(), test_support::Upstream::new());
    let serve = || {
        let layer = RefreshLayer::builder(file.open()).build().unwrap();
        layer.layer(infallible(&upstream))
    };
    let first = {
        let service = serve();
        log_in(&service).await
    };
    let second = {
        let service = serve();
        refresh(&service, &first).await.token()
    };
    let service = serve();
    assert_eq!(
        refresh(&service, &first).await.token(),
        second,
        "the replay is stored as well"
    );
    let third = refresh(&service, &second).await.token();
    drop(service);
    assert_ne!(refresh(&serve(), &third).await.token(), third);
    assert_eq!(
        (upstream.refreshes(), upstream.reuses(), upstream.alive()),
        (3, 0, 1)
    );
}
