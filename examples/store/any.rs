//! Any of the stores, chosen when the program starts.

use std::time::Duration;

use bytes::Bytes;
#[cfg(feature = "redb")]
use tower_oauth_refresh::store::RedbStore;
use tower_oauth_refresh::store::{
    Announcements, Beside, Change, Claim, Entry, Hint, Key, Name, Store, StoreError, Swap, Tag, Version,
};
#[cfg(feature = "redis")]
use tower_oauth_refresh::store::{RedisStore, TieredStore};
use tower_oauth_refresh::{MemoryStore, Timestamp};

/// One type for all of them, so that the layer is compiled once.
#[derive(Clone, Debug)]
pub(crate) enum AnyStore {
    Memory(MemoryStore),
    #[cfg(feature = "redis")]
    Redis(TieredStore<RedisStore>),
    #[cfg(feature = "redb")]
    Redb(RedbStore),
}

/// Runs the same on whichever store it is.
macro_rules! each {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            Self::Memory($store) => $call,
            #[cfg(feature = "redis")]
            Self::Redis($store) => $call,
            #[cfg(feature = "redb")]
            Self::Redb($store) => $call,
        }
    };
}

/// How often the cache has known something, and how often nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheLookups {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
}

impl AnyStore {
    /// None where there is no cache.
    pub(crate) fn cache_lookups(&self) -> Option<CacheLookups> {
        match self {
            #[cfg(feature = "redis")]
            Self::Redis(store) => {
                let stats = store.cache_stats();
                Some(CacheLookups { hits: stats.hits, misses: stats.misses })
            }
            _ => None,
        }
    }
}

impl Store for AnyStore {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        each!(self, store => store.get(key).await)
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
        also: Option<Beside>,
    ) -> Result<Swap, StoreError> {
        each!(self, store => store.swap(key, expected, change, also).await)
    }

    async fn beside(&self, key: &Key, name: &Name) -> Result<Option<Bytes>, StoreError> {
        each!(self, store => store.beside(key, name).await)
    }

    async fn claim(
        &self,
        key: &Key,
        tag: &Tag,
        version: Version,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        each!(self, store => store.claim(key, tag, version, lease).await)
    }

    fn peek(&self, key: &Key) -> Option<Hint> {
        each!(self, store => store.peek(key))
    }

    async fn announce(&self, ended: &[Key]) -> Result<(), StoreError> {
        each!(self, store => store.announce(ended).await)
    }

    fn announcements(&self) -> Option<Announcements> {
        each!(self, store => store.announcements())
    }

    fn now(&self) -> Timestamp {
        each!(self, store => store.now())
    }
}
