//! The times of a record: when it was written, when its tokens and the grant end.

use std::iter;
use std::time::Duration;

use super::{Binding, Record};
use crate::clock::{EARLIEST, Timestamp};
use crate::epochs::Table;
use crate::rotation_policy::RotationPolicy;

/// If the clock of another instance is ahead of this one by more than this, it counts as not set.
/// Up to this limit, the later of the two clocks counts: if the earlier one counted and was wrong,
/// grants would end too early.
pub(super) const MAX_AHEAD: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

/// The longest time that the entry of an expired grant is kept, and the shortest. The shortest is
/// longer than a commit is repeated whose reply was lost: if the entry was gone by then, the commit
/// would be reported as lost.
const LONGEST_KEPT: Duration = Duration::from_secs(3600);
const SHORTEST_KEPT: Duration = Duration::from_secs(120);

impl Binding {
    /// Returns whether the grant has reached its absolute end. Ignores an end that was written by
    /// an instance whose clock was not set.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        self.absolute_end
            .is_some_and(|end| now >= end && (end >= EARLIEST || now < EARLIEST))
    }

    /// Returns when a grant that begins or is rotated at `now` expires: at its idle end, its
    /// absolute end or one of the ends that the inner service named, whichever is earliest.
    pub(super) fn expires_at(
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

    /// Returns when the current token was minted.
    pub(super) fn minted(&self) -> Timestamp {
        self.minted_at.unwrap_or_else(|| match self.generation {
            0 => self.created_at,
            _ => self.written_at(),
        })
    }

    /// Returns the time since the current token was minted. The previous token was rotated away
    /// then, and older ones before.
    pub(crate) fn token_age(&self, now: Timestamp) -> Duration {
        self.time(now).saturating_since(self.minted())
    }

    /// Returns whether a refresh with the current token at `now` keeps that token.
    pub(crate) fn keeps(&self, policy: RotationPolicy, now: Timestamp) -> bool {
        match policy {
            RotationPolicy::EveryUse => false,
            RotationPolicy::WhenOlderThan(age) => self.token_age(now) < age,
            RotationPolicy::Never => true,
        }
    }

    /// Returns whether the index of the user must list the grant again at `now`, because the grant
    /// may live longer than the index lists it.
    pub(crate) fn must_be_listed(&self, now: Timestamp, idle_lifetime: Duration) -> bool {
        let wanted = now.saturating_add(idle_lifetime);
        let end = now.saturating_add(idle_lifetime.saturating_mul(3));
        !self
            .listed_until
            .is_some_and(|until| (wanted..end).contains(&until))
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

    /// Returns the time until the grant ends even if it is rotated: at its absolute end, or when
    /// the user's authorization ends at the inner service. Returns `None` if it has no such end.
    pub(crate) fn authorization_left(&self, now: Timestamp) -> Option<Duration> {
        let ends = [self.binding.absolute_end, self.authorization_end];
        let end = ends.into_iter().flatten().min()?;
        Some(end.saturating_since(self.time(now)))
    }

    /// Returns the time to live of the entry. It is longer than that of the grant, by half, but by
    /// two minutes to an hour, so that a token that has just expired is reported as expired and not
    /// as unknown.
    pub(crate) fn kept(&self, now: Timestamp) -> Duration {
        let left = self.time_to_live(now);
        left.saturating_add((left / 2).clamp(SHORTEST_KEPT, LONGEST_KEPT))
    }
}
