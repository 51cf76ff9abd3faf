//! `BoxStore` keeps the contract of `Store` over any store, and forwards everything that the store
//! implements itself.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use allocation_counter::measure;
use bytes::Bytes;
use test_support::{Call, Hooked, ManualClock, Plan};
use tower_oauth_refresh::store::{
    Announcement, BoxStore, Change, Claim, ClaimTag, Entry, Hint, Key, Lease, MemoryStore, Sidecar,
    SidecarName, Store, StoreError, Swap, TieredStore, Ttl, Version,
};
use tower_oauth_refresh::{AccessLayer, Clock as _, RefreshLayer, Timestamp};

tower_oauth_refresh::store_conformance!({
    let store = BoxStore::new(MemoryStore::new());
    async move || store.clone()
});

const HOUR: Duration = Duration::from_secs(3600);
const KEY: Key = Key::new([7; 32]);
const TAG: ClaimTag = ClaimTag::new([1; 32]);
const NAME: SidecarName = SidecarName::new([2; 16]);

fn version(number: u8) -> Version {
    Version::new([number; 8])
}

fn put(number: u8) -> Change {
    let entry = Entry::new(
        version(number),
        TAG,
        Bytes::from_static(b"a value of the layer"),
    );
    Change::Put {
        entry,
        ttl: Ttl::After(HOUR),
    }
}

fn a_sidecar() -> Sidecar {
    Sidecar::new(NAME, Bytes::from_static(b"sidecar"), HOUR)
}

#[tokio::test]
async fn every_call_is_forwarded_unchanged() {
    let clock = ManualClock::new();
    let hooked = Hooked::new(MemoryStore::with_clock(clock.clone()));
    let store = BoxStore::new(TieredStore::new(hooked.clone()));

    assert_eq!(store.peek(&KEY), None);
    assert_eq!(store.get(&KEY).await.unwrap(), None);
    assert_eq!(hooked.calls(), [Call::Get]);
    assert_eq!(store.peek(&KEY), Some(Hint::Gone), "from the cache");

    assert_eq!(
        store
            .swap(&KEY, None, put(1), &[a_sidecar()])
            .await
            .unwrap(),
        Swap::Swapped
    );
    assert_eq!(
        hooked.calls(),
        [Call::Swap {
            expected: None,
            change: put(1),
            sidecars: vec![a_sidecar()]
        }]
    );
    assert!(
        matches!(store.peek(&KEY), Some(Hint::Value { .. })),
        "learnt by the cache"
    );

    assert_eq!(
        store.sidecar(&KEY, &NAME).await.unwrap(),
        Some(a_sidecar().value)
    );
    assert_eq!(hooked.calls(), [Call::Sidecar]);

    let claim = store.claim(&KEY, &TAG, version(2), HOUR).await.unwrap();
    assert!(
        matches!(&claim, Some(Claim { lease: Lease::Taken, entry, .. }) if entry.version == version(2)),
        "{claim:?}"
    );
    assert_eq!(
        hooked.calls(),
        [Call::Claim],
        "the store's own claim, in one call"
    );
    assert_eq!(
        claim.and_then(|claim| claim.entry.lease),
        Some(clock.now().saturating_add(HOUR))
    );

    let mut announcements = store.announcements().expect("the channel of the store");
    store.announce(&[KEY]).await.unwrap();
    assert_eq!(hooked.calls(), [Call::Announce]);
    assert_eq!(announcements.next().await, Some(Announcement::Ended(KEY)));
    assert!(hooked.inner.announcements().is_some());

    for seconds in [0, 10] {
        clock.advance(Duration::from_secs(seconds));
        assert_eq!(store.now(), clock.now(), "the clock of the store");
    }
}

#[tokio::test]
async fn an_error_keeps_its_cause() {
    let hooked = Hooked::new(MemoryStore::new());
    let store = BoxStore::new(hooked.clone());
    hooked.hook(|_, _| Plan::Lose);
    let unavailable = |result: Result<(), StoreError>| {
        assert!(
            matches!(&result, Err(StoreError::Unavailable(cause)) if cause.to_string() == "lost"),
            "{result:?}"
        );
    };
    unavailable(store.get(&KEY).await.map(drop));
    unavailable(store.swap(&KEY, None, put(1), &[]).await.map(drop));
    unavailable(store.sidecar(&KEY, &NAME).await.map(drop));
    unavailable(store.claim(&KEY, &TAG, version(1), HOUR).await.map(drop));
    unavailable(store.announce(&[KEY]).await);
}

#[tokio::test]
async fn clones_share_one_store_and_layers_have_one_type() {
    let memory = MemoryStore::new();
    let boxed = BoxStore::new(memory.clone());
    assert_eq!(
        boxed.clone().swap(&KEY, None, put(1), &[]).await.unwrap(),
        Swap::Swapped
    );
    assert!(boxed.get(&KEY).await.unwrap().is_some());
    assert!(memory.get(&KEY).await.unwrap().is_some());

    let stores = [
        boxed.clone(),
        BoxStore::new(TieredStore::new(memory)),
        BoxStore::new(boxed),
    ];
    let layers: Vec<(RefreshLayer<BoxStore>, AccessLayer<BoxStore>)> = stores
        .into_iter()
        .map(|store| {
            let layer = RefreshLayer::builder(store)
                .reference_access_tokens(true)
                .build()
                .unwrap();
            let access = layer.access().build().unwrap();
            (layer, access)
        })
        .collect();
    assert_eq!(layers.len(), 3);
}

#[test]
fn debug_shows_only_the_type_of_the_store() {
    let shown = format!("{:?}", BoxStore::new(Silent));
    assert!(
        shown.starts_with("BoxStore(") && shown.contains("Silent"),
        "{shown}"
    );
}

/// Allocates nothing, and shows nothing in its `Debug`.
struct Silent;

impl Store for Silent {
    async fn get(&self, _: &Key) -> Result<Option<Entry>, StoreError> {
        Ok(None)
    }

    async fn swap(
        &self,
        _: &Key,
        _: Option<Version>,
        _: Change,
        _: &[Sidecar],
    ) -> Result<Swap, StoreError> {
        Ok(Swap::Conflict(None))
    }

    async fn sidecar(&self, _: &Key, _: &SidecarName) -> Result<Option<Bytes>, StoreError> {
        Ok(None)
    }

    async fn claim(
        &self,
        _: &Key,
        _: &ClaimTag,
        _: Version,
        _: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        Ok(None)
    }

    async fn announce(&self, _: &[Key]) -> Result<(), StoreError> {
        Ok(())
    }

    fn now(&self) -> Timestamp {
        Timestamp::default()
    }
}

/// Returns how often `call` allocates until it is ready, which it is at the first poll.
fn allocations<T>(call: impl Future<Output = T>) -> u64 {
    let mut call = pin!(call);
    let counted = measure(|| {
        let Poll::Ready(_) = call.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("nothing here waits")
        };
    });
    counted.count_total
}

#[test]
fn a_call_allocates_once() {
    let store = BoxStore::new(Silent);
    let rows = [
        ("get", allocations(store.get(&KEY))),
        (
            "swap",
            allocations(store.swap(&KEY, None, Change::Remove, &[])),
        ),
        ("sidecar", allocations(store.sidecar(&KEY, &NAME))),
        (
            "claim",
            allocations(store.claim(&KEY, &TAG, version(1), HOUR)),
        ),
        ("announce", allocations(store.announce(&[KEY]))),
    ];
    for (row, count) in rows {
        assert_eq!(count, 1, "{row}");
    }
    let counted = measure(|| {
        let _ = (store.peek(&KEY), store.announcements(), store.now());
    });
    assert_eq!(counted.count_total, 0, "a call that is ready at once");
}
