use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::known::Known;
use super::{
    Announcements, Beside, Change, Claim, Entry, Hint, Key, Lease, Name, Store, StoreError, Swap,
    Tag, Version,
};
use crate::clock::Timestamp;

/// 64 MiB: about 75,000 grants.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
const TTL: Duration = Duration::from_secs(10);

/// A cache in the memory of this process, in front of another store.
///
/// It holds only what cannot become wrong: whose grant a key is, and that a grant has ended. A
/// refresh by the wrong client of a grant, and the storm of requests that the dead tokens of a
/// grant cause, are then refused with no trip to the store. Everything else is decided there, so
/// that a rotation costs the same two trips with the cache as without, and any number of instances
/// can share the store. What this process knows may be old, and can neither let a request in nor
/// refuse one that the store would let in.
///
/// It learns from the calls that pass through it, and needs no word from other instances. That a
/// key has ended is concluded from its absence, which is right for keys that are used once, as
/// those of grants are: it **must not** be asked (by [`peek`](Store::peek)) about keys that come
/// and go, and the layer does not. Should the store itself forget a grant and have it again later
/// (a backup is played back), its tokens are refused for one [`ttl`](TieredStoreBuilder::ttl) more.
///
/// ```
/// use tower_oauth_refresh::store::{Hint, Key, MemoryStore, Store, TieredStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_oauth_refresh::store::StoreError> {
/// let store = TieredStore::builder(MemoryStore::new()).max_bytes(16 * 1024 * 1024).build();
/// let key = Key::new([7; 32]);
/// assert_eq!(store.peek(&key), None);
/// assert_eq!(store.get(&key).await?, None);
/// assert_eq!(store.peek(&key), Some(Hint::Ended));
/// # Ok(())
/// # }
/// ```
///
/// A clone shares the cache, and what `S` shares.
#[derive(Clone)]
pub struct TieredStore<S> {
    inner: S,
    /// `None` if the cache is turned off.
    known: Option<Arc<Known>>,
}

impl<S> TieredStore<S> {
    /// A cache of 64 MiB in front of `store`.
    #[must_use]
    pub fn new(store: S) -> Self {
        Self::builder(store).build()
    }

    /// A cache in front of `store`, with settings.
    pub const fn builder(store: S) -> TieredStoreBuilder<S> {
        TieredStoreBuilder {
            inner: store,
            max_bytes: MAX_BYTES,
            ttl: TTL,
        }
    }

    /// The store behind the cache. What is written to it past the cache does no harm.
    #[must_use]
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The store behind the cache, without the cache.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }

    /// The state of the cache, for metrics. All zero if it is turned off.
    ///
    /// Drops first what is due, which can take a while after a long pause.
    #[must_use]
    pub fn cache_stats(&self) -> CacheStats {
        let Some(known) = &self.known else {
            return CacheStats::default();
        };
        let (entries, bytes) = known.size();
        CacheStats {
            hits: known.hits(),
            misses: known.misses(),
            entries,
            bytes,
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for TieredStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TieredStore")
            .field("inner", &self.inner)
            .field("cached", &self.known.is_some())
            .finish_non_exhaustive()
    }
}

/// The settings of a [`TieredStore`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct TieredStoreBuilder<S> {
    inner: S,
    max_bytes: u64,
    ttl: Duration,
}

impl<S> TieredStoreBuilder<S> {
    /// How much memory the cache may take up, in bytes, its own overhead included: 64 MiB by
    /// default. Above it, what is asked for least goes first; for a moment it may be somewhat more.
    ///
    /// A grant takes up about 850 bytes, one that has ended about 500. Zero turns the cache off.
    pub const fn max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// How long the cache holds what it has learnt, counted from when it learnt it: 10 seconds by
    /// default. A dead token that is presented over and over again costs one trip to the store in
    /// this time.
    ///
    /// Nothing becomes wrong with time. It bounds how long an end stays known that a store reported
    /// which had lost the grant for a while. Zero turns the cache off: every call goes to the
    /// store, and only what the store itself has a hint of is known.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// The store with its cache.
    #[must_use]
    pub fn build(self) -> TieredStore<S> {
        let known = Known::new(self.max_bytes, self.ttl).map(Arc::new);
        TieredStore {
            inner: self.inner,
            known,
        }
    }
}

/// The state of the cache of a [`TieredStore`], for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// How often the cache knew something of a key that it was asked about.
    pub hits: u64,
    /// How often it knew nothing.
    pub misses: u64,
    /// Of how many keys it knows something: approximate while others write.
    pub entries: u64,
    /// How many bytes of memory that takes up, as reckoned for
    /// [`max_bytes`](TieredStoreBuilder::max_bytes): approximate while others write.
    pub bytes: u64,
}

impl<S: Store> Store for TieredStore<S> {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let Some(known) = &self.known else {
            return self.inner.get(key).await;
        };
        let began = known.begin();
        let found = self.inner.get(key).await?;
        known.learn(key, found.as_ref(), began);
        Ok(found)
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
        also: Option<Beside>,
    ) -> Result<Swap, StoreError> {
        let Some(known) = &self.known else {
            return self.inner.swap(key, expected, change, also).await;
        };
        let left = match &change {
            Change::Put { entry, .. } => {
                known.forget_end(key);
                Some(entry.clone())
            }
            Change::Remove => None,
        };
        let began = known.begin();
        let swap = self.inner.swap(key, expected, change, also).await?;
        match (&swap, &left) {
            (Swap::Swapped, Some(entry)) if expected.is_some() => known.learn_again(key, entry),
            (Swap::Swapped, left) => known.learn(key, left.as_ref(), began),
            (Swap::Conflict(found), _) => known.learn(key, found.as_ref(), began),
        }
        Ok(swap)
    }

    async fn beside(&self, key: &Key, name: &Name) -> Result<Option<Bytes>, StoreError> {
        self.inner.beside(key, name).await
    }

    async fn claim(
        &self,
        key: &Key,
        tag: &Tag,
        version: Version,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        let Some(known) = &self.known else {
            return self.inner.claim(key, tag, version, lease).await;
        };
        let began = known.begin();
        let claim = self.inner.claim(key, tag, version, lease).await?;
        match &claim {
            Some(claim) if claim.lease == Lease::Taken => known.learn_again(key, &claim.entry),
            claim => known.learn(key, claim.as_ref().map(|claim| &claim.entry), began),
        }
        Ok(claim)
    }

    fn peek(&self, key: &Key) -> Option<Hint> {
        let hint = self.known.as_ref().and_then(|known| known.hint(key));
        hint.or_else(|| self.inner.peek(key))
    }

    async fn announce(&self, ended: &[Key]) -> Result<(), StoreError> {
        self.inner.announce(ended).await
    }

    fn announcements(&self) -> Option<Announcements> {
        self.inner.announcements()
    }

    fn now(&self) -> Timestamp {
        self.inner.now()
    }
}
