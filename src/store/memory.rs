use std::fmt;
use std::hash::RandomState;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use moka::ops::compute::{CompResult, Op};
use moka::sync::Cache;

use super::{Beside, Change, Claim, Entry, Key, Lease, Name, Store, StoreError, Swap, Tag, Ttl, Version};
use crate::clock::{Clock, SystemClock, Timestamp};

/// Grants in the memory of this process: for a server that runs as one instance, and for tests.
///
/// Every grant is lost when the process ends. There is no bound on their number; each goes away at its end. Clones are
/// the same store.
#[derive(Clone)]
pub struct MemoryStore {
    slots: Cache<Key, Slot, RandomState>,
    clock: Arc<dyn Clock>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(SystemClock)
    }

    /// An empty store that goes by this clock: the ends of entries and of leases move with it.
    #[must_use]
    pub fn with_clock(clock: impl Clock) -> Self {
        let slots = Cache::builder().expire_after(Reclaim).build();
        Self { slots, clock: Arc::new(clock) }
    }

    /// About how many entries there are; expired ones count until they are reclaimed.
    #[must_use]
    pub fn entry_count(&self) -> u64 {
        self.slots.entry_count()
    }

    fn live(&self, key: &Key) -> Option<Slot> {
        self.slots.get(key).filter(|slot| slot.expires_at > self.clock.now())
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("entry_count", &self.entry_count()).finish_non_exhaustive()
    }
}

/// An entry with what lies beside it.
#[derive(Clone)]
struct Slot {
    entry: Entry,
    expires_at: Timestamp,
    beside: Vec<(Name, Bytes, Timestamp)>,
    /// How long the slot had to live when it was written.
    ttl: Duration,
}

impl Slot {
    fn lay_beside(&mut self, also: Option<Beside>, now: Timestamp) {
        self.beside.retain(|(_, _, end)| *end > now);
        if let Some(Beside { name, value, ttl }) = also {
            self.beside.retain(|(other, ..)| *other != name);
            self.beside.push((name, value, now.saturating_add(ttl)));
        }
    }
}

/// Gives the memory of expired slots back. What has expired is decided by the store's own clock, on every read.
struct Reclaim;

impl moka::Expiry<Key, Slot> for Reclaim {
    fn expire_after_create(&self, _: &Key, slot: &Slot, _: Instant) -> Option<Duration> {
        Some(slot.ttl)
    }

    fn expire_after_update(&self, _: &Key, slot: &Slot, _: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(slot.ttl)
    }
}

impl Store for MemoryStore {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        Ok(self.live(key).map(|slot| slot.entry))
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
        also: Option<Beside>,
    ) -> Result<Swap, StoreError> {
        let now = self.clock.now();
        let mut outcome = Swap::Swapped;
        self.slots.entry(*key).and_compute_with(|found| {
            let found = found.map(moka::Entry::into_value).filter(|slot| slot.expires_at > now);
            let version = found.as_ref().map(|slot| slot.entry.version);
            let done = match &change {
                Change::Put { entry, .. } => version == Some(entry.version),
                Change::Remove => version.is_none(),
            };
            if done {
                return Op::Nop;
            }
            if version != expected {
                outcome = Swap::Conflict(found.map(|slot| slot.entry));
                return Op::Nop;
            }
            let Change::Put { entry, ttl } = change else { return Op::Remove };
            let kept = found.as_ref().map(|slot| slot.expires_at);
            let expires_at = match (ttl, kept) {
                (Ttl::Keep, Some(kept)) => kept,
                (Ttl::Keep, None) => return Op::Nop,
                (Ttl::After(ttl), _) => now.saturating_add(ttl),
            };
            let beside = found.map(|slot| slot.beside).unwrap_or_default();
            let mut slot = Slot { entry, expires_at, beside, ttl: expires_at.saturating_since(now) };
            slot.lay_beside(also, now);
            Op::Put(slot)
        });
        Ok(outcome)
    }

    async fn beside(&self, key: &Key, name: &Name) -> Result<Option<Bytes>, StoreError> {
        let now = self.clock.now();
        let slot = self.live(key);
        let found = slot.and_then(|slot| slot.beside.into_iter().find(|(other, _, end)| other == name && *end > now));
        Ok(found.map(|(_, value, _)| value))
    }

    async fn claim(
        &self,
        key: &Key,
        tag: &Tag,
        version: Version,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        let now = self.clock.now();
        let mut outcome = Lease::Taken;
        let result = self.slots.entry(*key).and_compute_with(|found| {
            let Some(mut slot) = found.map(moka::Entry::into_value).filter(|slot| slot.expires_at > now) else {
                return Op::Nop;
            };
            if slot.entry.version == version {
                return Op::Nop;
            }
            let left = slot.entry.lease.map(|end| end.saturating_since(now)).filter(|left| !left.is_zero());
            outcome = match left {
                _ if slot.entry.tag != *tag => Lease::OtherTag(left),
                Some(left) => Lease::Held(left),
                None => Lease::Taken,
            };
            if outcome != Lease::Taken {
                return Op::Nop;
            }
            slot.entry.version = version;
            slot.entry.lease = Some(now.saturating_add(lease));
            slot.ttl = slot.expires_at.saturating_since(now);
            Op::Put(slot)
        });
        let slot = match result {
            CompResult::Inserted(found) | CompResult::ReplacedWith(found) | CompResult::Unchanged(found) => {
                found.into_value()
            }
            CompResult::StillNone(_) | CompResult::Removed(_) => return Ok(None),
        };
        Ok(Some(slot).filter(|slot| slot.expires_at > now).map(|slot| Claim::new(outcome, slot.entry)))
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
