use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use moka::ops::compute::Op;
use moka::sync::Cache;

use super::{Entry, Hint, Key, Tag};

/// What a fact takes up beside the bytes of its value: its place in the cache's table and queues,
/// and the allocations of both. Measured as resident memory, and rounded up.
const OVERHEAD: u32 = 512;

/// The cache takes no longer time to live than a thousand years.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// What one process knows of the keys of a store, bounded by bytes and by age.
// In whatever order the answers of the store arrive, an end may be known only of what has ended,
// since it refuses; a value refuses nobody who would be let in, however old it is. So a value
// always takes an end back, and an end takes the place of a value only if the value was known
// before the call that found nothing had begun: an answer that has been on its way since before an
// insert cannot hide what was inserted. Every change goes through `and_compute_with`, which runs
// one at a time for a key; that a value is still there is noted in the value, unless an end has
// been decided on.
//
// What this does not see is what another instance inserts, an insert whose answer was lost, and a
// value that was evicted while a call was under way. None of it can happen to the key of a grant:
// it is random, nobody knows it before its one insert has succeeded, and once it is absent nobody
// inserts it again.
//
// A server that has lost writes (a failover, a backup played back) may report a grant as absent and
// have it again later: the end stays known for one time to live at most. One that has lost a
// removal is contradicted for as long, and rightly.
pub(super) struct Known {
    facts: Cache<Key, Fact>,
    /// How many values were learnt: the only time that matters here.
    learnt: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Clone)]
enum Fact {
    Ended,
    Value(Arc<Value>),
}

struct Value {
    /// When it was shown last; [`ENDING`]: an end is about to take its place.
    learnt: AtomicU64,
    tag: Tag,
    value: Bytes,
}

/// No value is learnt so late.
const ENDING: u64 = u64::MAX;

impl Value {
    /// Notes that the entry was there at that time, unless an end is about to take the place of
    /// this.
    fn is_there(&self, learnt: u64) -> bool {
        let later = |last| (last != ENDING).then(|| learnt.max(last));
        self.learnt
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, later)
            .is_ok()
    }

    /// Whether it was not shown any more once a call had begun that found nothing.
    fn ends(&self, began: Began) -> bool {
        let end = |last| (last <= began.0 || last == ENDING).then_some(ENDING);
        self.learnt
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, end)
            .is_ok()
    }
}

impl Fact {
    fn weight(&self) -> u32 {
        let value = match self {
            Self::Ended => 0,
            Self::Value(known) => known.value.len(),
        };
        u32::try_from(value)
            .unwrap_or(u32::MAX)
            .saturating_add(OVERHEAD)
    }
}

/// When a call of the store began.
#[derive(Clone, Copy)]
pub(super) struct Began(u64);

impl Known {
    /// `None` if nothing can be known for any time or in any space.
    pub(super) fn new(max_bytes: u64, ttl: Duration) -> Option<Self> {
        if max_bytes == 0 || ttl.is_zero() {
            return None;
        }
        let facts = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_, fact: &Fact| fact.weight())
            .time_to_live(ttl.min(LONGEST))
            .build();
        Some(Self {
            facts,
            learnt: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        })
    }

    pub(super) fn hint(&self, key: &Key) -> Option<Hint> {
        let hint = self.facts.get(key).map(|fact| match fact {
            Fact::Ended => Hint::Ended,
            Fact::Value(known) => Hint::Value {
                tag: known.tag,
                value: known.value.clone(),
            },
        });
        let count = if hint.is_some() {
            &self.hits
        } else {
            &self.misses
        };
        count.fetch_add(1, Ordering::Relaxed);
        hint
    }

    /// To be called before a call of the store is made.
    pub(super) fn begin(&self) -> Began {
        Began(self.learnt.load(Ordering::Relaxed))
    }

    /// Takes in what a call that began then has shown under `key`.
    pub(super) fn learn(&self, key: &Key, shown: Option<&Entry>, began: Began) {
        match shown {
            Some(entry) => self.learn_value(key, entry),
            None => self.learn_end(key, began),
        }
    }

    /// Takes in what a rotation has left there. What never changes is known already, as a rule, and
    /// what does is not worth what it costs to write it again: that would be most of what the cache
    /// costs.
    pub(super) fn learn_again(&self, key: &Key, entry: &Entry) {
        self.learn_unless(key, entry, |_| true);
    }

    fn learn_value(&self, key: &Key, entry: &Entry) {
        self.learn_unless(key, entry, |known| {
            known.tag == entry.tag && known.value == entry.value
        });
    }

    /// Writes the value down, unless one is known that will do.
    fn learn_unless(&self, key: &Key, entry: &Entry, will_do: impl FnOnce(&Value) -> bool) {
        let learnt = self.learnt.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(Fact::Value(known)) = self.facts.get(key)
            && will_do(&known)
            && known.is_there(learnt)
        {
            return;
        }
        // A copy, for the value may be a small part of a large buffer, which it would keep alive.
        let value = Bytes::copy_from_slice(&entry.value);
        let fact = Fact::Value(Arc::new(Value {
            learnt: AtomicU64::new(learnt),
            tag: entry.tag,
            value,
        }));
        self.facts.entry(*key).and_compute_with(|_| Op::Put(fact));
    }

    fn learn_end(&self, key: &Key, began: Began) {
        self.facts
            .entry(*key)
            .and_compute_with(|found| match found.map(moka::Entry::into_value) {
                Some(Fact::Value(known)) if !known.ends(began) => Op::Nop,
                Some(_) | None => Op::Put(Fact::Ended),
            });
    }

    /// To be called before something is put under `key`: from then on it may be there, whatever the
    /// answer.
    pub(super) fn forget_end(&self, key: &Key) {
        if !matches!(self.facts.get(key), Some(Fact::Ended)) {
            return;
        }
        self.facts
            .entry(*key)
            .and_compute_with(|found| match found.map(moka::Entry::into_value) {
                Some(Fact::Ended) => Op::Remove,
                Some(Fact::Value(_)) | None => Op::Nop,
            });
    }

    pub(super) fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    pub(super) fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    /// How many facts there are and what they weigh, once what is due has been dropped.
    pub(super) fn size(&self) -> (u64, u64) {
        self.facts.run_pending_tasks();
        (self.facts.entry_count(), self.facts.weighted_size())
    }
}
