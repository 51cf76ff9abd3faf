//! Entries, sidecars and leases expire by the clock of the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tower_oauth_refresh::store::{
    Change, Claim, ClaimTag, Lease, MemoryStore, Sidecar, Store, Swap, Ttl,
};
use tower_oauth_refresh::{Clock, Timestamp};

use super::{HOUR, NAME, TAG, entry, key, put, version};

const START: u64 = 1_000_000_000_000;

/// A clock that a test sets, in milliseconds.
#[derive(Clone)]
struct TestClock(Arc<AtomicU64>);

impl TestClock {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(START)))
    }

    fn set(&self, after_start: Duration) {
        self.0.store(
            START + u64::try_from(after_start.as_millis()).unwrap(),
            Ordering::SeqCst,
        );
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

async fn claim(store: &MemoryStore, number: u64, lease: Duration) -> Option<Lease> {
    let claim = store
        .claim(&key(1), &TAG, version(number), lease)
        .await
        .unwrap();
    claim.map(|Claim { lease, .. }| lease)
}

#[tokio::test]
async fn entries_and_sidecars_expire_by_the_clock_of_the_store() {
    let clock = TestClock::new();
    let store = MemoryStore::with_clock(clock.clone());
    let change = Change::Put {
        entry: entry(1),
        ttl: Ttl::After(HOUR),
    };
    let also = Sidecar::new(NAME, Bytes::from_static(b"sidecar"), HOUR / 2);
    assert_eq!(
        store.swap(&key(1), None, change, &[also]).await.unwrap(),
        Swap::Swapped
    );

    let millisecond = Duration::from_millis(1);
    for (after, there, sidecar) in [
        (Duration::ZERO, true, true),
        (HOUR / 2 - millisecond, true, true),
        (HOUR / 2, true, false),
        (HOUR - millisecond, true, false),
        (HOUR, false, false),
        (HOUR * 1000, false, false),
    ] {
        clock.set(after);
        assert_eq!(
            store.get(&key(1)).await.unwrap().is_some(),
            there,
            "the entry after {after:?}"
        );
        assert_eq!(
            store.sidecar(&key(1), &NAME).await.unwrap().is_some(),
            sidecar,
            "the value after {after:?}"
        );
    }
    assert_eq!(store.now(), clock.now());
    assert_eq!(
        put(&store, &key(1), Some(1), 2, Ttl::Keep).await,
        Swap::Conflict(None)
    );
    assert_eq!(
        put(&store, &key(1), None, 2, Ttl::After(HOUR)).await,
        Swap::Swapped
    );
    assert_eq!(store.sidecar(&key(1), &NAME).await.unwrap(), None);
}

#[tokio::test]
async fn ttl_keep_and_after_use_the_clock_of_the_store() {
    let clock = TestClock::new();
    let store = MemoryStore::with_clock(clock.clone());
    assert_eq!(
        put(&store, &key(1), None, 1, Ttl::After(HOUR)).await,
        Swap::Swapped
    );
    clock.set(HOUR / 2);
    assert_eq!(
        put(&store, &key(1), Some(1), 2, Ttl::Keep).await,
        Swap::Swapped
    );
    clock.set(HOUR);
    assert_eq!(store.get(&key(1)).await.unwrap(), None, "kept");

    assert_eq!(
        put(&store, &key(2), None, 1, Ttl::After(HOUR)).await,
        Swap::Swapped
    );
    clock.set(HOUR * 3 / 2);
    for (number, ttl) in [(2, HOUR), (3, HOUR * 20), (4, HOUR / 20), (5, HOUR)] {
        assert_eq!(
            put(&store, &key(2), Some(number - 1), number, Ttl::After(ttl)).await,
            Swap::Swapped,
            "{ttl:?}"
        );
    }
    clock.set(HOUR * 5 / 2 - Duration::from_millis(1));
    assert_eq!(
        store.get(&key(2)).await.unwrap(),
        Some(entry(5)),
        "an hour from the last swap"
    );
    clock.set(HOUR * 5 / 2);
    assert_eq!(
        store.get(&key(2)).await.unwrap(),
        None,
        "an hour from the last swap is over"
    );
}

#[tokio::test]
async fn leases_expire_by_the_clock_of_the_store() {
    let clock = TestClock::new();
    let store = MemoryStore::with_clock(clock.clone());
    let second = Duration::from_secs(1);
    assert_eq!(
        put(&store, &key(1), None, 1, Ttl::After(HOUR)).await,
        Swap::Swapped
    );
    assert_eq!(claim(&store, 2, second * 10).await, Some(Lease::Taken));
    clock.set(second * 3);
    assert_eq!(
        claim(&store, 3, second * 10).await,
        Some(Lease::Held(second * 7))
    );
    let other = store
        .claim(&key(1), &ClaimTag::new([9; 32]), version(3), second)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(other.lease, Lease::OtherTag(Some(second * 7)));
    clock.set(second * 10);
    assert_eq!(claim(&store, 3, second * 10).await, Some(Lease::Taken));
    clock.set(HOUR);
    assert_eq!(claim(&store, 4, second).await, None, "the entry has ended");
}

#[tokio::test]
async fn a_clock_set_back_only_extends_lifetimes() {
    let clock = TestClock::new();
    let store = MemoryStore::with_clock(clock.clone());
    clock.set(HOUR);
    assert_eq!(
        put(&store, &key(1), None, 1, Ttl::After(HOUR)).await,
        Swap::Swapped
    );
    assert_eq!(claim(&store, 2, HOUR).await, Some(Lease::Taken));
    clock.set(Duration::ZERO);
    assert_eq!(claim(&store, 3, HOUR).await, Some(Lease::Held(HOUR * 2)));
    assert_eq!(
        put(&store, &key(1), Some(2), 3, Ttl::After(HOUR)).await,
        Swap::Swapped
    );
    clock.set(HOUR);
    assert_eq!(store.get(&key(1)).await.unwrap(), None);
}

#[tokio::test]
async fn any_time_to_live_is_accepted() {
    for (row, start) in [
        ("now", START),
        ("the epoch", 0),
        ("the end of time", u64::MAX),
    ] {
        let clock = TestClock::new();
        clock.0.store(start, Ordering::SeqCst);
        let store = MemoryStore::with_clock(clock);
        for (number, ttl) in [Duration::ZERO, Duration::from_nanos(1), HOUR, Duration::MAX]
            .into_iter()
            .enumerate()
        {
            let number = u64::try_from(number).unwrap();
            let change = Change::Put {
                entry: entry(1),
                ttl: Ttl::After(ttl),
            };
            let also = Sidecar::new(NAME, Bytes::new(), ttl);
            assert_eq!(
                store
                    .swap(&key(number), None, change, &[also])
                    .await
                    .unwrap(),
                Swap::Swapped,
                "{row}, {ttl:?}"
            );
            let lives = ttl >= HOUR && start < u64::MAX;
            assert_eq!(
                store.get(&key(number)).await.unwrap().is_some(),
                lives,
                "{row}, {ttl:?}"
            );
            let claim = store
                .claim(&key(number), &TAG, version(2), ttl)
                .await
                .unwrap();
            assert_eq!(claim.is_some(), lives, "{row}, {ttl:?}");
            let swap = put(&store, &key(number), Some(2), 3, Ttl::After(ttl)).await;
            assert_eq!(swap == Swap::Swapped, lives, "{row}, {ttl:?}");
        }
    }
}

#[tokio::test]
async fn ttl_keep_does_not_create_an_entry() {
    let store = MemoryStore::new();
    assert_eq!(
        put(&store, &key(1), None, 1, Ttl::Keep).await,
        Swap::Conflict(None)
    );
    assert_eq!(store.get(&key(1)).await.unwrap(), None);
}
