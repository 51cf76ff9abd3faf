use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use moka::ops::compute::Op;
use moka::sync::Cache;

use super::store::CacheStats;
use crate::clock::CENTURY;
use crate::store::{ClaimTag, Entry, Hint, Key};

/// The memory of a fact besides the bytes of its value: its place in the table and the queues of
/// the cache, and the allocations of both. Measured as resident memory, and rounded up.
const OVERHEAD: u32 = 512;

/// The facts that one process remembers about the keys of a store, bounded in bytes and in age.
// Replies of the store may arrive in any order. A false `Gone` would refuse a valid request, so it
// must never be recorded for an entry that exists. A stored value refuses no valid request, however
// old it is. So a value always replaces `Gone`. `Gone` replaces a value only if that value was
// recorded before the call began that found no entry: a reply that was on its way since before an
// insert cannot hide the inserted entry. Every change goes through `and_compute_with`, which runs
// one closure at a time for a key.
//
// Three cases are not detected: an insert by another instance, an insert whose reply was lost, and
// a value that was evicted while a call was in flight. None of them can happen to the key of a
// grant. It is random, no other request knows it before its one insert has succeeded, and it is
// never inserted again after its entry is gone.
//
// A server that has lost writes (after a failover or a restored backup) may report a grant as
// absent and have it again later. `Gone` is then wrong for at most one time to live. If a server
// has lost a removal, the cache still reports the end for one time to live, which is correct.
pub(super) struct Facts {
    cache: Cache<Key, Fact>,
    /// The number of `Gone` in the cache. It is never less, so that zero spares a look-up.
    gone: Arc<AtomicUsize>,
    /// The number of values learnt so far. It serves as a logical clock.
    learnt: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Clone)]
enum Fact {
    Gone,
    Value {
        /// The logical time at which the store returned this value last.
        learnt: u64,
        tag: ClaimTag,
        value: Bytes,
    },
}

impl Fact {
    fn weight(&self) -> u32 {
        let value = match self {
            Self::Gone => 0,
            Self::Value { value, .. } => value.len(),
        };
        u32::try_from(value)
            .unwrap_or(u32::MAX)
            .saturating_add(OVERHEAD)
    }
}

/// The logical time at which a call of the store began.
#[derive(Clone, Copy)]
pub(super) struct Began(u64);

impl Facts {
    /// Creates the cache; `None` if its size or its time to live is zero.
    pub(super) fn new(max_bytes: u64, ttl: Duration) -> Option<Self> {
        if max_bytes == 0 || ttl.is_zero() {
            return None;
        }
        let gone = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&gone);
        let cache = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_, fact: &Fact| fact.weight())
            .time_to_live(ttl.min(CENTURY))
            // Also called for a fact that is replaced.
            .eviction_listener(move |_, fact, _| {
                if matches!(fact, Fact::Gone) {
                    counter.fetch_sub(1, Ordering::AcqRel);
                }
            })
            .build();
        Some(Self {
            cache,
            gone,
            learnt: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        })
    }

    pub(super) fn hint(&self, key: &Key) -> Option<Hint> {
        let hint = self.cache.get(key).map(|fact| match fact {
            Fact::Gone => Hint::Gone,
            Fact::Value { tag, value, .. } => Hint::Value { tag, value },
        });
        let count = if hint.is_some() {
            &self.hits
        } else {
            &self.misses
        };
        count.fetch_add(1, Ordering::Relaxed);
        hint
    }

    /// Returns the current logical time. Call it before a call of the store.
    pub(super) fn begin(&self) -> Began {
        Began(self.learnt.load(Ordering::Relaxed))
    }

    /// Records what a call that began at `began` found under `key`.
    pub(super) fn learn(&self, key: &Key, shown: Option<&Entry>, began: Began) {
        let Some(entry) = shown else {
            return self.learn_end(key, began);
        };
        // Copied, because the value may be a small slice of a large buffer, which it would keep
        // alive.
        let value = Bytes::copy_from_slice(&entry.value);
        self.cache.entry(*key).and_compute_with(|_| {
            Op::Put(Fact::Value {
                learnt: self.learnt.fetch_add(1, Ordering::Relaxed) + 1,
                tag: entry.tag,
                value,
            })
        });
    }

    fn learn_end(&self, key: &Key, began: Began) {
        self.cache
            .entry(*key)
            .and_compute_with(|found| match found.map(moka::Entry::into_value) {
                Some(Fact::Value { learnt, .. }) if learnt > began.0 => Op::Nop,
                Some(_) | None => {
                    self.gone.fetch_add(1, Ordering::AcqRel);
                    Op::Put(Fact::Gone)
                }
            });
    }

    /// Forgets that `key` has ended. Call it before an entry is put under `key`: the entry may
    /// exist even if the call fails.
    pub(super) fn forget_end(&self, key: &Key) {
        // Every rotation calls this, and few keys have ended.
        if self.gone.load(Ordering::Acquire) == 0
            || !matches!(self.cache.get(key), Some(Fact::Gone))
        {
            return;
        }
        self.cache
            .entry(*key)
            .and_compute_with(|found| match found.map(moka::Entry::into_value) {
                Some(Fact::Gone) => Op::Remove,
                Some(Fact::Value { .. }) | None => Op::Nop,
            });
    }

    /// Returns the state of the cache, after dropping what has expired.
    pub(super) fn stats(&self) -> CacheStats {
        self.cache.run_pending_tasks();
        CacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            entries: self.cache.entry_count(),
            bytes: self.cache.weighted_size(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Version;

    fn key(number: u32) -> Key {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        Key::new(bytes)
    }

    /// Returns the count of ends, and how many there are.
    fn gone(facts: &Facts) -> (usize, usize) {
        facts.cache.run_pending_tasks();
        let found = facts.cache.iter();
        let found = found.filter(|(_, fact)| matches!(fact, Fact::Gone)).count();
        (facts.gone.load(Ordering::Acquire), found)
    }

    #[test]
    fn ends_are_counted_until_they_are_forgotten_or_replaced() {
        let facts = Facts::new(1 << 20, CENTURY).unwrap();
        let entry = Entry::new(
            Version::new([1; 8]),
            ClaimTag::new([2; 32]),
            Bytes::from_static(b"a value"),
        );
        for number in 0..4 {
            facts.learn(&key(number), None, facts.begin());
            facts.learn(&key(number), None, facts.begin());
            assert_eq!(facts.hint(&key(number)), Some(Hint::Gone));
        }
        assert_eq!(gone(&facts), (4, 4));
        facts.learn(&key(0), Some(&entry), facts.begin());
        facts.forget_end(&key(1));
        facts.forget_end(&key(1));
        assert_eq!(gone(&facts), (2, 2));
        // A value that was recorded after the call began is not replaced.
        let began = facts.begin();
        facts.learn(&key(2), Some(&entry), began);
        facts.learn(&key(2), None, began);
        assert_eq!(gone(&facts), (1, 1));
        facts.forget_end(&key(3));
        assert_eq!(gone(&facts), (0, 0));
        assert_eq!(facts.hint(&key(3)), None);
    }

    #[test]
    fn ends_that_are_evicted_or_expired_are_not_counted() {
        let small = Facts::new(10 * u64::from(OVERHEAD), CENTURY).unwrap();
        for number in 0..1000 {
            small.learn(&key(number), None, small.begin());
        }
        let (counted, found) = gone(&small);
        assert_eq!(counted, found);
        assert!((1..=10).contains(&found), "{found}");

        let short = Facts::new(1 << 20, Duration::from_millis(1)).unwrap();
        for number in 0..100 {
            short.learn(&key(number), None, short.begin());
            short.learn(&key(number % 7), None, short.begin());
        }
        while gone(&short) != (0, 0) {
            std::thread::yield_now();
        }
    }
}
