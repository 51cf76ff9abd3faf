use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::facts::Facts;
use crate::clock::Timestamp;
use crate::store::{
    Announcements, Change, Claim, ClaimTag, Entry, Hint, Key, Lease, Sidecar, SidecarName, Store,
    StoreError, Swap, Ttl, Version,
};

/// The default size of the cache: 64 MiB, about 75,000 grants.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The default time for which the cache keeps a fact.
const TTL: Duration = Duration::from_secs(10);

/// A cache in the memory of this process, in front of another store.
///
/// It holds only facts that stay true: the client that a key belongs to, and that a grant has
/// ended. With them the layer refuses two kinds of request without a round trip to the store: a
/// refresh by the wrong client, and repeated requests with the tokens of an ended grant. Everything
/// else is decided in the store. A rotation therefore costs the same two round trips with the cache
/// as without, and any number of instances can share the store. A fact may be old, but it never
/// leads the layer to accept a request, or to refuse one that the store would accept.
///
/// Use it if clients may repeat requests with the tokens of ended grants, or present the tokens of
/// other clients, in large numbers. It does not make a rotation faster.
///
/// The cache learns from the calls that pass through it, and needs no messages from other
/// instances. It does not learn from rotations, so that they do not become slower. It learns the
/// client of a grant when the grant begins on this instance, when the store answers a request that
/// the layer then refuses, or when a request waits for another one that rotates the grant. If a key
/// has no entry, the cache takes it for ended. This is right for keys that are used once, as the
/// keys of grants are: **do not** call [`peek`](Store::peek) for keys that are inserted more than
/// once. The layer does not. If the store loses a grant and has it again later (a restored backup),
/// the tokens of that grant are refused for up to one [`ttl`](TieredStoreBuilder::ttl) more.
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
/// assert_eq!(store.peek(&key), Some(Hint::Gone));
/// # Ok(())
/// # }
/// ```
///
/// A clone shares the cache, and has a clone of the store behind it.
#[derive(Clone)]
pub struct TieredStore<S> {
    inner: S,
    /// `None` if the cache is disabled.
    facts: Option<Arc<Facts>>,
}

impl<S> TieredStore<S> {
    /// Puts a cache with the default settings in front of `store`: 64 MiB, 10 seconds.
    #[must_use]
    pub fn new(store: S) -> Self {
        Self::builder(store).build()
    }

    /// Returns a builder for a cache in front of `store`.
    pub const fn builder(store: S) -> TieredStoreBuilder<S> {
        TieredStoreBuilder {
            inner: store,
            max_bytes: MAX_BYTES,
            ttl: TTL,
        }
    }

    /// Returns the store behind the cache. Writing to it directly is safe.
    #[must_use]
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns the store behind the cache and drops the cache.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }

    /// Returns the state of the cache, for metrics. All zero if the cache is disabled.
    ///
    /// Drops expired facts first, which can take a while after a long pause.
    #[must_use]
    pub fn cache_stats(&self) -> CacheStats {
        let stats = self.facts.as_ref().map(|facts| facts.stats());
        stats.unwrap_or_default()
    }
}

redacted_debug!(self: <S: std::fmt::Debug> TieredStore { inner, cached: self.facts.is_some() });

/// The settings of a [`TieredStore`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct TieredStoreBuilder<S> {
    inner: S,
    max_bytes: u64,
    ttl: Duration,
}

impl<S> TieredStoreBuilder<S> {
    /// Sets the maximum memory of the cache in bytes, including its own overhead. Default: 64 MiB.
    /// Above it, the least used facts are evicted; the size may exceed the maximum for a moment.
    ///
    /// A grant takes about 850 bytes, an ended one about 500. Zero disables the cache.
    pub const fn max_bytes(mut self, max_bytes: u64) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Sets how long the cache keeps a fact after it was learnt. Default: 10 seconds. A dead token
    /// that is presented again and again causes one round trip to the store in this time.
    ///
    /// Facts do not become wrong with age. The time limits one case: a store that lost a grant for
    /// a while and reported it as absent. Zero disables the cache: every call goes to the store,
    /// and [`peek`](Store::peek) returns only hints of the store itself.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Returns the store with its cache.
    #[must_use]
    pub fn build(self) -> TieredStore<S> {
        let facts = Facts::new(self.max_bytes, self.ttl).map(Arc::new);
        TieredStore {
            inner: self.inner,
            facts,
        }
    }
}

/// The state of the cache of a [`TieredStore`], for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// The number of calls of [`peek`](Store::peek) that found a fact in the cache.
    pub hits: u64,
    /// The number of calls of [`peek`](Store::peek) that found none.
    pub misses: u64,
    /// The number of keys with a fact. Approximate while other calls write.
    pub entries: u64,
    /// The memory of these facts in bytes, as counted for
    /// [`max_bytes`](TieredStoreBuilder::max_bytes). Approximate while other calls write.
    pub bytes: u64,
}

impl<S: Store> Store for TieredStore<S> {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let Some(facts) = &self.facts else {
            return self.inner.get(key).await;
        };
        let began = facts.begin();
        let found = self.inner.get(key).await?;
        facts.learn(key, found.as_ref(), began);
        Ok(found)
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
        sidecars: &[Sidecar],
    ) -> Result<Swap, StoreError> {
        let Some(facts) = &self.facts else {
            return self.inner.swap(key, expected, change, sidecars).await;
        };
        // The cache does not learn from a rotation: a rotation does not need the cache, and this
        // write would be most of its cost.
        let is_rotation = expected.is_some()
            && matches!(
                change,
                Change::Put {
                    ttl: Ttl::After(_),
                    ..
                }
            );
        let mut left = None;
        if let Change::Put { entry, .. } = &change {
            facts.forget_end(key);
            left = (!is_rotation).then(|| entry.clone());
        }
        let began = facts.begin();
        let swap = self.inner.swap(key, expected, change, sidecars).await?;
        match &swap {
            Swap::Swapped if is_rotation => facts.forget_end(key),
            Swap::Swapped => facts.learn(key, left.as_ref(), began),
            Swap::Conflict(found) => facts.learn(key, found.as_ref(), began),
        }
        Ok(swap)
    }

    async fn sidecar(&self, key: &Key, name: &SidecarName) -> Result<Option<Bytes>, StoreError> {
        self.inner.sidecar(key, name).await
    }

    async fn claim(
        &self,
        key: &Key,
        tag: &ClaimTag,
        version: Version,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        let Some(facts) = &self.facts else {
            return self.inner.claim(key, tag, version, lease).await;
        };
        let began = facts.begin();
        let claim = self.inner.claim(key, tag, version, lease).await?;
        match &claim {
            // The next call is a rotation, or releases the lease.
            Some(claim) if claim.lease == Lease::Taken => facts.forget_end(key),
            // A known value is written again: its new logical time protects it from an older reply
            // that found no entry.
            claim => facts.learn(key, claim.as_ref().map(|claim| &claim.entry), began),
        }
        Ok(claim)
    }

    fn peek(&self, key: &Key) -> Option<Hint> {
        let hint = self.facts.as_ref().and_then(|facts| facts.hint(key));
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

    fn system_name(&self) -> Option<&'static str> {
        self.inner.system_name()
    }
}
