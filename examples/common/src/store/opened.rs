//! A store of any kind that has been opened.

#[cfg(feature = "redis")]
use tower_oauth_refresh::RedisStore;
#[cfg(feature = "redis")]
use tower_oauth_refresh::store::TieredStore;
use tower_oauth_refresh::store::{BoxStore, Store};

/// The store for the layer, and the cache in front of it, if there is one.
#[derive(Clone, Debug)]
pub struct OpenStore {
    pub store: BoxStore,
    #[cfg(feature = "redis")]
    cached: Option<TieredStore<RedisStore>>,
}

/// The statistics of the cache.
#[derive(Clone, Copy, Debug)]
pub struct CacheState {
    pub hits: u64,
    pub misses: u64,
    /// The number of keys with a fact.
    pub entries: u64,
    /// The memory of these facts.
    pub bytes: u64,
}

impl OpenStore {
    /// Creates an open store without a cache.
    pub fn plain(store: impl Store) -> Self {
        Self {
            store: BoxStore::new(store),
            #[cfg(feature = "redis")]
            cached: None,
        }
    }

    #[cfg(feature = "redis")]
    pub fn cached(store: TieredStore<RedisStore>) -> Self {
        Self {
            store: BoxStore::new(store.clone()),
            cached: Some(store),
        }
    }

    /// Returns the cache statistics; `None` if there is no cache.
    pub fn cache(&self) -> Option<CacheState> {
        #[cfg(feature = "redis")]
        if let Some(store) = &self.cached {
            let stats = store.cache_stats();
            return Some(CacheState {
                hits: stats.hits,
                misses: stats.misses,
                entries: stats.entries,
                bytes: stats.bytes,
            });
        }
        None
    }
}
