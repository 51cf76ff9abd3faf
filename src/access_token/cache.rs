//! The cache of an `AccessLayer`.
//!
//! It holds two things: tokens that were found valid, for a short time, and the keys of grants and
//! tokens that have ended. A lookup checks the valid tokens first and the ended keys second. So the
//! order in which an announcement arrives and a read of the store completes does not matter: a read
//! that began before the end may insert its token, but the ended key rejects it.
//!
//! For this, an ended key must be kept at least as long as any token that was read before the end.
//! A token is valid for the time to live *from the start of its read*. An ended key is kept for
//! longer than that, from the arrival of the announcement. A read that starts later finds the end
//! in the store.
//!
//! If an announcement may have been missed, the epoch is increased. Tokens whose read began in an
//! earlier epoch are no longer valid.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use moka::sync;

use crate::access_token::grant::AccessGrant;
use crate::access_token::open::OpenResponses;
use crate::clock::Timestamp;
use crate::grant::GrantKey;
use crate::store::Key;

/// The time that an ended key is kept beyond the time to live of tokens. The two clocks of a
/// process differ by less.
const MARGIN: Duration = Duration::from_secs(1);

/// The largest number of ended keys. If it is exceeded, all cached tokens become invalid instead.
const MOST_ENDED: u64 = 100_000;

/// The memory of one cached token in addition to its [`AccessGrant`], in bytes: measured, including
/// the allocator's share.
const OVERHEAD: usize = 385;

#[derive(Debug)]
pub(crate) struct Cache {
    alive: sync::Cache<Key, ValidToken>,
    ended: sync::Cache<Key, ()>,
    /// The time for which a read is valid.
    pub(crate) ttl: Duration,
    /// The registry of open responses, which end with their tokens.
    pub(crate) open: Arc<OpenResponses>,
}

/// A token that a read found valid.
#[derive(Clone, Debug)]
pub(crate) struct ValidToken {
    pub(crate) grant: AccessGrant,
    pub(crate) confirmed: Confirmed,
}

/// The result of a read that found a token valid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Confirmed {
    /// The start of the read of the oldest part of the result.
    pub(crate) began: Instant,
    pub(crate) epoch: u64,
    /// The expiry of the token or of its grant, whichever comes first.
    pub(crate) until: Timestamp,
}

/// The result of a lookup in the cache.
#[derive(Debug)]
pub(crate) enum Found {
    Nothing,
    /// The token or its grant has ended. Holds the properties of the token if they are still
    /// cached.
    Ended(Option<AccessGrant>),
    Alive(ValidToken),
}

impl Confirmed {
    /// Returns the result of a read that used epochs of this age when it began. They count as a
    /// part of the read, so it began when they were read. `epoch` is that of the cache before the
    /// read.
    pub(crate) fn new(began: Instant, epochs_age: Duration, epoch: u64, until: Timestamp) -> Self {
        Self {
            began: began.checked_sub(epochs_age).unwrap_or(began),
            epoch,
            until,
        }
    }
}

impl Cache {
    /// Creates a cache of `bytes` bytes whose tokens are valid for `ttl`.
    pub(crate) fn new(bytes: u64, ttl: Duration) -> Self {
        let alive = sync::Cache::builder()
            .max_capacity(bytes)
            .weigher(|_, token: &ValidToken| {
                u32::try_from(token.grant.size() + OVERHEAD).unwrap_or(u32::MAX)
            })
            .time_to_live(ttl)
            .build();
        let open = Arc::<OpenResponses>::default();
        let overflow = Arc::clone(&open);
        let ended = sync::Cache::builder()
            .max_capacity(MOST_ENDED)
            // The default policy prefers old entries over new ones.
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(move |_, (), cause| {
                if cause == RemovalCause::Size {
                    overflow.lose();
                }
            })
            .time_to_live(ttl.saturating_add(MARGIN))
            .build();
        Self {
            alive,
            ended,
            ttl,
            open,
        }
    }

    /// Looks up the token under `key`.
    pub(crate) fn find(&self, key: &Key, now: Timestamp) -> Found {
        if let Some(found) = self.alive.get(key)
            && found.confirmed.epoch == self.open.epoch()
            && now < found.confirmed.until
            && found.confirmed.began.elapsed() < self.ttl
        {
            if self.has_ended(key, &found.grant) {
                return Found::Ended(Some(found.grant));
            }
            return Found::Alive(found);
        }
        if self.ended.contains_key(key) {
            Found::Ended(None)
        } else {
            Found::Nothing
        }
    }

    /// Returns whether the token under `key` or its grant is known to have ended.
    pub(crate) fn has_ended(&self, key: &Key, grant: &AccessGrant) -> bool {
        let ends = |grant: GrantKey| self.ended.contains_key(grant.key());
        self.ended.contains_key(key) || grant.grant().is_some_and(ends)
    }

    /// Inserts a token that a read found valid, unless the read is already too old.
    pub(crate) fn enter(&self, key: Key, token: ValidToken) {
        if token.confirmed.began.elapsed() < self.ttl {
            self.alive.insert(key, token);
        }
    }

    /// Records that the token or the grant under `key` has ended.
    pub(crate) fn end(&self, key: Key) {
        self.ended.insert(key, ());
        self.alive.invalidate(&key);
        // This comes last: a response that registers later finds the ended key that was inserted
        // above.
        self.open.end(&key);
    }

    /// Invalidates all cached tokens, because announcements may have been missed.
    pub(crate) fn forget(&self) {
        self.open.lose();
        self.alive.invalidate_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_is_as_old_as_the_epochs_that_it_used() {
        let now = Instant::now();
        let until = Timestamp::from_millis(1);
        let began = |age| Confirmed::new(now, age, 0, until).began;
        let age = Duration::from_millis(300);
        assert_eq!(now - began(age), age);
        assert_eq!(began(Duration::ZERO), now);
    }
}
