//! A store of any kind that has been opened.

use std::fmt;
use std::sync::Arc;

use tower_oauth_refresh::store::{BoxStore, Store, TieredStore};

/// The store for the layer, and the cache in front of it, if there is one.
#[derive(Clone)]
pub struct OpenStore {
    pub store: BoxStore,
    cache: Option<Arc<dyn Fn() -> CacheState + Send + Sync>>,
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
            cache: None,
        }
    }

    pub fn cached<S: Store + Clone>(store: TieredStore<S>) -> Self {
        let tier = store.clone();
        let cache = move || {
            let stats = tier.cache_stats();
            CacheState {
                hits: stats.hits,
                misses: stats.misses,
                entries: stats.entries,
                bytes: stats.bytes,
            }
        };
        Self {
            store: BoxStore::new(store),
            cache: Some(Arc::new(cache)),
        }
    }

    /// Returns the cache statistics; `None` if there is no cache.
    pub fn cache(&self) -> Option<CacheState> {
        self.cache.as_ref().map(|cache| cache())
    }
}

impl fmt::Debug for OpenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenStore")
            .field("store", &self.store)
            .field("cache", &self.cache())
            .finish()
    }
}
