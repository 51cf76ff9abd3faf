//! The promises of [`Store`] as a test suite, for authors of stores (feature `conformance`).
//!
//! Each function tests one promise of the trait, and panics if the store breaks it. Its argument is
//! a factory. Each call of the factory opens another handle to *the same* store (another
//! connection, another client), so that the suite includes races between instances. Keys are
//! random, so all tests can share one database.
//!
//! [`store_conformance!`](crate::store_conformance) defines a `#[test]` for each function. If one
//! fails, its message begins with the broken promise. A test target needs nothing else:
//!
//! ```
//! use tower_oauth_refresh::store::MemoryStore;
//!
//! tower_oauth_refresh::store_conformance!({
//!     let store = MemoryStore::new();
//!     async move || store.clone()
//! });
//! # fn main() {}
//! ```
//!
//! The store uses its own clock, which must run: the tests use short times to live and wait up to
//! 30 seconds for an expiry. No test requires the store to be fast, so a slow machine does not make
//! a test fail.

use std::slice;
use std::time::Duration;

use bytes::Bytes;

use super::{Change, Claim, ClaimTag, Entry, Key, Sidecar, SidecarName, Store, Swap, Ttl, Version};
use crate::random::{OsRandom, SecureRandom as _};

pub mod announce;
pub mod claim;
pub mod expiry;
mod list;
mod provided;
pub mod races;
pub mod removal;
mod runtime;
pub mod sidecar;
pub mod sidecars;
pub mod swap;
mod tasks;

pub use self::provided::{Provided, provided};
#[doc(hidden)]
pub use self::runtime::run;

/// A time to live that is longer than any test.
const LONG: Ttl = Ttl::After(Duration::from_secs(3600));

/// A lease that does not expire during a test.
const LONG_LEASE: Duration = Duration::from_secs(600);

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    OsRandom.fill(&mut bytes).expect("random bytes");
    bytes
}

fn key() -> Key {
    Key::new(random())
}

fn tag() -> ClaimTag {
    ClaimTag::new(random())
}

fn name() -> SidecarName {
    SidecarName::new(random())
}

/// Creates an entry with a random version, tag and value, and no lease.
fn entry() -> Entry {
    Entry::new(
        Version::new(random()),
        tag(),
        Bytes::copy_from_slice(&random::<48>()),
    )
}

/// Creates a copy of the entry with a new version.
fn again(entry: &Entry) -> Entry {
    Entry {
        version: Version::new(random()),
        ..entry.clone()
    }
}

/// Creates a sidecar that does not expire during a test.
fn long_sidecar(value: &[u8]) -> Sidecar {
    Sidecar::new(
        name(),
        Bytes::copy_from_slice(value),
        Duration::from_secs(3600),
    )
}

async fn get<S: Store>(store: &S, key: &Key) -> Option<Entry> {
    store.get(key).await.expect("get")
}

async fn read_sidecar<S: Store>(store: &S, key: &Key, name: &SidecarName) -> Option<Bytes> {
    store.sidecar(key, name).await.expect("sidecar")
}

async fn put<S: Store>(
    store: &S,
    key: &Key,
    expected: Option<Version>,
    entry: &Entry,
    ttl: Ttl,
) -> Swap {
    store
        .swap(
            key,
            expected,
            Change::Put {
                entry: entry.clone(),
                ttl,
            },
            &[],
        )
        .await
        .expect("swap")
}

async fn put_with<S: Store>(
    store: &S,
    key: &Key,
    expected: Option<Version>,
    entry: &Entry,
    sidecar: &Sidecar,
) -> Swap {
    put_all(store, key, expected, entry, slice::from_ref(sidecar)).await
}

async fn put_all<S: Store>(
    store: &S,
    key: &Key,
    expected: Option<Version>,
    entry: &Entry,
    sidecars: &[Sidecar],
) -> Swap {
    let change = Change::Put {
        entry: entry.clone(),
        ttl: LONG,
    };
    store
        .swap(key, expected, change, sidecars)
        .await
        .expect("swap")
}

async fn remove<S: Store>(store: &S, key: &Key, expected: Option<Version>) -> Swap {
    store
        .swap(key, expected, Change::Remove, &[])
        .await
        .expect("swap")
}

async fn claim_as<S: Store>(
    store: &S,
    key: &Key,
    tag: &ClaimTag,
    version: Version,
    lease: Duration,
) -> Option<Claim> {
    store.claim(key, tag, version, lease).await.expect("claim")
}

/// Claims an entry with a new version.
async fn take<S: Store>(store: &S, key: &Key, tag: &ClaimTag, lease: Duration) -> Option<Claim> {
    claim_as(store, key, tag, Version::new(random()), lease).await
}

/// Inserts `entry` under a new key.
async fn inserted<S: Store>(store: &S, entry: &Entry, ttl: Ttl) -> Key {
    let key = key();
    assert_eq!(
        put(store, &key, None, entry, ttl).await,
        Swap::Swapped,
        "an absent key can be inserted"
    );
    key
}
