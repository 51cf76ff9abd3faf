use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use moka::Expiry;
use moka::ops::compute::Op;
use moka::sync::Cache;

use super::slot::Slot;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::store::{
    Announcements, Announcer, Change, Claim, ClaimTag, Entry, Key, Sidecar, SidecarName, Store,
    StoreError, Swap, Ttl, Version, decide,
};

/// Grants in the memory of this process: for a single instance, for tests and for trying the layer
/// out.
///
/// A clone is another handle to the same grants. They are lost when the process ends, and no other
/// instance sees them.
///
/// No entry is evicted to make room: memory use follows the number of live grants. An expired entry
/// is absent for every caller at once. Its memory is freed by a later call, when at most twice its
/// time to live has passed.
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
// Concurrency: the cache maps a key to a slot, and each slot has a lock. A change that can stay in
// the slot is made under its lock. Every other change (a first entry, a much later expiry, a
// removal) goes through `and_compute_with`, which runs one closure at a time for a key. It retires
// the old slot under its lock before the new one replaces it. A retired slot is never written to. A
// reader that still holds a retired slot got it before it was replaced, and returns the state from
// before the replacement.
#[derive(Clone)]
pub struct MemoryStore {
    slots: Cache<Key, Kept>,
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
    /// Memory is freed by real time: even if `clock` stands still or runs backwards, an entry is
    /// dropped after at most twice its time to live.
    #[must_use]
    pub fn with_clock(clock: impl Clock) -> Self {
        let slots = Cache::builder().expire_after(Reclaim).build();
        Self {
            slots,
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
        self.slots.run_pending_tasks();
        self.slots.entry_count()
    }

    fn swap_entry(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: &Change,
        sidecars: &[Sidecar],
    ) -> Swap {
        let swap = match self.slots.get(key) {
            None => decide::swap(None, expected, change),
            Some(kept) => kept
                .write(|slot| slot.swap(expected, change, sidecars, self.clock.now()))
                .flatten(),
        };
        swap.unwrap_or_else(|| self.swap_slot(key, expected, change, sidecars))
    }

    /// Makes the swap where a slot must be inserted, replaced or removed.
    fn swap_slot(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: &Change,
        sidecars: &[Sidecar],
    ) -> Swap {
        let mut swap = Swap::Swapped;
        self.slots.entry(*key).and_compute_with(|found| {
            let found = found.map(moka::Entry::into_value);
            let mut old = found.as_ref().map(Kept::lock);
            let now = self.clock.now();
            let answer = match &mut old {
                None => decide::swap(None, expected, change),
                Some(slot) => slot.swap(expected, change, sidecars, now),
            };
            if let Some(answer) = answer {
                swap = answer;
                return Op::Nop;
            }
            if let Some(slot) = &mut old {
                slot.retire();
            }
            match change {
                Change::Put {
                    entry,
                    ttl: Ttl::After(ttl),
                } => {
                    let (slot, hold) =
                        Slot::in_place_of(old.as_deref(), entry.clone(), *ttl, sidecars, now);
                    Op::Put(Kept {
                        slot: Arc::new(Mutex::new(slot)),
                        hold,
                    })
                }
                // With a kept expiry the change is made in the slot, so this is a removal.
                Change::Put { ttl: Ttl::Keep, .. } | Change::Remove => Op::Remove,
            }
        });
        swap
    }

    fn claim_entry(
        &self,
        key: &Key,
        tag: &ClaimTag,
        version: Version,
        lease: Duration,
    ) -> Option<Claim> {
        let take = |slot: &mut Slot| slot.claim(tag, version, lease, self.clock.now());
        if let Some(claim) = self.slots.get(key)?.write(take) {
            return claim;
        }
        // The slot is retired. Wait for the one that replaces it.
        let mut claim = None;
        self.slots.entry(*key).and_compute_with(|found| {
            claim = found.and_then(|found| take(&mut found.into_value().lock()));
            Op::Nop
        });
        claim
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

redacted_debug!(self: MemoryStore { entries: self.slots.entry_count() });

impl Store for MemoryStore {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        Ok(self
            .slots
            .get(key)
            .and_then(|kept| kept.lock().entry(self.clock.now()).cloned()))
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
        sidecars: &[Sidecar],
    ) -> Result<Swap, StoreError> {
        decide::check_sidecars(sidecars)?;
        Ok(self.swap_entry(key, expected, &change, sidecars))
    }

    async fn sidecar(&self, key: &Key, name: &SidecarName) -> Result<Option<Bytes>, StoreError> {
        Ok(self
            .slots
            .get(key)
            .and_then(|kept| kept.lock().sidecar(name, self.clock.now())))
    }

    async fn claim(
        &self,
        key: &Key,
        tag: &ClaimTag,
        version: Version,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        Ok(self.claim_entry(key, tag, version, lease))
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

/// A slot in the cache, and how long the cache must hold it.
#[derive(Clone)]
struct Kept {
    slot: Arc<Mutex<Slot>>,
    hold: Duration,
}

impl Kept {
    /// Runs `write` on the slot, unless it is retired.
    fn write<T>(&self, write: impl FnOnce(&mut Slot) -> T) -> Option<T> {
        let mut slot = self.lock();
        (!slot.is_retired()).then(|| write(&mut slot))
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        // Poisoning is harmless: no code between two dependent writes can panic.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Frees the memory of expired entries. Whether an entry is visible depends only on its own expiry.
struct Reclaim;

impl Expiry<Key, Kept> for Reclaim {
    fn expire_after_create(&self, _: &Key, kept: &Kept, _: Instant) -> Option<Duration> {
        Some(kept.hold)
    }

    fn expire_after_update(
        &self,
        _: &Key,
        kept: &Kept,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(kept.hold)
    }
}
