use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::clock::{CENTURY, Timestamp};
use crate::store::decide::{self, MAX_SIDECARS};
use crate::store::{Change, Claim, ClaimTag, Entry, Key, Sidecar, SidecarName, Swap, Ttl, Version};

/// The most expired entries that one claim or swap removes, so that no call takes long.
const PORTION: usize = 64;

/// A part of the entries of a store.
#[derive(Default)]
pub(super) struct Shard {
    slots: HashMap<Key, Slot>,
    /// The keys in the order in which their memory is freed.
    queue: BTreeSet<(Instant, Key)>,
}

/// An entry with its sidecars.
struct Slot {
    entry: Entry,
    end: Timestamp,
    /// The oldest first.
    sidecars: VecDeque<(SidecarName, Bytes, Timestamp)>,
    /// The time at which its memory is freed. The clock of the store does not influence it.
    freed_at: Instant,
}

impl Shard {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn entry(&self, key: &Key, now: Timestamp) -> Option<&Entry> {
        self.live(key, now).map(|slot| &slot.entry)
    }

    pub(super) fn sidecar(&self, key: &Key, name: &SidecarName, now: Timestamp) -> Option<Bytes> {
        let mut sidecars = self.live(key, now)?.sidecars.iter();
        let found = sidecars.find(|(known, _, end)| known == name && *end > now);
        found.map(|(_, value, _)| value.clone())
    }

    pub(super) fn claim(
        &mut self,
        key: &Key,
        tag: &ClaimTag,
        version: Version,
        lease: Duration,
        now: Timestamp,
    ) -> Option<Claim> {
        self.free_expired(PORTION);
        let slot = self.slots.get_mut(key).filter(|slot| slot.end > now)?;
        Some(decide::claim(&mut slot.entry, tag, version, lease, now))
    }

    pub(super) fn swap(
        &mut self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
        sidecars: &[Sidecar],
        now: Timestamp,
    ) -> Swap {
        self.free_expired(PORTION);
        let live = self.slots.get_mut(key).filter(|slot| slot.end > now);
        let current = live.as_deref().map(|slot| &slot.entry);
        if let Some(answer) = decide::swap(current, expected, &change) {
            return answer;
        }
        let Change::Put { mut entry, ttl } = change else {
            self.remove(key);
            return Swap::Swapped;
        };
        // A copy of exactly its size: the buffer of an encoded record is larger.
        entry.value = Bytes::copy_from_slice(&entry.value);
        let slot = match live {
            Some(slot) => {
                slot.entry = entry;
                slot
            }
            None => {
                self.remove(key);
                self.slots.entry(*key).or_insert(Slot {
                    entry,
                    end: now,
                    sidecars: VecDeque::new(),
                    freed_at: Instant::now(),
                })
            }
        };
        slot.put_sidecars(sidecars, now);
        if let Ttl::After(ttl) = ttl {
            slot.end = now.saturating_add(ttl);
            let moment = Instant::now();
            if !is_held_for(ttl, slot.freed_at.saturating_duration_since(moment)) {
                self.queue.remove(&(slot.freed_at, *key));
                slot.freed_at = moment + hold(ttl);
                self.queue.insert((slot.freed_at, *key));
            }
        }
        Swap::Swapped
    }

    /// Removes up to `most` entries whose memory can be freed.
    pub(super) fn free_expired(&mut self, most: usize) {
        let now = Instant::now();
        let held = self.slots.len();
        for _ in 0..most {
            let Some((_, key)) = self.queue.first().filter(|(at, _)| *at <= now).copied() else {
                break;
            };
            self.remove(&key);
        }
        if self.slots.len() < held {
            self.slots.shrink_to(2 * self.slots.len());
        }
    }

    fn live(&self, key: &Key, now: Timestamp) -> Option<&Slot> {
        self.slots.get(key).filter(|slot| slot.end > now)
    }

    fn remove(&mut self, key: &Key) {
        if let Some(slot) = self.slots.remove(key) {
            self.queue.remove(&(slot.freed_at, *key));
        }
    }
}

impl Slot {
    /// Writes these sidecars, and removes the expired ones.
    fn put_sidecars(&mut self, new: &[Sidecar], now: Timestamp) {
        let stays = |(known, _, end): &(SidecarName, Bytes, Timestamp)| {
            *end > now && new.iter().all(|sidecar| sidecar.name != *known)
        };
        self.sidecars.retain(stays);
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

/// Returns how long an entry that lives for `ttl` stays in memory: somewhat longer, so that most
/// rotations of a grant leave the queue as it is. It is bounded because an [`Instant`] is.
fn hold(ttl: Duration) -> Duration {
    let ttl = ttl.min(CENTURY);
    ttl + ttl / 16
}

/// Returns whether an entry whose memory is freed after `left` can live for `ttl`, and does not
/// stay in memory for much longer. `false` if `left` is zero: a new entry is not in the queue yet.
fn is_held_for(ttl: Duration, left: Duration) -> bool {
    let ttl = ttl.min(CENTURY);
    ttl < left && left / 2 <= ttl
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn put(shard: &mut Shard, number: u8, ttl: Ttl) -> BTreeSet<(Instant, Key)> {
        let expected = number.checked_sub(1).map(|last| Version::new([last; 8]));
        let tag = ClaimTag::new([1; 32]);
        let entry = Entry::new(Version::new([number; 8]), tag, Bytes::new());
        let (key, now) = (Key::new([1; 32]), Timestamp::from_millis(1_000_000));
        let change = Change::Put { entry, ttl };
        assert_eq!(shard.swap(&key, expected, change, &[], now), Swap::Swapped);
        assert_eq!((shard.len(), shard.queue.len()), (1, 1));
        shard.queue.clone()
    }

    #[test]
    fn a_rotation_changes_the_queue_only_if_the_time_to_live_changes_by_much() {
        let mut shard = Shard::default();
        let first = put(&mut shard, 0, Ttl::After(HOUR));
        for (number, ttl) in (1..).zip([
            Ttl::After(HOUR),
            Ttl::Keep,
            Ttl::After(HOUR * 2 / 3),
            Ttl::After(HOUR),
        ]) {
            assert_eq!(put(&mut shard, number, ttl), first, "{ttl:?}");
        }
        let later = put(&mut shard, 5, Ttl::After(HOUR * 2));
        assert!(later > first);
        assert!(put(&mut shard, 6, Ttl::After(HOUR / 2)) < first);
        assert!(put(&mut shard, 7, Ttl::After(Duration::MAX)) > later);
        // An entry that expires at once is in the queue, too.
        put(&mut Shard::default(), 0, Ttl::After(Duration::ZERO));
    }
}
