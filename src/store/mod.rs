//! The [`Store`] trait, the types of its calls, and the stores of this crate.
//!
//! A store is a key-value database with compare-and-swap and a time to live. The layer keeps each
//! grant in it as one [`Entry`]. The docs of [`Store`] state what an implementation must guarantee;
//! the feature `conformance` tests it.
//!
//! | store | for |
//! | --- | --- |
//! | `MemoryStore` (feature `memory`) | one process; grants are lost when it ends |
//! | `RedbStore` (feature `redb`) | one process, with a file |
//! | `RedisStore` (feature `redis`) | several instances that share Redis or Valkey |
//! | `PostgresStore` (feature `postgres`) | several instances that share PostgreSQL |
//! | `TieredStore` (feature `tiered`) | a cache in front of another store |
//! | [`BoxStore`] | a store that is chosen at run time |
//!
//! # A store of your own
//!
//! This is the example `custom_store`, a whole store over SQLite. It decides with [`decide`] in a
//! transaction, and its tests are the suite of the feature `conformance`.
//!
//! ```text
#![doc = include_str!("../../examples/custom_store.rs")]
//! ```

mod announce;
mod boxed;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod decide;
mod instrumented;
#[cfg(feature = "memory")]
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "redis")]
mod redis;
// The fuzzer needs only the encoding of an entry, and is built without the Redis client.
#[cfg(all(fuzzing, not(feature = "redis")))]
pub(crate) mod redis {
    pub(crate) mod entry;
}
#[cfg(any(feature = "postgres", feature = "redis"))]
mod remote;
#[allow(clippy::module_inception, reason = "the room is named for its trait")]
mod store;
#[cfg(feature = "tiered")]
mod tiered;
mod types;

pub use self::announce::{Announcement, Announcements, Announcer};
pub use self::boxed::BoxStore;
pub(crate) use self::instrumented::InstrumentedStore;
#[cfg(feature = "memory")]
pub use self::memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use self::postgres::{PostgresConnectError, PostgresStore, PostgresStoreBuilder};
#[cfg(feature = "redb")]
pub use self::redb::{RedbOpenError, RedbStore, RedbStoreBuilder};
#[cfg(feature = "redis")]
pub use self::redis::{RedisConnectError, RedisStore, RedisStoreBuilder, RedisUrlError};
pub use self::store::{MAX_SIDECARS_PER_SWAP, Store};
#[cfg(feature = "tiered")]
pub use self::tiered::{CacheStats, TieredStore, TieredStoreBuilder};
pub use self::types::{
    Change, Claim, ClaimTag, Entry, Hint, Key, Lease, Sidecar, SidecarName, StoreError, Swap, Ttl,
    Version,
};
