use std::time::{Duration, Instant};

use bytes::Bytes;

use super::rules::{self, BESIDES, answer};
use super::{Beside, Change, Claim, Entry, Name, Swap, Tag, Ttl, Version};
use crate::clock::Timestamp;

/// An entry in memory with all that lies beside it.
pub(super) struct Slot {
    entry: Entry,
    end: Timestamp,
    besides: Vec<(Name, Bytes, Timestamp)>,
    /// When its place is taken back, by the clock of the cache.
    reclaimed_at: Instant,
    /// Whether it has lost its place to another, or to nothing. What it shows is then what held
    /// until that moment.
    retired: bool,
}

impl Slot {
    /// The slot that takes the place of `old`, and how long the cache has to hold it.
    pub(super) fn in_place_of(
        old: Option<&Self>,
        entry: Entry,
        ttl: Duration,
        also: Option<&Beside>,
        now: Timestamp,
    ) -> (Self, Duration) {
        let hold = hold(ttl);
        let besides = old
            .filter(|old| old.is_live(now))
            .map(|old| old.besides.clone())
            .unwrap_or_default();
        let end = now.saturating_add(ttl);
        let mut slot = Self {
            entry,
            end,
            besides,
            reclaimed_at: Instant::now() + hold,
            retired: false,
        };
        slot.put_beside(also, now);
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

    pub(super) fn beside(&self, name: &Name, now: Timestamp) -> Option<Bytes> {
        let beside = self
            .besides
            .iter()
            .find(|(known, _, end)| known == name && *end > now);
        beside
            .filter(|_| self.is_live(now))
            .map(|(_, value, _)| value.clone())
    }

    pub(super) fn claim(
        &mut self,
        tag: &Tag,
        version: Version,
        lease: Duration,
        now: Timestamp,
    ) -> Option<Claim> {
        if !self.is_live(now) {
            return None;
        }
        Some(rules::claim(&mut self.entry, tag, version, lease, now))
    }

    /// The answer to a swap, if it can be given without another slot in this one's place; the
    /// change is then made.
    pub(super) fn swap(
        &mut self,
        expected: Option<Version>,
        change: &Change,
        also: Option<&Beside>,
        now: Timestamp,
    ) -> Option<Swap> {
        if let Some(answer) = answer(self.entry(now), expected, change) {
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
        self.entry = entry.clone();
        self.put_beside(also, now);
        Some(Swap::Swapped)
    }

    /// Whether the place of the slot is held for as long as an entry needs that lives for `ttl`
    /// from now, and not for much longer.
    fn outlasts(&self, ttl: Duration) -> bool {
        let left = self.reclaimed_at.saturating_duration_since(Instant::now());
        ttl <= left && left / 2 <= ttl
    }

    fn is_live(&self, now: Timestamp) -> bool {
        self.end > now
    }

    fn put_beside(&mut self, also: Option<&Beside>, now: Timestamp) {
        self.besides.retain(|(_, _, end)| *end > now);
        if let Some(Beside { name, value, ttl }) = also {
            self.besides.retain(|(known, ..)| known != name);
            if self.besides.len() == BESIDES {
                self.besides.remove(0);
            }
            self.besides
                .push((*name, value.clone(), now.saturating_add(*ttl)));
        }
    }
}

/// How long the cache holds an entry that lives for `ttl`: somewhat longer, so that an entry that
/// is renewed again and again seldom has to move. Bounded, because an [`Instant`] is.
fn hold(ttl: Duration) -> Duration {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
    let ttl = ttl.min(CENTURY);
    ttl + ttl / 16
}
