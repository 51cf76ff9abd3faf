//! The record of a grant, what is decided from it, and what becomes of it: pure.

mod decide;
mod encoding;
mod key;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

pub(crate) use self::decide::{Presented, Standing, Verdict, decide, may_replay, without_answer};
pub use self::key::{GrantKey, InvalidGrantKey};
use crate::clock::Timestamp;
use crate::fields::Utf8;
use crate::store::Tag;

/// A clock that is set is not before this: 1 January 2026.
const EARLIEST: Timestamp = Timestamp::from_millis(1_767_225_600_000);

/// How far a clock that is set may be ahead of another instance. Within this time the later clock
/// counts: if the earlier one counted and was wrong, sessions would end.
const MAX_AHEAD: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

/// The longest time that the entry of an expired grant is kept.
const LONGEST_KEPT: Duration = Duration::from_secs(3600);

/// One authorization given to one client. The hash of its current token is the tag of its entry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) binding: Binding,
    pub(crate) created_at: Timestamp,
    /// The time of the last rotation; absent in records of the first version.
    pub(crate) rotated_at: Option<Timestamp>,
    /// What the upstream said of the life of the newest upstream token.
    pub(crate) upstream_end: Option<Timestamp>,
    pub(crate) expires_at: Timestamp,
    /// How often the grant was rotated; a recovery counts as two.
    pub(crate) generation: u32,
    /// The upstream token, sealed for the current token.
    pub(crate) sealed: Bytes,
    pub(crate) previous: Option<Previous>,
    /// Ended by a revocation that the upstream has not confirmed.
    pub(crate) ended: bool,
    /// Fields of later versions, kept as they are.
    pub(crate) unknown: Vec<(u8, Bytes)>,
}

/// What is fixed when a grant begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Binding {
    pub(crate) client_id: Utf8,
    /// The scope granted, if known (RFC 6749 §3.3).
    pub(crate) scope: Option<Utf8>,
    /// The resources granted; none if not known (RFC 8707).
    pub(crate) resources: Vec<Utf8>,
    pub(crate) absolute_end: Option<Timestamp>,
}

/// The token that was rotated away last.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Previous {
    pub(crate) hash: Tag,
    pub(crate) retry_until: Timestamp,
    pub(crate) recover_until: Timestamp,
    /// The upstream token sealed for it; gone once its successor was presented, and with it replay
    /// and recovery.
    pub(crate) sealed: Option<Bytes>,
}

impl Previous {
    /// The token that is rotated away now.
    pub(crate) fn new(hash: Tag, now: Timestamp, windows: Windows, sealed: Option<Bytes>) -> Self {
        let mut previous = Self {
            hash,
            retry_until: now,
            recover_until: now,
            sealed,
        };
        previous.begin(now, windows);
        previous
    }

    /// Begins its windows now.
    pub(crate) fn begin(&mut self, now: Timestamp, windows: Windows) {
        self.retry_until = now.saturating_add(windows.retry);
        self.recover_until = now.saturating_add(windows.recovery);
    }
}

/// How long after a rotation the previous token is still good for something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    pub(crate) retry: Duration,
    pub(crate) recovery: Duration,
}

/// What a rotation brings to the record.
#[derive(Debug)]
pub(crate) struct Rotated {
    pub(crate) now: Timestamp,
    pub(crate) generation: u32,
    pub(crate) sealed: Bytes,
    pub(crate) previous: Previous,
    pub(crate) idle_lifetime: Duration,
    /// Whether the answer brought a new upstream token.
    pub(crate) renewed: bool,
    /// What the answer said of its life.
    pub(crate) upstream_lifetime: Option<Duration>,
}

impl Binding {
    /// Returns whether the grant has reached its absolute end. An end that was written by an
    /// instance whose clock was not set is ignored.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        self.absolute_end
            .is_some_and(|end| now >= end && (end >= EARLIEST || now < EARLIEST))
    }

    /// When a grant ends that is renewed now.
    fn expires_at(
        &self,
        now: Timestamp,
        idle: Duration,
        upstream_end: Option<Timestamp>,
    ) -> Timestamp {
        let idle_end = now.saturating_add(idle);
        [self.absolute_end, upstream_end]
            .into_iter()
            .flatten()
            .fold(idle_end, Timestamp::min)
    }
}

impl Record {
    /// The record of a grant that begins now.
    pub(crate) fn begin(
        binding: Binding,
        sealed: Bytes,
        now: Timestamp,
        idle_lifetime: Duration,
        upstream_lifetime: Option<Duration>,
    ) -> Self {
        let upstream_end = upstream_lifetime.map(|lifetime| now.saturating_add(lifetime));
        let expires_at = binding.expires_at(now, idle_lifetime, upstream_end);
        Self {
            binding,
            created_at: now,
            rotated_at: None,
            upstream_end,
            expires_at,
            generation: 0,
            sealed,
            previous: None,
            ended: false,
            unknown: Vec::new(),
        }
    }

    /// Returns when an instance last wrote the times of the record, by that instance's clock.
    pub(crate) fn written_at(&self) -> Timestamp {
        self.rotated_at.map_or(self.created_at, |rotated_at| {
            rotated_at.max(self.created_at)
        })
    }

    /// Returns the time of a request that comes at `now`: not earlier than the record was written.
    ///
    /// Every end is computed from it. Otherwise an instance whose clock is behind would write ends
    /// that have already passed for the others.
    pub(crate) fn time(&self, now: Timestamp) -> Timestamp {
        now.max(self.written_at())
    }

    /// Returns the record as an instance must read it at `now`.
    ///
    /// A record that was written before the crate existed, or more than 20 years from now, comes
    /// from an instance whose clock was not set. Its times are moved as if it was written now:
    /// otherwise the grant would be over for every other instance, or its windows would stay open
    /// for years. Its time to live in the store still ends it. An instance whose own clock is not
    /// set moves no times.
    pub(crate) fn at(mut self, now: Timestamp) -> Self {
        let unset = |time: Timestamp| time < EARLIEST || time > now.saturating_add(MAX_AHEAD);
        let written = self.written_at();
        if now < EARLIEST || !unset(written) {
            return self;
        }
        let moved = |time: Timestamp, from: Timestamp| match time < from {
            true => time,
            false => now.saturating_add(time.saturating_since(from)),
        };
        // The absolute end was set by the clock of the instance with which the grant began.
        if unset(self.created_at) {
            self.binding.absolute_end = self
                .binding
                .absolute_end
                .map(|end| moved(end, self.created_at));
            self.created_at = now;
        }
        self.rotated_at = self.rotated_at.map(|time| moved(time, written));
        self.upstream_end = self.upstream_end.map(|time| moved(time, written));
        self.expires_at = moved(self.expires_at, written);
        if let Some(previous) = &mut self.previous {
            previous.retry_until = moved(previous.retry_until, written);
            previous.recover_until = moved(previous.recover_until, written);
        }
        self
    }

    /// The generation of the token that a rotation mints.
    ///
    /// A recovery leaves one out: the successor that it drops is then older than the previous
    /// token, and whoever presents it is taken for what they are.
    pub(crate) const fn next_generation(&self, recovery: bool) -> u32 {
        self.generation.saturating_add(if recovery { 2 } else { 1 })
    }

    /// The record after a rotation.
    pub(crate) fn rotated(&self, rotated: Rotated) -> Self {
        let Rotated {
            now,
            generation,
            sealed,
            previous,
            idle_lifetime,
            renewed,
            upstream_lifetime,
        } = rotated;
        let now = self.time(now);
        let upstream_end = match upstream_lifetime {
            Some(lifetime) => Some(now.saturating_add(lifetime)),
            None if renewed => None,
            None => self.upstream_end,
        };
        let expires_at = self.binding.expires_at(now, idle_lifetime, upstream_end);
        Self {
            binding: self.binding.clone(),
            created_at: self.created_at,
            rotated_at: Some(now),
            upstream_end,
            expires_at,
            generation,
            sealed,
            previous: Some(previous),
            ended: false,
            unknown: self.unknown.clone(),
        }
    }

    /// The record once its current token was presented: the holder of the previous one has the
    /// successor.
    pub(crate) fn presented(mut self) -> Self {
        if let Some(previous) = &mut self.previous {
            previous.sealed = None;
        }
        self
    }

    /// The record of a grant whose revocation the upstream has not confirmed, kept until `until`
    /// for the client to try again.
    pub(crate) fn ended(mut self, until: Timestamp) -> Self {
        self.ended = true;
        self.expires_at = self.expires_at.min(until);
        self
    }

    /// Whether the upstream token can be had with the token of this hash, `current` being that of
    /// the current one.
    pub(crate) fn opens_with(&self, hash: &Tag, current: &Tag) -> bool {
        let previous = || {
            self.previous
                .as_ref()
                .filter(|previous| previous.sealed.is_some())
        };
        hash == current || previous().is_some_and(|previous| previous.hash == *hash)
    }

    /// Returns how long the grant still lives, at least a millisecond.
    pub(crate) fn time_to_live(&self, now: Timestamp) -> Duration {
        self.expires_at
            .saturating_since(self.time(now))
            .max(Duration::from_millis(1))
    }

    /// Returns the time to live of its entry: longer than that of the grant, so that its tokens are
    /// known to have expired. It is longer by half, and by an hour at most.
    pub(crate) fn kept(&self, now: Timestamp) -> Duration {
        let left = self.time_to_live(now);
        left.saturating_add((left / 2).min(LONGEST_KEPT))
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("binding", &self.binding)
            .field("generation", &self.generation)
            .field("expires_at", &self.expires_at)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Previous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Previous")
            .field("retry_until", &self.retry_until)
            .field("recover_until", &self.recover_until)
            .finish_non_exhaustive()
    }
}
