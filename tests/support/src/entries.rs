//! Store entries, for tests that call a store without the layer.

use std::time::Duration;

use bytes::Bytes;
use tower_oauth_refresh::store::{
    Change, ClaimTag, Entry, Key, Sidecar, SidecarName, Store, StoreError, Swap, Ttl, Version,
};

pub const TAG: ClaimTag = ClaimTag::new([1; 32]);
pub const NAME: SidecarName = SidecarName::new([2; 16]);
pub const HOUR: Ttl = Ttl::After(Duration::from_secs(3600));
pub const LEASE: Duration = Duration::from_secs(600);

/// Returns a new key each time.
pub fn random_key() -> Key {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).unwrap();
    Key::new(bytes)
}

pub const fn version(number: u64) -> Version {
    Version::new(number.to_be_bytes())
}

pub fn entry(number: u64) -> Entry {
    Entry::new(version(number), TAG, Bytes::from(format!("value {number}")))
}

/// Inserts entry 1 with a sidecar.
pub async fn insert<S: Store>(store: &S, key: &Key) {
    let swap = put_with(store, key, None, 1, HOUR, Some("sidecar")).await;
    assert_eq!(swap.unwrap(), Swap::Swapped);
}

/// Replaces entry `expected` with entry `number`.
pub async fn put<S: Store>(
    store: &S,
    key: &Key,
    expected: Option<u64>,
    number: u64,
) -> Result<Swap, StoreError> {
    put_with(store, key, expected, number, HOUR, None).await
}

pub async fn put_with<S: Store>(
    store: &S,
    key: &Key,
    expected: Option<u64>,
    number: u64,
    ttl: Ttl,
    value: Option<&'static str>,
) -> Result<Swap, StoreError> {
    let change = Change::Put {
        entry: entry(number),
        ttl,
    };
    let sidecar = value.map(|value| {
        Sidecar::new(
            NAME,
            Bytes::from_static(value.as_bytes()),
            Duration::from_secs(3600),
        )
    });
    store
        .swap(key, expected.map(version), change, sidecar.as_slice())
        .await
}

pub async fn remove<S: Store>(store: &S, key: &Key, expected: u64) -> Result<Swap, StoreError> {
    store
        .swap(key, Some(version(expected)), Change::Remove, &[])
        .await
}

/// Makes every call of a store, on an entry that may or may not exist.
pub async fn every_call<S: Store>(
    store: &S,
    key: &Key,
) -> [(&'static str, Result<(), StoreError>); 5] {
    [
        ("get", store.get(key).await.map(drop)),
        ("sidecar", store.sidecar(key, &NAME).await.map(drop)),
        (
            "claim",
            store
                .claim(key, &TAG, version(u64::MAX), LEASE)
                .await
                .map(drop),
        ),
        ("swap", put(store, key, None, u64::MAX).await.map(drop)),
        ("removal", remove(store, key, u64::MAX).await.map(drop)),
    ]
}
