//! The contents of the store.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use tower_oauth_refresh::Timestamp;
use tower_oauth_refresh::store::{
    Change, Claim, ClaimTag, Entry, Key, Lease, Sidecar, SidecarName, Swap, Ttl, Version,
};

#[derive(Clone, Debug)]
pub(crate) enum Call {
    Get(Key),
    Swap(Key, Option<Version>, Change, Vec<Sidecar>),
    Sidecar(Key, SidecarName),
    Claim(Key, ClaimTag, Version, Duration),
}

#[derive(Debug)]
pub(crate) enum Answer {
    Entry(Option<Entry>),
    Swap(Swap),
    Sidecar(Option<Bytes>),
    Claim(Option<Claim>),
}

/// A change of an entry, for the ledger.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    /// The entry has a new tag: a grant has begun, or was rotated. The names are those of the
    /// sidecars.
    Committed(Key, ClaimTag, Vec<SidecarName>),
    /// The entry has the same tag and another expiry: a token converged, or a revocation is
    /// pending. The names are those of the sidecars.
    Converged(Key, Vec<SidecarName>),
    /// The response to a token from before the layer was stored.
    Adopted(Key),
    /// An access token was stored.
    Minted(Key),
    /// An index of the sessions of a user was written.
    Indexed(Key),
    /// The epochs were written.
    Epoch,
    /// The entry was removed: its grant has ended.
    Removed(Key),
    /// An expired lease was taken over by another request.
    TakenOver(Key),
}

/// Tags of entries that are not grants: of an adoption in progress, and of a completed one.
pub(crate) const UNDER_WAY: ClaimTag = ClaimTag::new([0; 32]);
pub(crate) const DONE: ClaimTag = ClaimTag::new([1; 32]);
/// The tag of every access token.
pub(crate) const ACCESS: ClaimTag = ClaimTag::new([2; 32]);
/// The tags of the entry of the epochs, and of the index of each user.
pub(crate) const EPOCHS: ClaimTag = ClaimTag::new([3; 32]);
pub(crate) const INDEX: ClaimTag = ClaimTag::new([4; 32]);

#[derive(Clone, Debug)]
struct Slot {
    entry: Entry,
    end: Timestamp,
    sidecars: BTreeMap<SidecarName, (Bytes, Timestamp)>,
}

/// The contents of the store, exactly as `Store` documents them.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    slots: BTreeMap<Key, Slot>,
    /// The previous value of each write, for a replica that has not received it.
    journal: Vec<(Timestamp, Key, Option<Slot>)>,
    /// The time by which the clock of the store is ahead.
    ahead: Duration,
    /// The time in which the store is unreachable.
    away: Option<Range<Duration>>,
}

impl Shelf {
    /// Makes the store unreachable from then on, for this long.
    pub(crate) fn go_away(&mut self, from: Duration, length: Duration) {
        self.away = Some(from..from + length);
    }

    /// Returns how much longer the store is unreachable, if it is.
    pub(crate) fn back_in(&self, elapsed: Duration) -> Option<Duration> {
        self.away
            .as_ref()
            .filter(|away| away.contains(&elapsed))
            .map(|away| away.end - elapsed)
    }

    pub(crate) fn now(&self, elapsed: Duration) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000).saturating_add(elapsed + self.ahead)
    }

    pub(crate) fn serve(&mut self, call: &Call, now: Timestamp) -> (Answer, Option<Effect>) {
        match call {
            Call::Get(key) => (
                Answer::Entry(self.live(key, now).map(|slot| slot.entry.clone())),
                None,
            ),
            Call::Sidecar(key, name) => {
                let found = self.live(key, now).and_then(|slot| slot.sidecars.get(name));
                (
                    Answer::Sidecar(
                        found
                            .filter(|(_, end)| *end > now)
                            .map(|(value, _)| value.clone()),
                    ),
                    None,
                )
            }
            Call::Claim(key, tag, version, lease) => {
                let (claim, effect) = self.claim(key, tag, *version, *lease, now);
                (Answer::Claim(claim), effect)
            }
            Call::Swap(key, expected, change, sidecars) => {
                let (swap, effect) = self.swap(key, *expected, change, sidecars, now);
                (Answer::Swap(swap), effect)
            }
        }
    }

    fn live(&self, key: &Key, now: Timestamp) -> Option<&Slot> {
        self.slots.get(key).filter(|slot| slot.end > now)
    }

    fn write(&mut self, key: Key, slot: Option<Slot>, now: Timestamp) {
        let old = match slot {
            Some(slot) => self.slots.insert(key, slot),
            None => self.slots.remove(&key),
        };
        self.journal.push((now, key, old));
    }

    fn claim(
        &mut self,
        key: &Key,
        tag: &ClaimTag,
        version: Version,
        lease: Duration,
        now: Timestamp,
    ) -> (Option<Claim>, Option<Effect>) {
        let Some(slot) = self.live(key, now) else {
            return (None, None);
        };
        let entry = slot.entry.clone();
        let held = entry
            .lease
            .map(|end| end.saturating_since(now))
            .filter(|left| !left.is_zero());
        let outcome = match held {
            _ if entry.version == version => Lease::Taken,
            held if entry.tag != *tag => Lease::OtherTag(held),
            Some(left) => Lease::Held(left),
            None => {
                let taken_over = entry.lease.is_some();
                let entry = Entry::new(version, *tag, entry.value)
                    .with_lease(Some(now.saturating_add(lease)));
                let slot = Slot {
                    entry: entry.clone(),
                    ..slot.clone()
                };
                self.write(*key, Some(slot), now);
                return (
                    Some(Claim::new(Lease::Taken, entry).taking_over(taken_over)),
                    taken_over.then_some(Effect::TakenOver(*key)),
                );
            }
        };
        (Some(Claim::new(outcome, entry)), None)
    }

    fn swap(
        &mut self,
        key: &Key,
        expected: Option<Version>,
        change: &Change,
        new: &[Sidecar],
        now: Timestamp,
    ) -> (Swap, Option<Effect>) {
        let current = self.live(key, now);
        let found = current.map(|slot| slot.entry.clone());
        let (entry, ttl) = match (&found, change) {
            (None, Change::Remove) => return (Swap::Swapped, None),
            (Some(found), Change::Put { entry, .. }) if found.version == entry.version => {
                return (Swap::Swapped, None);
            }
            _ if found.as_ref().map(|found| found.version) != expected => {
                return (Swap::Conflict(found), None);
            }
            (Some(found), Change::Remove) => {
                self.write(*key, None, now);
                let effect = match found.tag {
                    tag if [UNDER_WAY, ACCESS].contains(&tag) => None,
                    tag if tag == INDEX => Some(Effect::Indexed(*key)),
                    _ => Some(Effect::Removed(*key)),
                };
                return (Swap::Swapped, effect);
            }
            (_, Change::Put { entry, ttl }) => (entry.clone(), *ttl),
        };
        let end = match (ttl, current) {
            (Ttl::After(ttl), _) => now.saturating_add(ttl),
            (Ttl::Keep, Some(slot)) => slot.end,
            (Ttl::Keep, None) => return (Swap::Conflict(None), None),
        };
        let mut sidecars = current
            .map(|slot| slot.sidecars.clone())
            .unwrap_or_default();
        sidecars.retain(|_, (_, end)| *end > now);
        for Sidecar {
            name, value, ttl, ..
        } in new
        {
            sidecars.insert(*name, (value.clone(), now.saturating_add(*ttl)));
        }
        let tag = entry.tag;
        self.write(
            *key,
            Some(Slot {
                entry,
                end,
                sidecars,
            }),
            now,
        );
        let effect = match tag {
            tag if tag == UNDER_WAY => None,
            tag if tag == ACCESS => Some(Effect::Minted(*key)),
            tag if tag == INDEX => Some(Effect::Indexed(*key)),
            tag if tag == EPOCHS => Some(Effect::Epoch),
            tag if tag == DONE => Some(Effect::Adopted(*key)),
            tag => {
                let names = new.iter().map(|sidecar| sidecar.name).collect();
                match found {
                    Some(found) if found.tag == tag => {
                        (ttl != Ttl::Keep).then_some(Effect::Converged(*key, names))
                    }
                    _ => Some(Effect::Committed(*key, tag, names)),
                }
            }
        };
        (Swap::Swapped, effect)
    }

    /// Fails over to a replica without the latest writes and with another clock. Returns the
    /// affected keys, each with its current tag.
    pub(crate) fn fail_over(
        &mut self,
        writes: usize,
        since: Timestamp,
        ahead: Duration,
    ) -> Vec<(Key, Option<ClaimTag>)> {
        let mut keys = Vec::new();
        for _ in 0..writes {
            let Some((_, key, old)) = self.journal.pop_if(|(at, ..)| *at >= since) else {
                break;
            };
            match old {
                Some(slot) => self.slots.insert(key, slot),
                None => self.slots.remove(&key),
            };
            keys.push(key);
        }
        self.ahead = ahead;
        keys.into_iter()
            .map(|key| (key, self.slots.get(&key).map(|slot| slot.entry.tag)))
            .collect()
    }
}
