//! The record of a grant, and the rules by which the layer decides about a presented refresh token.
//!
//! This module is pure: it knows no store, no HTTP and no clock. Every function that depends on the
//! time takes `now`. The rules are in [`decide`](decide()): first the decision about a presented
//! token, then whether the stored answer of the last rotation is for the request.

#![allow(unreachable_pub, reason = "`crate::fuzzing` exports some of it")]

mod decide;
mod encoding;
mod key;
mod steps;
#[cfg(test)]
mod tests;
mod times;

use std::time::Duration;

use bytes::Bytes;

pub(crate) use self::decide::{
    Presented, Proceed, Refusal, SKEW, Standing, StoredGrant, Verdict, converge, decide,
    may_have_link, may_replay, without_answer,
};
pub use self::key::{GrantKey, InvalidGrantKey};
use crate::clock::Timestamp;
use crate::codec::Utf8;
use crate::store::ClaimTag;

/// The record of a grant: one authorization given to one client. The hash of its current token is
/// the tag of its entry.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    pub binding: Binding,
    pub(crate) created_at: Timestamp,
    /// The time at which the upstream token was stored: that of the last rotation or convergence,
    /// or of the last refresh that kept the token. Absent before the first one.
    pub(crate) rotated_at: Option<Timestamp>,
    /// The expiry of the newest upstream token, if the inner service named its lifetime.
    pub(crate) upstream_end: Option<Timestamp>,
    /// The end of the user's authorization at the inner service, if that named its lifetime.
    pub(crate) authorization_end: Option<Timestamp>,
    pub expires_at: Timestamp,
    /// The number of rotations of the grant. A recovery counts as two.
    pub generation: u32,
    /// The upstream token, sealed for the current token.
    pub(crate) sealed: Bytes,
    /// The profile of the user, sealed for the current token. `None` if the user is unknown.
    pub(crate) profile: Option<Bytes>,
    /// The upstream token, sealed for the revocation key of the layer, if it has one.
    pub(crate) revocable: Option<Bytes>,
    /// The time until which the index of the user lists the grant, if it was ever listed.
    pub(crate) listed_until: Option<Timestamp>,
    pub previous: Option<Previous>,
    /// Whether the current token was presented. If so, its client has received it.
    pub presented: bool,
    /// If an answer contained the current token again: until when that answer is also for a request
    /// that presents the current token.
    pub(crate) repeat_until: Option<Timestamp>,
    /// The time at which the current token was minted, if it differs from the time of the last
    /// rotation: the token was minted by a rotation, and an answer has contained it again.
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
        Self {
            hash,
            link,
            retry_until: now.saturating_add(windows.retry),
            shared_until: now.saturating_add(windows.shared),
            recover_until: now.saturating_add(windows.recovery),
        }
    }

    /// Starts the windows at `now`.
    pub(crate) fn begin(&mut self, now: Timestamp, windows: Windows) {
        *self = Self::new(self.hash, now, windows, self.link.take());
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
    /// The upstream token, sealed for the revocation key, if there is one.
    pub(crate) revocable: Option<Bytes>,
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

redacted_debug!(self: Record { binding, generation, expires_at, revocation_pending });

redacted_debug!(self: Previous { retry_until, recover_until });
