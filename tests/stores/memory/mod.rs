//! `MemoryStore` keeps the contract of `Store` and its own further promises.

mod expiry;

use std::time::Duration;

use bytes::Bytes;
use tower_oauth_refresh::store::{
    Change, ClaimTag, Entry, Key, MemoryStore, Sidecar, SidecarName, Store, Swap, Ttl, Version,
};

tower_oauth_refresh::store_conformance!({
    let store = MemoryStore::new();
    async move || store.clone()
});

const HOUR: Duration = Duration::from_secs(3600);
const TAG: ClaimTag = ClaimTag::new([1; 32]);
const NAME: SidecarName = SidecarName::new([2; 16]);

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
        Bytes::from_static(b"a value of the layer"),
    )
}

async fn put(store: &MemoryStore, key: &Key, expected: Option<u64>, number: u64, ttl: Ttl) -> Swap {
    let change = Change::Put {
        entry: entry(number),
        ttl,
    };
    store
        .swap(key, expected.map(version), change, &[])
        .await
        .unwrap()
}

#[tokio::test]
async fn removing_an_entry_removes_its_sidecars() {
    let store = MemoryStore::new();
    let change = Change::Put {
        entry: entry(1),
        ttl: Ttl::After(HOUR),
    };
    let also = Sidecar::new(NAME, Bytes::from_static(b"sidecar"), HOUR);
    assert_eq!(
        store.swap(&key(1), None, change, &[also]).await.unwrap(),
        Swap::Swapped
    );
    assert_eq!(
        store
            .swap(&key(1), Some(version(1)), Change::Remove, &[])
            .await
            .unwrap(),
        Swap::Swapped
    );
    assert_eq!(store.sidecar(&key(1), &NAME).await.unwrap(), None);
    assert_eq!(
        put(&store, &key(1), None, 2, Ttl::After(HOUR)).await,
        Swap::Swapped
    );
    assert_eq!(store.sidecar(&key(1), &NAME).await.unwrap(), None);
}

#[tokio::test]
async fn more_than_128_sidecars_replace_the_oldest() {
    let store = MemoryStore::new();
    for number in 0..33_u8 {
        let expected = number.checked_sub(1).map(u64::from);
        let change = Change::Put {
            entry: entry(number.into()),
            ttl: Ttl::After(HOUR),
        };
        let sidecars = [0, 1, 2, 3].map(|name| {
            let name = SidecarName::new([4 * number + name; 16]);
            Sidecar::new(name, Bytes::new(), HOUR)
        });
        let swap = store
            .swap(&key(1), expected.map(version), change, &sidecars)
            .await;
        assert_eq!(swap.unwrap(), Swap::Swapped);
    }
    for name in 0..132 {
        let found = store.sidecar(&key(1), &SidecarName::new([name; 16])).await;
        assert_eq!(found.unwrap().is_some(), name >= 4, "sidecar {name}");
    }
}

#[tokio::test]
async fn only_clones_share_their_entries() {
    let store = MemoryStore::default();
    let (clone, other) = (store.clone(), MemoryStore::default());
    assert_eq!(
        put(&store, &key(1), None, 1, Ttl::After(HOUR)).await,
        Swap::Swapped
    );
    assert_eq!(clone.get(&key(1)).await.unwrap(), Some(entry(1)));
    assert_eq!(other.get(&key(1)).await.unwrap(), None);
    assert_eq!((clone.entry_count(), other.entry_count()), (1, 0));
}

#[tokio::test]
async fn no_entry_is_evicted_to_make_room() {
    const ENTRIES: u64 = 100_000;
    let store = MemoryStore::new();
    for number in 0..ENTRIES {
        assert_eq!(
            put(&store, &key(number), None, number, Ttl::After(HOUR)).await,
            Swap::Swapped
        );
    }
    assert_eq!(store.entry_count(), ENTRIES);
    for number in 0..ENTRIES {
        assert_eq!(
            store.get(&key(number)).await.unwrap(),
            Some(entry(number)),
            "entry {number}"
        );
    }
}

#[tokio::test]
async fn the_count_follows_inserts_removals_and_expiry() {
    let store = MemoryStore::new();
    for number in 0..10 {
        assert_eq!(
            put(&store, &key(number), None, 1, Ttl::After(HOUR)).await,
            Swap::Swapped
        );
        assert_eq!(
            put(&store, &key(number), Some(1), 2, Ttl::After(HOUR * 9)).await,
            Swap::Swapped
        );
    }
    assert_eq!(store.entry_count(), 10);
    for number in 0..4 {
        let swap = store
            .swap(&key(number), Some(version(2)), Change::Remove, &[])
            .await
            .unwrap();
        assert_eq!(swap, Swap::Swapped);
    }
    assert_eq!(store.entry_count(), 6);

    // Their slots are reserved for more than an hour, until their time to live is shortened.
    for number in 4..10 {
        let soon = Ttl::After(Duration::from_millis(50));
        assert_eq!(
            put(&store, &key(number), Some(2), 3, soon).await,
            Swap::Swapped
        );
    }
    let started = std::time::Instant::now();
    while store.entry_count() > 0 {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "the space of expired entries is never reclaimed"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn claims_free_the_memory_of_expired_entries() {
    let store = MemoryStore::new();
    for number in 0..200 {
        let soon = Ttl::After(Duration::from_millis(500));
        assert_eq!(
            put(&store, &key(number), None, 1, soon).await,
            Swap::Swapped
        );
    }
    let started = std::time::Instant::now();
    // Unlike `entry_count`, `Debug` frees nothing.
    while format!("{store:?}") != "MemoryStore { entries: 0, .. }" {
        assert!(started.elapsed() < Duration::from_secs(30), "{store:?}");
        let absent = store.claim(&key(200), &TAG, version(2), HOUR).await;
        assert_eq!(absent.unwrap(), None);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn debug_shows_no_value() {
    let store = MemoryStore::new();
    let secret = Entry::new(version(1), TAG, Bytes::from_static(b"sealed"));
    let change = Change::Put {
        entry: secret,
        ttl: Ttl::After(HOUR),
    };
    assert_eq!(
        store
            .swap(&key(0x4141_4141), None, change, &[])
            .await
            .unwrap(),
        Swap::Swapped
    );
    assert_eq!(store.entry_count(), 1);
    assert_eq!(format!("{store:?}"), "MemoryStore { entries: 1, .. }");
}
