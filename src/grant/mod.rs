//! The record of a grant, and the rules by which the layer decides about a presented refresh token.
//!
//! This module is pure: it knows no store, no HTTP and no clock. Every function that depends on the
//! time takes `now`. The rules are in [`decide`](decide()): first the decision about a presented
//! token, then whether the stored answer of the last rotation is for the request.

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
    Presented, Proceed, Refusal, SKEW, Standing, StoredGrant, Verdict, converge, decide,
    may_have_link, may_replay, without_answer,
};
pub use self::key::{GrantKey, InvalidGrantKey};
use crate::clock::{EARLIEST, Timestamp};
use crate::codec::Utf8;
use crate::epochs::Table;
use crate::rotation_policy::RotationPolicy;
use crate::store::ClaimTag;

/// If the clock of another instance is ahead of this one by more than this, it counts as not set.
/// Up to this limit, the later of the two clocks counts: if the earlier one counted and was wrong,
/// grants would end too early.
const MAX_AHEAD: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

/// The longest time for which the answer to an old token is for requests with the current token,
/// too. It covers requests that arrive at once. A client that refreshes later wants a new
/// access token.
const REPEAT: Duration = Duration::from_secs(10);

/// The longest time that the entry of an expired grant is kept.
const LONGEST_KEPT: Duration = Duration::from_secs(3600);

/// The record of a grant: one authorization given to one client. The hash of its current token is
/// the tag of its entry.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    pub binding: Binding,
    pub(crate) created_at: Timestamp,
    /// When the upstream token was stored: the time of the last rotation or convergence, or of the
    /// last refresh that kept the token. Absent before the first one.
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
    /// What is known about the user, sealed for the current token. `None` if nothing is.
    pub(crate) profile: Option<Bytes>,
    /// Until when the index of the user lists the grant, if it was ever listed.
    pub(crate) listed_until: Option<Timestamp>,
    pub previous: Option<Previous>,
    /// Whether the current token was presented. If so, its client has received it.
    pub presented: bool,
    /// If an answer contained the current token again: until when that answer is also for a request
    /// that presents the current token.
    pub(crate) repeat_until: Option<Timestamp>,
    /// When the current token was minted, if that differs from the time of the last rotation: the
    /// token was minted by a rotation, and an answer has contained it again.
    pub(crate) minted_at: Option<Timestamp>,
    /// Whether a revocation is pending: the client has revoked the grant, and the inner service has
    /// not confirmed it yet.
    pub revocation_pending: bool,
    /// Whether the inner service has granted a log-in, an adoption or a rotation of this grant with
    /// a client credential. If so, only a request that the inner service authenticates ends the
    /// grant. Never reset.
    pub authenticated: bool,
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
    /// The link to the current token ([`crate::link`]), sealed for this one. `None` if no window is
    /// configured.
    pub(crate) link: Option<Bytes>,
    pub retry_until: Timestamp,
    pub shared_until: Timestamp,
    pub recover_until: Timestamp,
}

impl Previous {
    /// Returns the token that is rotated away at `now`.
    pub(crate) fn new(
        hash: ClaimTag,
        now: Timestamp,
        windows: Windows,
        link: Option<Bytes>,
    ) -> Self {
        let mut previous = Self {
            hash,
            link,
            retry_until: now,
            shared_until: now,
            recover_until: now,
        };
        previous.begin(now, windows);
        previous
    }

    /// Starts the windows at `now`.
    pub(crate) fn begin(&mut self, now: Timestamp, windows: Windows) {
        self.retry_until = now.saturating_add(windows.retry);
        self.shared_until = now.saturating_add(windows.shared);
        self.recover_until = now.saturating_add(windows.recovery);
    }
}

/// The windows after a rotation in which the token that was rotated away is still accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    /// For the stored answer.
    pub(crate) retry: Duration,
    /// For its link.
    pub(crate) shared: Duration,
    /// For its link, as long as the current token was never presented.
    pub(crate) recovery: Duration,
}

impl Windows {
    /// Returns whether an old token is never accepted.
    pub(crate) const fn are_zero(&self) -> bool {
        self.retry.is_zero() && self.shared.is_zero() && self.recovery.is_zero()
    }
}

/// The changes that a new upstream token makes to the record.
#[derive(Debug)]
pub(crate) struct Renewal {
    pub(crate) now: Timestamp,
    /// The upstream token, sealed for the current token.
    pub(crate) sealed: Bytes,
    pub(crate) idle_lifetime: Duration,
    /// Whether the answer contained a new upstream token.
    pub(crate) renewed: bool,
    /// The lifetime of the upstream token, if the answer named one.
    pub(crate) upstream_lifetime: Option<Duration>,
    /// The lifetime of the user's authorization, if the answer named one.
    pub(crate) authorization_lifetime: Option<Duration>,
}

/// One state of a grant, to compare with another. A rotation and a new upstream token change it; a
/// lease, a pending revocation and the mark that the current token was presented do not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Revision {
    current: ClaimTag,
    /// Every seal has a nonce of its own, so no two states have the same bytes here.
    sealed: Bytes,
}

impl Revision {
    /// Returns whether the current token has this hash.
    pub(crate) fn is_of(&self, current: &ClaimTag) -> bool {
        self.current == *current
    }
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
            profile: None,
            listed_until: None,
            previous: None,
            presented: false,
            repeat_until: None,
            minted_at: None,
            revocation_pending: false,
            authenticated: false,
            unknown: Vec::new(),
        }
    }

    /// Returns the record with what is known about the user, sealed for the current token.
    pub(crate) fn with_profile(mut self, profile: Option<Bytes>) -> Self {
        self.profile = profile;
        self
    }

    /// Returns whether the index of the user must list the grant anew at `now`, because the grant
    /// may live longer than the index lists it.
    pub(crate) fn must_be_listed(&self, now: Timestamp, idle_lifetime: Duration) -> bool {
        let wanted = now.saturating_add(idle_lifetime);
        let end = now.saturating_add(idle_lifetime.saturating_mul(3));
        !self
            .listed_until
            .is_some_and(|until| (wanted..end).contains(&until))
    }

    /// Returns the record of a grant that the index of the user lists at `now`: for twice the time
    /// after which it expires without a refresh.
    pub(crate) fn listed(mut self, now: Timestamp, idle_lifetime: Duration) -> Self {
        self.listed_until = Some(now.saturating_add(idle_lifetime.saturating_mul(2)));
        self
    }

    /// Returns the record after the inner service has granted a request, with or without a client
    /// credential.
    pub(crate) const fn granted_with(mut self, credential: bool) -> Self {
        self.authenticated |= credential;
        self
    }

    /// Returns when an instance last wrote the times of the record, by that instance's clock.
    pub(crate) fn written_at(&self) -> Timestamp {
        self.rotated_at.map_or(self.created_at, |rotated_at| {
            rotated_at.max(self.created_at)
        })
    }

    /// Returns the time since the last rotation, or since the grant began.
    pub(crate) fn age(&self, now: Timestamp) -> Duration {
        now.saturating_since(self.written_at())
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
        self.repeat_until = self.repeat_until.map(|time| moved(time, written));
        self.minted_at = self
            .minted_at
            .map(|time| if unset(time) { now } else { time });
        if let Some(previous) = &mut self.previous {
            previous.retry_until = moved(previous.retry_until, written);
            previous.shared_until = moved(previous.shared_until, written);
            previous.recover_until = moved(previous.recover_until, written);
        }
        self
    }

    /// Returns the generation of the token that a rotation mints.
    ///
    /// A recovery skips a generation. The current token, which it drops, is then two generations
    /// older than the new one, so that presenting it after its window counts as reuse and ends the
    /// grant. Without the gap it would count as forged, and the grant would go on.
    pub(crate) const fn next_generation(&self, recovery: bool) -> u32 {
        self.generation.saturating_add(if recovery { 2 } else { 1 })
    }

    /// Returns the state of the grant that the record describes, as the record of this token.
    pub(crate) fn revision(&self, current: ClaimTag) -> Revision {
        Revision {
            current,
            sealed: self.sealed.clone(),
        }
    }

    /// Returns the record with a new upstream token. The current token stays.
    pub(crate) fn renewed(&self, renewal: Renewal) -> Self {
        let Renewal {
            now,
            sealed,
            idle_lifetime,
            renewed,
            upstream_lifetime,
            authorization_lifetime,
        } = renewal;
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
            rotated_at: Some(now),
            upstream_end,
            authorization_end,
            expires_at,
            sealed,
            minted_at: (self.generation > 0).then(|| self.minted()),
            revocation_pending: false,
            ..self.clone()
        }
    }

    /// Returns the record with a new current token.
    pub(crate) fn rotated(self, generation: u32, previous: Previous) -> Self {
        Self {
            generation,
            previous: Some(previous),
            presented: false,
            repeat_until: None,
            minted_at: None,
            ..self
        }
    }

    /// Returns when the current token was minted.
    fn minted(&self) -> Timestamp {
        self.minted_at.unwrap_or_else(|| match self.generation {
            0 => self.created_at,
            _ => self.written_at(),
        })
    }

    /// Returns whether a refresh with the current token at `now` keeps that token.
    pub(crate) fn keeps(&self, policy: RotationPolicy, now: Timestamp) -> bool {
        match policy {
            RotationPolicy::EveryUse => false,
            RotationPolicy::WhenOlderThan(age) => {
                self.time(now).saturating_since(self.minted()) < age
            }
            RotationPolicy::Never => true,
        }
    }

    /// Returns the record after a refresh whose answer contains the current token again: a
    /// convergence of the token with the hash `presented`, or a refresh that keeps the token.
    pub(crate) fn converged(
        mut self,
        presented: &ClaimTag,
        current: &ClaimTag,
        now: Timestamp,
        windows: Windows,
    ) -> Self {
        self.repeat_until = Some(now);
        self.begin_windows(presented, current, now, windows);
        self
    }

    /// Returns the record of a grant that is handed back at `now`: it lives only for the retry
    /// window.
    pub(crate) fn handed_back(mut self, now: Timestamp, windows: Windows) -> Self {
        self.expires_at = now.saturating_add(windows.retry);
        self
    }

    /// Starts the windows of the last answer, which was for a request with the token `presented`.
    pub(crate) fn begin_windows(
        &mut self,
        presented: &ClaimTag,
        current: &ClaimTag,
        now: Timestamp,
        windows: Windows,
    ) {
        if let Some(until) = &mut self.repeat_until {
            let repeat = match presented == current {
                true => windows.retry,
                false => windows.retry.min(REPEAT),
            };
            *until = now.saturating_add(repeat);
        }
        if let Some(previous) = &mut self.previous
            && previous.hash == *presented
        {
            previous.begin(now, windows);
        }
    }

    /// Returns the record with its current token marked as presented. The client has received that
    /// token, so the previous one can no longer be recovered.
    pub(crate) const fn presented(mut self) -> Self {
        self.presented = true;
        self
    }

    /// Returns the record of a grant with a pending revocation. It is kept until `until`, so that
    /// the client can repeat the revocation.
    pub(crate) fn with_pending_revocation(mut self, until: Timestamp) -> Self {
        self.revocation_pending = true;
        self.expires_at = self.expires_at.min(until);
        self
    }

    /// Returns the link from the token with this hash to the current token, if it is the previous
    /// token.
    pub(crate) fn link_from(&self, hash: &ClaimTag) -> Option<&Bytes> {
        let previous = self.previous.as_ref()?;
        previous.link.as_ref().filter(|_| previous.hash == *hash)
    }

    /// Returns whether the grant has expired, or its revocation is pending.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        self.revocation_pending || self.time(now) >= self.expires_at
    }

    /// Returns whether all grants of the client that were as old have been ended. Must be asked
    /// before [`at`](Self::at), which moves the times of a clock that was not set: such a grant may
    /// have begun before any epoch.
    pub(crate) fn has_ended(&self, epochs: &Table) -> bool {
        epochs.ends(self.binding.client_id.as_str(), self.created_at)
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
