//! Where grants live: the [`Store`] trait, what passes through it, and the stores of this crate.

mod announce;
mod boxed;
mod catch_panics;
mod contract;
#[cfg(feature = "tiered")]
mod known;
#[cfg(feature = "memory")]
mod memory;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "redis")]
mod redis;
// The head of an entry alone: the fuzzer is built without the client.
#[cfg(all(fuzzing, not(feature = "redis")))]
#[path = "redis/entry.rs"]
pub(crate) mod redis_entry;
#[cfg(any(feature = "memory", feature = "redb"))]
mod rules;
#[cfg(feature = "memory")]
mod slot;
#[cfg(feature = "store-tests")]
pub mod tests;
#[cfg(feature = "tiered")]
mod tiered;
mod types;

pub use self::announce::{Announcement, Announcements, Announcer};
pub use self::boxed::BoxStore;
pub(crate) use self::catch_panics::CatchPanics;
pub use self::contract::Store;
#[cfg(feature = "memory")]
pub use self::memory::MemoryStore;
#[cfg(feature = "redb")]
pub use self::redb::{RedbOpenError, RedbStore, RedbStoreBuilder};
#[cfg(feature = "redis")]
pub use self::redis::{RedisConnectError, RedisStore, RedisStoreBuilder, RedisUrlError};
#[cfg(feature = "tiered")]
pub use self::tiered::{CacheStats, TieredStore, TieredStoreBuilder};
pub use self::types::{
    Beside, Change, Claim, Entry, Hint, Key, Lease, Name, StoreError, Swap, Tag, Ttl, Version,
};
