use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use moka::Expiry;
use moka::ops::compute::Op;
use moka::sync::Cache;

use super::rules::answer;
use super::slot::Slot;
use super::{
    Announcements, Announcer, Beside, Change, Claim, Entry, Key, Name, Store, StoreError, Swap,
    Tag, Ttl, Version,
};
use crate::clock::{Clock, SystemClock, Timestamp};

/// Grants in the memory of this process: for one instance, for tests, for trying the layer out.
///
/// A clone is another handle on the same grants. They are gone when the process ends, and no other
/// instance sees them.
///
/// Nothing is ever evicted to make room: the memory in use follows the number of live grants. What
/// has expired is absent at once for every caller; its place is taken back in the course of later
/// calls, when at most twice its time to live has passed.
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
// How races are kept right: the cache maps a key to a slot, and a slot has a lock. A change that
// needs no other slot is made in the slot, under its lock. Every other (a first entry, a much later
// end, a removal) goes through `and_compute_with`, which runs one at a time for a key: it retires
// the old slot under its lock before the new one takes its place. Nobody writes into a retired
// slot. Whoever reads from one got hold of it before it was replaced, and is told what held then.
#[derive(Clone)]
pub struct MemoryStore {
    slots: Cache<Key, Kept>,
    clock: Arc<dyn Clock>,
    announcer: Announcer,
}

impl MemoryStore {
    /// An empty store that goes by the clock of the operating system.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(SystemClock)
    }

    /// An empty store whose times to live and leases go by `clock`, so that a test can move them.
    ///
    /// A clock that stands still or runs backwards keeps no entry for more than twice its time to
    /// live in real time: by then its place is taken back.
    #[must_use]
    pub fn with_clock(clock: impl Clock) -> Self {
        let slots = Cache::builder().expire_after(Reclaim).build();
        Self {
            slots,
            clock: Arc::new(clock),
            announcer: Announcer::new(),
        }
    }

    /// How many entries take up place, for metrics: approximate while others write, and including
    /// those that have expired but whose place has not been taken back.
    ///
    /// Takes back first what is due, which can take a while after a long pause.
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
        also: Option<&Beside>,
    ) -> Swap {
        let swap = match self.slots.get(key) {
            None => answer(None, expected, change),
            Some(kept) => kept
                .write(|slot| slot.swap(expected, change, also, self.clock.now()))
                .flatten(),
        };
        swap.unwrap_or_else(|| self.swap_slot(key, expected, change, also))
    }

    /// The same where another slot has to take the place of the one that is there.
    fn swap_slot(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: &Change,
        also: Option<&Beside>,
    ) -> Swap {
        let mut swap = Swap::Swapped;
        self.slots.entry(*key).and_compute_with(|found| {
            let found = found.map(moka::Entry::into_value);
            let mut old = found.as_ref().map(Kept::lock);
            let now = self.clock.now();
            let answer = match &mut old {
                None => answer(None, expected, change),
                Some(slot) => slot.swap(expected, change, also, now),
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
                        Slot::in_place_of(old.as_deref(), entry.clone(), *ttl, also, now);
                    Op::Put(Kept {
                        slot: Arc::new(Mutex::new(slot)),
                        hold,
                    })
                }
                // An end that is kept needs no other slot: this is a removal.
                Change::Put { ttl: Ttl::Keep, .. } | Change::Remove => Op::Remove,
            }
        });
        swap
    }

    fn claim_entry(
        &self,
        key: &Key,
        tag: &Tag,
        version: Version,
        lease: Duration,
    ) -> Option<Claim> {
        let take = |slot: &mut Slot| slot.claim(tag, version, lease, self.clock.now());
        if let Some(claim) = self.slots.get(key)?.write(take) {
            return claim;
        }
        // Another slot is about to take its place: wait for that one.
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

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("entries", &self.slots.entry_count())
            .finish_non_exhaustive()
    }
}

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
        also: Option<Beside>,
    ) -> Result<Swap, StoreError> {
        Ok(self.swap_entry(key, expected, &change, also.as_ref()))
    }

    async fn beside(&self, key: &Key, name: &Name) -> Result<Option<Bytes>, StoreError> {
        Ok(self
            .slots
            .get(key)
            .and_then(|kept| kept.lock().beside(name, self.clock.now())))
    }

    async fn claim(
        &self,
        key: &Key,
        tag: &Tag,
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

/// What the cache holds, and how long it has to.
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
        // Nothing that can panic stands between two writes that belong together.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes back the place of what has expired. Whether an entry is there, its own end decides.
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
