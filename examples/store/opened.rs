//! A store that has been opened, whichever it is.

#[cfg(feature = "redis")]
use tower_oauth_refresh::RedisStore;
#[cfg(feature = "redis")]
use tower_oauth_refresh::store::TieredStore;
use tower_oauth_refresh::store::{BoxStore, Store};

/// The store for the layer, and what is in front of it.
#[derive(Clone, Debug)]
pub(crate) struct OpenStore {
    pub(crate) store: BoxStore,
    #[cfg(feature = "redis")]
    cached: Option<TieredStore<RedisStore>>,
}

/// How often the cache has known something, and how often nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheLookups {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
}

impl OpenStore {
    /// A store without a cache.
    pub(crate) fn plain(store: impl Store) -> Self {
        Self {
            store: BoxStore::new(store),
            #[cfg(feature = "redis")]
            cached: None,
        }
    }

    #[cfg(feature = "redis")]
    pub(crate) fn cached(store: TieredStore<RedisStore>) -> Self {
        Self {
            store: BoxStore::new(store.clone()),
            cached: Some(store),
        }
    }

    /// None where there is no cache.
    pub(crate) fn cache_lookups(&self) -> Option<CacheLookups> {
        #[cfg(feature = "redis")]
        if let Some(store) = &self.cached {
            let stats = store.cache_stats();
            return Some(CacheLookups {
                hits: stats.hits,
                misses: stats.misses,
            });
        }
        None
    }
}
