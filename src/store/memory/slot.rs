use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::clock::{CENTURY, Timestamp};
use crate::store::decide::{self, MAX_SIDECARS};
use crate::store::{Change, Claim, ClaimTag, Entry, Sidecar, SidecarName, Swap, Ttl, Version};

/// An entry in memory, with its sidecars.
pub(super) struct Slot {
    entry: Entry,
    end: Timestamp,
    /// The oldest first.
    sidecars: VecDeque<(SidecarName, Bytes, Timestamp)>,
    /// The time at which the cache drops this slot, by the clock of the cache.
    reclaimed_at: Instant,
    /// Whether another slot has replaced this one, or it was removed. A retired slot keeps its last
    /// state.
    retired: bool,
}

impl Slot {
    /// Creates the slot that replaces `old`. Also returns how long the cache must hold it.
    pub(super) fn in_place_of(
        old: Option<&Self>,
        entry: Entry,
        ttl: Duration,
        new: &[Sidecar],
        now: Timestamp,
    ) -> (Self, Duration) {
        let hold = hold(ttl);
        let sidecars = old
            .filter(|old| old.is_live(now))
            .map(|old| old.sidecars.clone())
            .unwrap_or_default();
        let end = now.saturating_add(ttl);
        let mut slot = Self {
            entry: compact(&entry),
            end,
            sidecars,
            reclaimed_at: Instant::now() + hold,
            retired: false,
        };
        slot.put_sidecars(new, now);
        (slot, hold)
    }

    pub(super) fn retire(&mut self) {
        self.retired = true;
    }

    pub(super) const fn is_retired(&self) -> bool {
        self.retired
    }

    pub(super) fn entry(&self, now: Timestamp) -> Option<&Entry> {
        self.is_live(now).then_some(&self.entry)
    }

    pub(super) fn sidecar(&self, name: &SidecarName, now: Timestamp) -> Option<Bytes> {
        let sidecar = self
            .sidecars
            .iter()
            .find(|(known, _, end)| known == name && *end > now);
        sidecar
            .filter(|_| self.is_live(now))
            .map(|(_, value, _)| value.clone())
    }

    pub(super) fn claim(
        &mut self,
        tag: &ClaimTag,
        version: Version,
        lease: Duration,
        now: Timestamp,
    ) -> Option<Claim> {
        if !self.is_live(now) {
            return None;
        }
        Some(decide::claim(&mut self.entry, tag, version, lease, now))
    }

    /// Returns the result of a swap if this slot can stay; the change is then made. `None` if the
    /// slot must be replaced or removed.
    pub(super) fn swap(
        &mut self,
        expected: Option<Version>,
        change: &Change,
        new: &[Sidecar],
        now: Timestamp,
    ) -> Option<Swap> {
        if let Some(answer) = decide::swap(self.entry(now), expected, change) {
            return Some(answer);
        }
        let Change::Put { entry, ttl } = change else {
            return None;
        };
        if !self.is_live(now) {
            return None;
        }
        if let Ttl::After(ttl) = *ttl {
            if !self.outlasts(ttl) {
                return None;
            }
            self.end = now.saturating_add(ttl);
        }
        self.entry = compact(entry);
        self.put_sidecars(new, now);
        Some(Swap::Swapped)
    }

    /// Returns whether the cache holds this slot for as long as an entry with `ttl` needs, and not
    /// for much longer.
    fn outlasts(&self, ttl: Duration) -> bool {
        let left = self.reclaimed_at.saturating_duration_since(Instant::now());
        ttl <= left && left / 2 <= ttl
    }

    fn is_live(&self, now: Timestamp) -> bool {
        self.end > now
    }

    /// Writes these sidecars, and removes the expired ones.
    fn put_sidecars(&mut self, new: &[Sidecar], now: Timestamp) {
        let stays = |(known, _, end): &(SidecarName, Bytes, Timestamp)| {
            *end > now && new.iter().all(|sidecar| sidecar.name != *known)
        };
        if !self.sidecars.iter().all(stays) {
            self.sidecars.retain(stays);
        }
        let surplus = (self.sidecars.len() + new.len()).saturating_sub(MAX_SIDECARS);
        self.sidecars.drain(..surplus);
        let new = new.iter().map(|Sidecar { name, value, ttl }| {
            let value = match value.len() {
                ..SHORT => Bytes::copy_from_slice(value),
                _ => value.clone(),
            };
            (*name, value, now.saturating_add(*ttl))
        });
        self.sidecars.extend(new);
        // A burst of rotations must not leave room for all of their sidecars behind.
        self.sidecars.shrink_to(2 * self.sidecars.len() + 4);
    }
}

/// The length below which the value of a sidecar is copied: it may be a part of a much larger
/// buffer, which it would keep alive.
const SHORT: usize = 256;

/// Returns a copy with a buffer of exactly its size: the buffer of an encoded record is larger.
fn compact(entry: &Entry) -> Entry {
    Entry {
        value: Bytes::copy_from_slice(&entry.value),
        ..entry.clone()
    }
}

/// Returns how long the cache holds an entry that lives for `ttl`. This is somewhat longer than
/// `ttl`, so that an entry that is renewed often seldom needs a new slot. It is bounded because an
/// [`Instant`] is.
fn hold(ttl: Duration) -> Duration {
    let ttl = ttl.min(CENTURY);
    ttl + ttl / 16
}
