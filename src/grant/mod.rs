//! The record of a grant, and the rules by which the layer decides about a presented refresh token.
//!
//! This module is pure: it knows no store, no HTTP and no clock. Every function that depends on the
//! time takes `now`. The rules are in [`decide`](decide()): first the decision about a presented
//! token, then whether the stored answer of the last rotation decides between replay and recovery.

#![allow(unreachable_pub, reason = "`crate::fuzzing` exports some of it")]

mod decide;
mod encoding;
mod key;
#[cfg(test)]
mod tests;

use std::fmt;
use std::iter;
use std::time::Duration;

use bytes::Bytes;

pub(crate) use self::decide::{
    Presented, Proceed, Refusal, Standing, StoredGrant, Verdict, decide, may_replay, without_answer,
};
pub use self::key::{GrantKey, InvalidGrantKey};
use crate::clock::Timestamp;
use crate::codec::Utf8;
use crate::store::ClaimTag;

/// 1 January 2026. A clock that shows an earlier time has not been set.
const EARLIEST: Timestamp = Timestamp::from_millis(1_767_225_600_000);

/// If the clock of another instance is ahead of this one by more than this, it counts as not set.
/// Up to this limit, the later of the two clocks counts: if the earlier one counted and was wrong,
/// grants would end too early.
const MAX_AHEAD: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

/// The longest time that the entry of an expired grant is kept.
const LONGEST_KEPT: Duration = Duration::from_secs(3600);

/// The record of a grant: one authorization given to one client. The hash of its current token is
/// the tag of its entry.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    pub binding: Binding,
    pub(crate) created_at: Timestamp,
    /// The time of the last rotation; absent in records of the first version.
    pub(crate) rotated_at: Option<Timestamp>,
    /// When the newest upstream token expires, if the inner service named its lifetime.
    pub(crate) upstream_end: Option<Timestamp>,
    /// When the user's authorization ends at the inner service, if that named its lifetime.
    pub(crate) authorization_end: Option<Timestamp>,
    pub expires_at: Timestamp,
    /// The number of rotations of the grant. A recovery counts as two.
    pub generation: u32,
    /// The upstream token, sealed for the current token.
    pub(crate) sealed: Bytes,
    pub previous: Option<Previous>,
    /// Whether a revocation is pending: the client has revoked the grant, and the inner service has
    /// not confirmed it yet.
    pub revocation_pending: bool,
    /// Fields that a later version of the crate has written, kept unchanged.
    pub(crate) unknown: Vec<(u8, Bytes)>,
}

/// The part of a record that is fixed when the grant begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    pub client_id: Utf8,
    /// The scope granted, if known (RFC 6749 §3.3).
    pub scope: Option<Utf8>,
    /// The resources granted (RFC 8707); empty if unknown.
    pub resources: Vec<Utf8>,
    pub absolute_end: Option<Timestamp>,
}

/// The token that was rotated away last.
#[derive(Clone, PartialEq, Eq)]
pub struct Previous {
    pub(crate) hash: ClaimTag,
    pub retry_until: Timestamp,
    pub recover_until: Timestamp,
    /// The upstream token, sealed for the previous token. `None` once its successor was presented,
    /// or if there is no retry window: without it, neither replay nor recovery is possible.
    pub(crate) sealed: Option<Bytes>,
}

impl Previous {
    /// Returns the token that is rotated away at `now`.
    pub(crate) fn new(
        hash: ClaimTag,
        now: Timestamp,
        windows: Windows,
        sealed: Option<Bytes>,
    ) -> Self {
        let mut previous = Self {
            hash,
            retry_until: now,
            recover_until: now,
            sealed,
        };
        previous.begin(now, windows);
        previous
    }

    /// Starts the windows at `now`.
    pub(crate) fn begin(&mut self, now: Timestamp, windows: Windows) {
        self.retry_until = now.saturating_add(windows.retry);
        self.recover_until = now.saturating_add(windows.recovery);
    }
}

/// The windows after a rotation in which the previous token can still be replayed or recovered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    pub(crate) retry: Duration,
    pub(crate) recovery: Duration,
}

/// The changes that a rotation makes to the record.
#[derive(Debug)]
pub(crate) struct Rotated {
    pub(crate) now: Timestamp,
    pub(crate) generation: u32,
    pub(crate) sealed: Bytes,
    pub(crate) previous: Previous,
    pub(crate) idle_lifetime: Duration,
    /// Whether the answer contained a new upstream token.
    pub(crate) renewed: bool,
    /// The lifetime of the upstream token, if the answer named one.
    pub(crate) upstream_lifetime: Option<Duration>,
    /// The lifetime of the user's authorization, if the answer named one.
    pub(crate) authorization_lifetime: Option<Duration>,
}

impl Binding {
    /// Returns whether the grant has reached its absolute end. Ignores an end that was written by
    /// an instance whose clock was not set.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        self.absolute_end
            .is_some_and(|end| now >= end && (end >= EARLIEST || now < EARLIEST))
    }

    /// Returns when a grant that begins or is rotated at `now` expires: at its idle end, its
    /// absolute end or one of the ends that the inner service named, whichever is earliest.
    fn expires_at(
        &self,
        now: Timestamp,
        idle: Duration,
        upstream_ends: [Option<Timestamp>; 2],
    ) -> Timestamp {
        let idle_end = now.saturating_add(idle);
        iter::once(self.absolute_end)
            .chain(upstream_ends)
            .flatten()
            .fold(idle_end, Timestamp::min)
    }
}

impl Record {
    /// Returns the record of a grant that begins at `now`.
    pub(crate) fn begin(
        binding: Binding,
        sealed: Bytes,
        now: Timestamp,
        idle_lifetime: Duration,
        upstream_lifetime: Option<Duration>,
        authorization_lifetime: Option<Duration>,
    ) -> Self {
        let end = |lifetime: Option<Duration>| lifetime.map(|time| now.saturating_add(time));
        let upstream_end = end(upstream_lifetime);
        let authorization_end = end(authorization_lifetime);
        let upstream_ends = [upstream_end, authorization_end];
        let expires_at = binding.expires_at(now, idle_lifetime, upstream_ends);
        Self {
            binding,
            created_at: now,
            rotated_at: None,
            upstream_end,
            authorization_end,
            expires_at,
            generation: 0,
            sealed,
            previous: None,
            revocation_pending: false,
            unknown: Vec::new(),
        }
    }

    /// Returns when an instance last wrote the times of the record, by that instance's clock.
    pub(crate) fn written_at(&self) -> Timestamp {
        self.rotated_at.map_or(self.created_at, |rotated_at| {
            rotated_at.max(self.created_at)
        })
    }

    /// Returns the time of a request that arrives at `now`, but not earlier than the record was
    /// written.
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
        // The absolute end was computed by the instance with which the grant began, from its clock.
        if unset(self.created_at) {
            self.binding.absolute_end = self
                .binding
                .absolute_end
                .map(|end| moved(end, self.created_at));
            self.created_at = now;
        }
        self.rotated_at = self.rotated_at.map(|time| moved(time, written));
        self.upstream_end = self.upstream_end.map(|time| moved(time, written));
        self.authorization_end = self.authorization_end.map(|time| moved(time, written));
        self.expires_at = moved(self.expires_at, written);
        if let Some(previous) = &mut self.previous {
            previous.retry_until = moved(previous.retry_until, written);
            previous.recover_until = moved(previous.recover_until, written);
        }
        self
    }

    /// Returns the generation of the token that a rotation mints.
    ///
    /// A recovery skips one generation. The successor that it drops is then two generations older
    /// than the new token, so that presenting it counts as reuse and ends the grant. Without the
    /// gap it would count as forged, and the grant would go on.
    pub(crate) const fn next_generation(&self, recovery: bool) -> u32 {
        self.generation.saturating_add(if recovery { 2 } else { 1 })
    }

    /// Returns the record after a rotation.
    pub(crate) fn rotated(&self, rotated: Rotated) -> Self {
        let Rotated {
            now,
            generation,
            sealed,
            previous,
            idle_lifetime,
            renewed,
            upstream_lifetime,
            authorization_lifetime,
        } = rotated;
        let now = self.time(now);
        let end = |lifetime: Option<Duration>, last| match lifetime {
            Some(lifetime) => Some(now.saturating_add(lifetime)),
            None if renewed => None,
            None => last,
        };
        let upstream_end = end(upstream_lifetime, self.upstream_end);
        let authorization_end = end(authorization_lifetime, self.authorization_end);
        let upstream_ends = [upstream_end, authorization_end];
        let expires_at = self.binding.expires_at(now, idle_lifetime, upstream_ends);
        Self {
            binding: self.binding.clone(),
            created_at: self.created_at,
            rotated_at: Some(now),
            upstream_end,
            authorization_end,
            expires_at,
            generation,
            sealed,
            previous: Some(previous),
            revocation_pending: false,
            unknown: self.unknown.clone(),
        }
    }

    /// Returns the record with its current token marked as presented. The client has received that
    /// token, so the previous one is no longer replayed or recovered.
    pub(crate) fn presented(mut self) -> Self {
        if let Some(previous) = &mut self.previous {
            previous.sealed = None;
        }
        self
    }

    /// Returns the record of a grant with a pending revocation. It is kept until `until`, so that
    /// the client can repeat the revocation.
    pub(crate) fn with_pending_revocation(mut self, until: Timestamp) -> Self {
        self.revocation_pending = true;
        self.expires_at = self.expires_at.min(until);
        self
    }

    /// Returns whether the token with this hash can open the upstream token. `current` is the hash
    /// of the current token.
    pub(crate) fn opens_with(&self, hash: &ClaimTag, current: &ClaimTag) -> bool {
        let previous = || {
            self.previous
                .as_ref()
                .filter(|previous| previous.sealed.is_some())
        };
        hash == current || previous().is_some_and(|previous| previous.hash == *hash)
    }

    /// Returns the time until the grant expires, at least one millisecond.
    pub(crate) fn time_to_live(&self, now: Timestamp) -> Duration {
        self.expires_at
            .saturating_since(self.time(now))
            .max(Duration::from_millis(1))
    }

    /// Returns the time until the grant ends even if it is rotated: at its absolute end, or when the
    /// user's authorization ends at the inner service. Returns `None` if it has no such end.
    pub(crate) fn authorization_left(&self, now: Timestamp) -> Option<Duration> {
        let ends = [self.binding.absolute_end, self.authorization_end];
        let end = ends.into_iter().flatten().min()?;
        Some(end.saturating_since(self.time(now)))
    }

    /// Returns the time to live of the entry. It is longer than that of the grant, by half and by
    /// at most an hour, so that a token that has just expired is reported as expired and not as
    /// unknown.
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
            .field("revocation_pending", &self.revocation_pending)
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
