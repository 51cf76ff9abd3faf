use std::any::type_name;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::{
    Announcements, Change, Claim, ClaimTag, Entry, Hint, Key, Sidecar, SidecarName, Store,
    StoreError, Swap, Version,
};
use crate::clock::Timestamp;

/// A [`Store`] of any type, to choose the store at run time.
///
/// [`Store`] is not `dyn`-compatible, because its methods return futures of unnamed types.
/// `BoxStore` is one type for all stores, so the type of the layer does not depend on the store. It
/// forwards every method to the store, including those with a default, such as
/// [`claim`](Store::claim) or the hints of a [`TieredStore`](super::TieredStore).
///
/// The cost is one allocation for each call that returns a future, which is negligible next to a
/// round trip to a database. Methods that return at once ([`peek`](Store::peek),
/// [`announcements`](Store::announcements), [`now`](Store::now)) do not allocate. If the store is
/// known at compile time, you do not need this type.
///
/// ```
/// use tower_oauth_refresh::store::BoxStore;
/// use tower_oauth_refresh::{MemoryStore, RefreshLayer};
///
/// /// Opens the store that the configuration names.
/// async fn open(name: &str) -> Result<BoxStore, Box<dyn std::error::Error>> {
///     match name {
///         "memory" => Ok(BoxStore::new(MemoryStore::new())),
/// #       #[cfg(all(feature = "redis", feature = "tiered"))]
///         url if url.starts_with("redis") => {
///             use tower_oauth_refresh::{RedisStore, TieredStore};
///             Ok(BoxStore::new(TieredStore::new(RedisStore::connect(url).await?)))
///         }
/// #       #[cfg(feature = "redb")]
///         path if path.ends_with(".redb") => {
///             use tower_oauth_refresh::RedbStore;
///             Ok(BoxStore::new(RedbStore::open(path)?))
///         }
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
/// A clone is another handle to the same store. For metrics beyond the trait, such as
/// [`TieredStore::cache_stats`](super::TieredStore::cache_stats), keep a clone of the store from
/// before it was boxed.
#[derive(Clone)]
pub struct BoxStore(Arc<dyn Erased>);

impl BoxStore {
    /// Wraps `store`.
    #[must_use]
    pub fn new<S: Store>(store: S) -> Self {
        Self(Arc::new(store))
    }
}

impl fmt::Debug for BoxStore {
    /// Writes only the type of the store, because its contents may not belong in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BoxStore")
            .field(&format_args!("{}", self.0.type_name()))
            .finish()
    }
}

type Boxed<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// The methods of [`Store`] in a form that is `dyn`-compatible. None has a default, so that the
/// compiler finds a method that is not forwarded.
trait Erased: Send + Sync {
    fn type_name(&self) -> &'static str;

    fn get<'a>(&'a self, key: &'a Key) -> Boxed<'a, Option<Entry>>;

    fn swap<'a>(
        &'a self,
        key: &'a Key,
        expected: Option<Version>,
        change: Change,
        sidecars: &'a [Sidecar],
    ) -> Boxed<'a, Swap>;

    fn sidecar<'a>(&'a self, key: &'a Key, name: &'a SidecarName) -> Boxed<'a, Option<Bytes>>;

    fn claim<'a>(
        &'a self,
        key: &'a Key,
        tag: &'a ClaimTag,
        version: Version,
        lease: Duration,
    ) -> Boxed<'a, Option<Claim>>;

    fn peek(&self, key: &Key) -> Option<Hint>;

    fn announce<'a>(&'a self, ended: &'a [Key]) -> Boxed<'a, ()>;

    fn announcements(&self) -> Option<Announcements>;

    fn now(&self) -> Timestamp;

    fn system_name(&self) -> Option<&'static str>;
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
        sidecars: &'a [Sidecar],
    ) -> Boxed<'a, Swap> {
        Box::pin(Store::swap(self, key, expected, change, sidecars))
    }

    fn sidecar<'a>(&'a self, key: &'a Key, name: &'a SidecarName) -> Boxed<'a, Option<Bytes>> {
        Box::pin(Store::sidecar(self, key, name))
    }

    fn claim<'a>(
        &'a self,
        key: &'a Key,
        tag: &'a ClaimTag,
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

    fn system_name(&self) -> Option<&'static str> {
        Store::system_name(self)
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
        sidecars: &[Sidecar],
    ) -> Result<Swap, StoreError> {
        self.0.swap(key, expected, change, sidecars).await
    }

    async fn sidecar(&self, key: &Key, name: &SidecarName) -> Result<Option<Bytes>, StoreError> {
        self.0.sidecar(key, name).await
    }

    async fn claim(
        &self,
        key: &Key,
        tag: &ClaimTag,
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

    fn system_name(&self) -> Option<&'static str> {
        self.0.system_name()
    }
}
