use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::shard::Shard;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::store::{
    Announcements, Announcer, Change, Claim, ClaimTag, Entry, Key, Sidecar, SidecarName, Store,
    StoreError, Swap, Version, decide,
};

/// The number of shards. Calls for keys of different shards do not wait for each other.
const SHARDS: usize = 64;

/// Grants in the memory of this process: for a single instance, for tests and for trying the layer
/// out.
///
/// A clone is another handle to the same grants. They are lost when the process ends, and no other
/// instance sees them.
///
/// No entry is evicted to make room: memory use follows the number of live grants. An expired entry
/// is absent for every caller at once. From at most twice its time to live on, later claims and
/// swaps free its memory, each at most 64 entries from a 64th part of the keys. A store that is not
/// written to keeps the memory until [`entry_count`](Self::entry_count) is called.
///
/// ```
/// use tower_oauth_refresh::store::{Key, MemoryStore, Store};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_oauth_refresh::store::StoreError> {
/// let store = MemoryStore::new();
/// assert_eq!(store.get(&Key::new([7; 32])).await?, None);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    shards: Arc<[Mutex<Shard>]>,
    clock: Arc<dyn Clock>,
    announcer: Announcer,
}

impl MemoryStore {
    /// Creates an empty store that uses the system clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(SystemClock)
    }

    /// Creates an empty store that measures times to live and leases by `clock`, so that a test can
    /// control them.
    ///
    /// Memory is freed by real time: even if `clock` stands still or runs backwards, later claims
    /// and swaps drop an entry from at most twice its time to live on.
    #[must_use]
    pub fn with_clock(clock: impl Clock) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            clock: Arc::new(clock),
            announcer: Announcer::new(),
        }
    }

    /// Returns the number of entries in memory, for metrics. It is approximate while other calls
    /// write, and includes expired entries whose memory has not been freed.
    ///
    /// Frees the memory of expired entries first, which can take a while after a long pause.
    #[must_use]
    pub fn entry_count(&self) -> u64 {
        for shard in &*self.shards {
            lock(shard).free_expired(usize::MAX);
        }
        self.len() as u64
    }

    fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Locks the shard of a key. Keys are hashes, so their first bytes are uniform.
    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard> {
        let [first, ..] = key.as_bytes();
        lock(&self.shards[usize::from(*first) % SHARDS])
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // Poisoning is harmless: no code between two dependent writes can panic.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

redacted_debug!(self: MemoryStore { entries: self.len() });

// Each call reads the clock when it has the lock, so the calls for a key see times in their order.
impl Store for MemoryStore {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let shard = self.shard(key);
        Ok(shard.entry(key, self.clock.now()).cloned())
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
        sidecars: &[Sidecar],
    ) -> Result<Swap, StoreError> {
        decide::check_sidecars(sidecars)?;
        let mut shard = self.shard(key);
        Ok(shard.swap(key, expected, change, sidecars, self.clock.now()))
    }

    async fn sidecar(&self, key: &Key, name: &SidecarName) -> Result<Option<Bytes>, StoreError> {
        let shard = self.shard(key);
        Ok(shard.sidecar(key, name, self.clock.now()))
    }

    async fn claim(
        &self,
        key: &Key,
        tag: &ClaimTag,
        version: Version,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        let mut shard = self.shard(key);
        Ok(shard.claim(key, tag, version, lease, self.clock.now()))
    }

    async fn announce(&self, ended: &[Key]) -> Result<(), StoreError> {
        ended.iter().for_each(|key| self.announcer.ended(*key));
        Ok(())
    }

    fn announcements(&self) -> Option<Announcements> {
        Some(self.announcer.subscribe())
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
