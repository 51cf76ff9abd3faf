use std::any::type_name;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{
    Announcements, Beside, Change, Claim, Entry, Hint, Key, Name, Store, StoreError, Swap, Tag,
    Version,
};
use crate::clock::Timestamp;

/// Any [`Store`], so that which one it is can be decided when the program runs.
///
/// [`Store`] cannot be a `dyn Store`, for its futures have types of their own. This is one type for
/// all of them, and so one type of layer over whichever store was chosen. Everything goes through
/// to the store as it is, what the trait provides included: its own [`claim`](Store::claim), what a
/// [`TieredStore`](super::TieredStore) knows, its channel of announcements.
///
/// It costs one allocation for each call that returns a future, which next to a trip to a database
/// is nothing. What answers at once ([`peek`](Store::peek),
/// [`announcements`](Store::announcements), [`now`](Store::now)) is passed on without one. Where
/// the store is known when the program is compiled, there is no need for it.
///
/// ```
/// use tower_oauth_refresh::store::BoxStore;
/// use tower_oauth_refresh::{MemoryStore, RefreshLayer};
///
/// /// The store that the configuration names.
/// async fn open(name: &str) -> Result<BoxStore, Box<dyn std::error::Error>> {
///     match name {
///         "memory" => Ok(BoxStore::new(MemoryStore::new())),
/// #       #[cfg(all(feature = "redis", feature = "tiered"))]
///         url if url.starts_with("redis") => {
///             use tower_oauth_refresh::{RedisStore, TieredStore};
///             Ok(BoxStore::new(TieredStore::new(RedisStore::connect(url).await?)))
///         }
/// #       #[cfg(feature = "redb")]
///         path if path.ends_with(".redb") => Ok(BoxStore::new(tower_oauth_refresh::RedbStore::open(path)?)),
///         _ => Err("no such store".into()),
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let layer: RefreshLayer<BoxStore> = RefreshLayer::new(open("memory").await?);
/// # Ok(())
/// # }
/// ```
///
/// A clone is another handle on the same store. For metrics that a store has beyond the trait, such
/// as [`TieredStore::cache_stats`](super::TieredStore::cache_stats), keep a clone of it from before
/// it was boxed.
#[derive(Clone)]
pub struct BoxStore(Arc<dyn Erased>);

impl BoxStore {
    /// A handle on `store` that does not show which one it is.
    #[must_use]
    pub fn new<S: Store>(store: S) -> Self {
        Self(Arc::new(store))
    }
}

impl fmt::Debug for BoxStore {
    /// The type of the store: what is in it need not be fit for a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BoxStore")
            .field(&format_args!("{}", self.0.type_name()))
            .finish()
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// [`Store`], method by method, as one that there can be a `dyn` of. Nothing has a default, so that
/// none is taken for what the store has itself.
trait Erased: Send + Sync {
    fn type_name(&self) -> &'static str;

    fn get<'a>(&'a self, key: &'a Key) -> Boxed<'a, Option<Entry>>;

    fn swap<'a>(
        &'a self,
        key: &'a Key,
        expected: Option<Version>,
        change: Change,
        also: Option<Beside>,
    ) -> Boxed<'a, Swap>;

    fn beside<'a>(&'a self, key: &'a Key, name: &'a Name) -> Boxed<'a, Option<Bytes>>;

    fn claim<'a>(
        &'a self,
        key: &'a Key,
        tag: &'a Tag,
        version: Version,
        lease: Duration,
    ) -> Boxed<'a, Option<Claim>>;

    fn peek(&self, key: &Key) -> Option<Hint>;

    fn announce<'a>(&'a self, ended: &'a [Key]) -> Boxed<'a, ()>;

    fn announcements(&self) -> Option<Announcements>;

    fn now(&self) -> Timestamp;
}

impl<S: Store> Erased for S {
    fn type_name(&self) -> &'static str {
        type_name::<S>()
    }

    fn get<'a>(&'a self, key: &'a Key) -> Boxed<'a, Option<Entry>> {
        Box::pin(Store::get(self, key))
    }

    fn swap<'a>(
        &'a self,
        key: &'a Key,
        expected: Option<Version>,
        change: Change,
        also: Option<Beside>,
    ) -> Boxed<'a, Swap> {
        Box::pin(Store::swap(self, key, expected, change, also))
    }

    fn beside<'a>(&'a self, key: &'a Key, name: &'a Name) -> Boxed<'a, Option<Bytes>> {
        Box::pin(Store::beside(self, key, name))
    }

    fn claim<'a>(
        &'a self,
        key: &'a Key,
        tag: &'a Tag,
        version: Version,
        lease: Duration,
    ) -> Boxed<'a, Option<Claim>> {
        Box::pin(Store::claim(self, key, tag, version, lease))
    }

    fn peek(&self, key: &Key) -> Option<Hint> {
        Store::peek(self, key)
    }

    fn announce<'a>(&'a self, ended: &'a [Key]) -> Boxed<'a, ()> {
        Box::pin(Store::announce(self, ended))
    }

    fn announcements(&self) -> Option<Announcements> {
        Store::announcements(self)
    }

    fn now(&self) -> Timestamp {
        Store::now(self)
    }
}

impl Store for BoxStore {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.0.get(key).await
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
        also: Option<Beside>,
    ) -> Result<Swap, StoreError> {
        self.0.swap(key, expected, change, also).await
    }

    async fn beside(&self, key: &Key, name: &Name) -> Result<Option<Bytes>, StoreError> {
        self.0.beside(key, name).await
    }

    async fn claim(
        &self,
        key: &Key,
        tag: &Tag,
        version: Version,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        self.0.claim(key, tag, version, lease).await
    }

    fn peek(&self, key: &Key) -> Option<Hint> {
        self.0.peek(key)
    }

    async fn announce(&self, ended: &[Key]) -> Result<(), StoreError> {
        self.0.announce(ended).await
    }

    fn announcements(&self) -> Option<Announcements> {
        self.0.announcements()
    }

    fn now(&self) -> Timestamp {
        self.0.now()
    }
}
