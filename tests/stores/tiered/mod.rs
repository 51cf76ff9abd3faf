//! `TieredStore` keeps the contract of `Store` and its own further promises.

mod memory;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use test_support::{Call, Hooked, Plan};
use tower_oauth_refresh::store::{
    CacheStats, Change, ClaimTag, Entry, Hint, Key, MemoryStore, Sidecar, SidecarName, Store,
    StoreError, Swap, TieredStore, Ttl, Version,
};

// Every handle is a separate instance with its own cache.
tower_oauth_refresh::store_conformance!({
    let store = MemoryStore::new();
    async move || TieredStore::new(store.clone())
});

type Tier = TieredStore<Hooked<MemoryStore>>;

const HOUR: Duration = Duration::from_secs(3600);
const TAG: ClaimTag = ClaimTag::new([1; 32]);
const OTHER: ClaimTag = ClaimTag::new([2; 32]);
const KEY: Key = Key::new([7; 32]);

fn key(number: u64) -> Key {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Key::new(bytes)
}

fn version(number: u64) -> Version {
    Version::new(number.to_be_bytes())
}

fn entry(number: u64) -> Entry {
    Entry::new(
        version(number),
        TAG,
        Bytes::copy_from_slice(&number.to_be_bytes()),
    )
}

fn value(number: u64) -> Option<Hint> {
    Some(Hint::Value {
        tag: TAG,
        value: entry(number).value,
    })
}

/// Returns a tier whose entries do not expire during a test.
fn over<S>(store: S) -> TieredStore<S> {
    TieredStore::builder(store).ttl(HOUR * 24).build()
}

fn tier() -> Tier {
    over(Hooked::new(MemoryStore::new()))
}

async fn put<S: Store>(store: &S, expected: Option<u64>, number: u64) -> Swap {
    let change = Change::Put {
        entry: entry(number),
        ttl: Ttl::After(HOUR),
    };
    store
        .swap(&KEY, expected.map(version), change, &[])
        .await
        .unwrap()
}

async fn remove<S: Store>(store: &S, expected: u64) -> Swap {
    store
        .swap(&KEY, Some(version(expected)), Change::Remove, &[])
        .await
        .unwrap()
}

async fn claim<S: Store>(store: &S, tag: ClaimTag) {
    store.claim(&KEY, &tag, version(1000), HOUR).await.unwrap();
}

#[tokio::test]
async fn the_cache_learns_from_every_reply() {
    let tier = tier();
    let store = tier.get_ref().clone();
    assert_eq!(tier.peek(&KEY), None, "no call was made yet");
    assert_eq!(put(&tier, None, 1).await, Swap::Swapped);
    assert_eq!(tier.peek(&KEY), value(1), "an insert");

    assert_eq!(put(&store, Some(1), 2).await, Swap::Swapped);
    assert_eq!(
        tier.peek(&KEY),
        value(1),
        "calls that bypass the tier are not seen"
    );
    tier.get(&KEY).await.unwrap();
    assert_eq!(tier.peek(&KEY), value(2), "a read");
    assert_eq!(put(&store, Some(2), 3).await, Swap::Swapped);
    assert!(matches!(
        put(&tier, Some(2), 4).await,
        Swap::Conflict(Some(_))
    ));
    assert_eq!(tier.peek(&KEY), value(3), "a conflict");
    assert_eq!(put(&store, Some(3), 4).await, Swap::Swapped);
    assert!(matches!(remove(&tier, 3).await, Swap::Conflict(Some(_))));
    assert_eq!(tier.peek(&KEY), value(4), "a removal of another version");
    assert_eq!(put(&store, Some(4), 5).await, Swap::Swapped);
    claim(&tier, OTHER).await;
    assert_eq!(tier.peek(&KEY), value(5), "a claim of another tag");
    assert_eq!(put(&store, Some(5), 6).await, Swap::Swapped);
    claim(&tier, TAG).await;
    assert_eq!(
        tier.peek(&KEY),
        value(5),
        "a claim that a rotation makes writes nothing again"
    );
    assert_eq!(remove(&tier, 1000).await, Swap::Swapped);
    assert_eq!(tier.peek(&KEY), Some(Hint::Gone), "a removal");

    type Look = fn(&Tier) -> Pin<Box<dyn Future<Output = ()> + '_>>;
    let looks: [(&str, Look); 4] = [
        ("a read", |tier| {
            Box::pin(async { assert_eq!(tier.get(&KEY).await.unwrap(), None) })
        }),
        ("a claim", |tier| Box::pin(claim(tier, TAG))),
        ("a conflict", |tier| {
            Box::pin(async { assert_eq!(put(tier, Some(9), 10).await, Swap::Conflict(None)) })
        }),
        ("a removal", |tier| {
            Box::pin(async { assert_eq!(remove(tier, 9).await, Swap::Swapped) })
        }),
    ];
    for (name, look) in looks {
        let tier = over(store.clone());
        look(&tier).await;
        assert_eq!(tier.peek(&KEY), Some(Hint::Gone), "{name} of an absent key");
    }
}

#[tokio::test]
async fn sidecars_are_not_cached() {
    let tier = tier();
    assert_eq!(
        tier.sidecar(&KEY, &SidecarName::new([3; 16]))
            .await
            .unwrap(),
        None
    );
    assert_eq!(tier.peek(&KEY), None);
    let change = Change::Put {
        entry: entry(1),
        ttl: Ttl::After(HOUR),
    };
    let also = Sidecar::new(
        SidecarName::new([3; 16]),
        Bytes::from_static(b"sidecar"),
        HOUR,
    );
    assert_eq!(
        tier.swap(&KEY, None, change, &[also]).await.unwrap(),
        Swap::Swapped
    );
    assert_eq!(
        tier.sidecar(&KEY, &SidecarName::new([3; 16]))
            .await
            .unwrap()
            .as_deref(),
        Some(&b"sidecar"[..])
    );
}

#[tokio::test]
async fn failed_calls_do_not_change_the_cache() {
    for (name, plan) in [
        ("lost", (|| Plan::Lose) as fn() -> Plan),
        ("with its reply lost", || Plan::LoseAnswer),
        ("corrupt", || Plan::Corrupt),
    ] {
        let tier = tier();
        tier.get_ref().hook(move |_, _| plan());
        assert!(tier.get(&KEY).await.is_err(), "{name}");
        assert!(
            tier.claim(&KEY, &TAG, version(1), HOUR).await.is_err(),
            "{name}"
        );
        assert!(
            tier.swap(&KEY, Some(version(1)), Change::Remove, &[])
                .await
                .is_err(),
            "{name}"
        );
        assert_eq!(tier.peek(&KEY), None, "{name}");
    }
}

#[tokio::test]
async fn a_put_clears_a_cached_end_even_without_a_reply() {
    for (name, plan) in [("answered", Plan::Pass), ("not answered", Plan::LoseAnswer)] {
        let tier = tier();
        assert_eq!(tier.get(&KEY).await.unwrap(), None);
        assert_eq!(tier.peek(&KEY), Some(Hint::Gone));
        tier.get_ref().once(Call::is_swap, plan);
        let change = Change::Put {
            entry: entry(1),
            ttl: Ttl::After(HOUR),
        };
        let _ = tier.swap(&KEY, None, change, &[]).await;
        assert_ne!(tier.peek(&KEY), Some(Hint::Gone), "{name}");
        assert!(
            tier.get(&KEY).await.unwrap().is_some(),
            "{name}: it is stored"
        );
    }
}

#[tokio::test]
async fn a_delayed_read_does_not_hide_a_later_insert() {
    let tier = tier();
    tier.get_ref().hook(|_, call| {
        if matches!(call, Call::Get) {
            Plan::Slow
        } else {
            Plan::Pass
        }
    });
    let mut cx = Context::from_waker(Waker::noop());
    let mut slow = [Box::pin(tier.get(&KEY)), Box::pin(tier.get(&KEY))];
    for read in &mut slow {
        assert!(
            read.as_mut().poll(&mut cx).is_pending(),
            "before it takes effect"
        );
        assert!(
            read.as_mut().poll(&mut cx).is_pending(),
            "nothing was found, and the reply is on its way"
        );
    }
    assert_eq!(put(&tier, None, 1).await, Swap::Swapped);
    for read in &mut slow {
        assert!(matches!(read.as_mut().poll(&mut cx), Poll::Ready(Ok(None))));
        assert_eq!(tier.peek(&KEY), value(1));
    }
}

#[tokio::test]
async fn hints_of_the_wrapped_store_are_returned() {
    let first = over(MemoryStore::new());
    assert_eq!(put(&first, None, 1).await, Swap::Swapped);
    let second = TieredStore::builder(first.clone()).max_bytes(0).build();
    let third = over(second);
    assert_eq!(third.peek(&KEY), value(1));
    assert_eq!(third.peek(&key(8)), None);
}

#[tokio::test]
async fn zero_bytes_or_zero_time_disable_the_cache() {
    for (name, tier) in [
        (
            "bytes",
            TieredStore::builder(MemoryStore::new())
                .max_bytes(0)
                .build(),
        ),
        (
            "time",
            TieredStore::builder(MemoryStore::new())
                .ttl(Duration::ZERO)
                .build(),
        ),
    ] {
        assert_eq!(put(&tier, None, 1).await, Swap::Swapped, "{name}");
        assert_eq!(tier.get(&KEY).await.unwrap(), Some(entry(1)), "{name}");
        claim(&tier, TAG).await;
        assert_eq!(tier.peek(&KEY), None, "{name}");
        assert_eq!(remove(&tier, 1000).await, Swap::Swapped, "{name}");
        assert_eq!(tier.peek(&KEY), None, "{name}");
        assert_eq!(tier.cache_stats(), CacheStats::default(), "{name}");
    }
    let tier = TieredStore::builder(MemoryStore::new())
        .max_bytes(u64::MAX)
        .ttl(Duration::MAX)
        .build();
    assert_eq!(put(&tier, None, 1).await, Swap::Swapped);
    assert_eq!(tier.peek(&KEY), value(1), "all of both");
}

#[tokio::test]
async fn cached_entries_expire() {
    let tier = TieredStore::builder(MemoryStore::new())
        .ttl(Duration::from_millis(100))
        .build();
    assert_eq!(put(&tier, None, 1).await, Swap::Swapped);
    assert_eq!(tier.get(&key(8)).await.unwrap(), None);
    let started = Instant::now();
    while tier.peek(&KEY).is_some() || tier.peek(&key(8)).is_some() || tier.cache_stats().bytes > 0
    {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "never forgotten"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(
        tier.get(&KEY).await.unwrap(),
        Some(entry(1)),
        "the store has not forgotten"
    );
    assert_eq!(tier.peek(&KEY), value(1));
}

#[tokio::test]
async fn hits_and_misses_are_counted_and_clones_share_them() {
    let tier = over(MemoryStore::new());
    let clone = tier.clone();
    let (_, _) = (tier.peek(&KEY), clone.peek(&KEY));
    assert_eq!(put(&tier, None, 1).await, Swap::Swapped);
    assert_eq!(clone.get(&key(8)).await.unwrap(), None);
    let (_, _, _) = (tier.peek(&KEY), clone.peek(&KEY), clone.peek(&key(8)));
    let stats = tier.cache_stats();
    assert_eq!((stats.hits, stats.misses, stats.entries), (3, 2, 2));
    assert_eq!(stats, clone.cache_stats());
    let other = over(tier.into_inner());
    assert_eq!(
        other.cache_stats(),
        CacheStats::default(),
        "a separate tier"
    );
    assert_eq!(other.get_ref().get(&KEY).await.unwrap(), Some(entry(1)));
}

#[tokio::test]
async fn debug_shows_no_value() {
    let tier = over(MemoryStore::new());
    let secret = Entry::new(version(1), TAG, Bytes::from_static(b"sealed"));
    let change = Change::Put {
        entry: secret,
        ttl: Ttl::After(HOUR),
    };
    assert_eq!(
        tier.swap(&KEY, None, change, &[]).await.unwrap(),
        Swap::Swapped
    );
    let shown = format!("{tier:?}");
    assert!(
        shown.starts_with("TieredStore { inner: MemoryStore {")
            && shown.ends_with("cached: true, .. }"),
        "{shown}"
    );
    assert!(!shown.contains("sealed"), "{shown}");
}
