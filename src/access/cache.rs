//! What one process remembers of access tokens.
//!
//! Two things are remembered: tokens that were found alive, for a short time, and keys of grants
//! and tokens that have ended. Every look at the first is followed by one at the second, so that it
//! makes no difference in which order an end is heard of and a load that was begun before it is
//! finished: what the load brings is entered, and refused. The memory of an end therefore has to
//! last as long as anything that was read before it, and does: what is found alive is good for the
//! time to live *from the beginning of its load*, an end is remembered for longer from when it is
//! heard of, and whatever is read afterwards is read from a store in which it has ended.
//!
//! If anything may have been missed, what was loaded or begins to be loaded before that counts no
//! more: it has an older epoch.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use moka::sync;

use super::grant::AccessGrant;
use super::open::OpenResponses;
use crate::clock::Timestamp;
use crate::store::Key;

/// How much longer an end is remembered than what it puts an end to: two clocks of one process
/// differ by less.
const MARGIN: Duration = Duration::from_secs(1);

/// How many ends are remembered. If there are more in that short time, everything is forgotten
/// instead.
const MOST_ENDED: u64 = 100_000;

/// What remembering one token takes beside its [`AccessGrant`]: measured, the allocator's share
/// included.
const OVERHEAD: usize = 385;

/// A key is the hash of a secret. Nobody can choose many that collide and are alive.
type Hashed = BuildHasherDefault<FirstBytes>;

#[derive(Default)]
struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes
            .first_chunk::<32>()
            .and_then(|bytes| bytes.first_chunk())
        {
            self.0 = u64::from_ne_bytes(*first);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Debug)]
pub(crate) struct Cache {
    alive: sync::Cache<Key, Remembered, Hashed>,
    ended: sync::Cache<Key, (), Hashed>,
    epoch: Arc<AtomicU64>,
    ttl: Duration,
    open: Arc<OpenResponses>,
}

#[derive(Clone, Debug)]
struct Remembered {
    grant: AccessGrant,
    confirmed: Confirmed,
}

/// A token that a read found alive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Confirmed {
    /// The start of that read.
    pub(crate) began: Instant,
    pub(crate) epoch: u64,
    /// The end of the token unless it is ended earlier: its expiry, or that of its grant.
    pub(crate) until: Timestamp,
}

/// What is remembered of a token.
#[derive(Debug)]
pub(crate) enum Found {
    Nothing,
    /// It has ended; with what it was good for, if that is remembered as well.
    Ended(Option<AccessGrant>),
    Alive(AccessGrant, Confirmed),
}

/// A read from the store that has begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    began: Instant,
    epoch: u64,
}

impl Load {
    /// Begins a read without a cache.
    pub(crate) fn without_cache() -> Self {
        Self {
            began: Instant::now(),
            epoch: 0,
        }
    }

    /// Returns the result of a read that found the token alive.
    pub(crate) const fn confirmed(self, until: Timestamp) -> Confirmed {
        Confirmed {
            began: self.began,
            epoch: self.epoch,
            until,
        }
    }
}

impl Cache {
    /// Remembers as many tokens as fit into so many bytes, for so long.
    pub(crate) fn new(bytes: u64, ttl: Duration) -> Self {
        let alive = sync::Cache::builder()
            .max_capacity(bytes)
            .weigher(|_, remembered: &Remembered| {
                u32::try_from(remembered.grant.size() + OVERHEAD).unwrap_or(u32::MAX)
            })
            .time_to_live(ttl)
            .build_with_hasher(Hashed::default());
        let epoch = Arc::new(AtomicU64::new(0));
        let open = Arc::<OpenResponses>::default();
        let overflow = (Arc::clone(&epoch), Arc::clone(&open));
        let ended = sync::Cache::builder()
            .max_capacity(MOST_ENDED)
            // The default policy would rather not admit what is new.
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(move |_, (), cause| {
                if cause == RemovalCause::Size {
                    overflow.0.fetch_add(1, Ordering::AcqRel);
                    overflow.1.lose();
                }
            })
            .time_to_live(ttl.saturating_add(MARGIN))
            .build_with_hasher(Hashed::default());
        Self {
            alive,
            ended,
            epoch,
            ttl,
            open,
        }
    }

    /// What is remembered of the token under `key`.
    pub(crate) fn find(&self, key: &Key, now: Timestamp) -> Found {
        if let Some(found) = self.alive.get(key)
            && found.confirmed.epoch == self.epoch()
            && now < found.confirmed.until
            && found.confirmed.began.elapsed() < self.ttl
        {
            if self.has_ended(key) || self.home_has_ended(&found.grant) {
                return Found::Ended(Some(found.grant));
            }
            return Found::Alive(found.grant, found.confirmed);
        }
        if self.has_ended(key) {
            Found::Ended(None)
        } else {
            Found::Nothing
        }
    }

    /// Whether it is remembered that what is under `key` has ended.
    pub(crate) fn has_ended(&self, key: &Key) -> bool {
        self.ended.contains_key(key)
    }

    /// Whether it is remembered that the grant has ended that this token belongs to.
    pub(crate) fn home_has_ended(&self, grant: &AccessGrant) -> bool {
        grant
            .grant()
            .is_some_and(|grant| self.has_ended(grant.key()))
    }

    /// To be called before a read from the store.
    pub(crate) fn begin(&self) -> Load {
        Load {
            began: Instant::now(),
            epoch: self.epoch(),
        }
    }

    /// Remembers what was read.
    pub(crate) fn enter(&self, key: Key, grant: AccessGrant, confirmed: Confirmed) {
        if confirmed.began.elapsed() < self.ttl {
            self.alive.insert(key, Remembered { grant, confirmed });
        }
    }

    /// Returns how many times announcements may have been missed.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The responses that end with their tokens.
    pub(crate) const fn open(&self) -> &Arc<OpenResponses> {
        &self.open
    }

    /// What is under `key` has ended.
    pub(crate) fn end(&self, key: Key) {
        self.ended.insert(key, ());
        self.alive.invalidate(&key);
        // This comes last: a response that registers from now on finds the end that was stored
        // above.
        self.open.end(&key);
    }

    /// Anything may have been missed.
    pub(crate) fn forget(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.alive.invalidate_all();
        self.open.lose();
    }
}
