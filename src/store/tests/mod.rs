//! The contract of [`Store`] as a suite of tests, for the authors of stores (feature
//! `store-tests`).
//!
//! Each function is one promise of the trait. It takes a factory, of which every call opens another
//! handle on *the same* store (another connection, another client), so that races between instances
//! are part of it; keys are random, so all of them can share one database. A promise that is broken
//! is a panic.
//!
//! [`store_tests!`](crate::store_tests) makes a `#[test]` of each. A test target needs nothing
//! else:
//!
//! ```
//! use tower_oauth_refresh::store::MemoryStore;
//!
//! tower_oauth_refresh::store_tests!({
//!     let store = MemoryStore::new();
//!     async move || store.clone()
//! });
//! # fn main() {}
//! ```
//!
//! The store goes by its own clock, which has to run: what expires is waited for, with short times
//! and a patience of 30 seconds. No promise is about how fast a store is, so that a slow machine
//! makes no difference.

use std::time::Duration;

use bytes::Bytes;

use super::{Beside, Change, Claim, Entry, Key, Name, Store, Swap, Tag, Ttl, Version};
use crate::random::{OsRandom, SecureRandom as _};

pub mod announce;
pub mod beside;
pub mod claim;
pub mod expiry;
mod list;
mod provided;
pub mod races;
mod runtime;
pub mod swap;

pub use self::provided::{Provided, provided};
#[doc(hidden)]
pub use self::runtime::run;

/// Longer than any test takes.
const LONG: Ttl = Ttl::After(Duration::from_secs(3600));

/// A lease that does not run out while a test runs.
const LONG_LEASE: Duration = Duration::from_secs(600);

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    OsRandom.fill(&mut bytes).expect("randomness");
    bytes
}

fn key() -> Key {
    Key::new(random())
}

fn tag() -> Tag {
    Tag::new(random())
}

fn name() -> Name {
    Name::new(random())
}

/// An entry with another version, tag and value each time, and no lease.
fn entry() -> Entry {
    Entry::new(
        Version::new(random()),
        tag(),
        Bytes::copy_from_slice(&random::<48>()),
    )
}

/// The same entry as another write.
fn again(entry: &Entry) -> Entry {
    Entry {
        version: Version::new(random()),
        ..entry.clone()
    }
}

/// A value beside an entry that stays for longer than any test takes.
fn long_beside(value: &[u8]) -> Beside {
    Beside::new(
        name(),
        Bytes::copy_from_slice(value),
        Duration::from_secs(3600),
    )
}

async fn get<S: Store>(store: &S, key: &Key) -> Option<Entry> {
    store.get(key).await.expect("get")
}

async fn read_beside<S: Store>(store: &S, key: &Key, name: &Name) -> Option<Bytes> {
    store.beside(key, name).await.expect("beside")
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
            None,
        )
        .await
        .expect("swap")
}

async fn put_with<S: Store>(
    store: &S,
    key: &Key,
    expected: Option<Version>,
    entry: &Entry,
    also: &Beside,
) -> Swap {
    let change = Change::Put {
        entry: entry.clone(),
        ttl: LONG,
    };
    store
        .swap(key, expected, change, Some(also.clone()))
        .await
        .expect("swap")
}

async fn remove<S: Store>(store: &S, key: &Key, expected: Option<Version>) -> Swap {
    store
        .swap(key, expected, Change::Remove, None)
        .await
        .expect("swap")
}

async fn claim_as<S: Store>(
    store: &S,
    key: &Key,
    tag: &Tag,
    version: Version,
    lease: Duration,
) -> Option<Claim> {
    store.claim(key, tag, version, lease).await.expect("claim")
}

/// A claim of its own: with a version that nobody has used.
async fn take<S: Store>(store: &S, key: &Key, tag: &Tag, lease: Duration) -> Option<Claim> {
    claim_as(store, key, tag, Version::new(random()), lease).await
}

/// Puts `entry` under a key of its own.
async fn inserted<S: Store>(store: &S, entry: &Entry, ttl: Ttl) -> Key {
    let key = key();
    assert_eq!(
        put(store, &key, None, entry, ttl).await,
        Swap::Swapped,
        "an absent key can be inserted"
    );
    key
}
