//! The steps in the life of a grant. Each function returns the record after one step.

use std::time::Duration;

use bytes::Bytes;

use super::{Binding, Previous, Record, Renewal, Revision, Windows};
use crate::clock::Timestamp;
use crate::store::ClaimTag;

/// The longest time for which a request with the current token gets the stored answer to a request
/// with an old token. It covers requests that arrive at once. A client that refreshes later wants a
/// new access token.
const REPEAT: Duration = Duration::from_secs(10);

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
            revocable: None,
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

    /// Returns the record of a grant that is added at `now` to the index of its user, which lists
    /// it for twice the idle lifetime.
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

    /// Returns the generation of the token that a rotation mints.
    ///
    /// A recovery skips a generation. The current token, which it drops, is then two generations
    /// older than the new one, so that presenting it after its window counts as reuse and ends the
    /// grant. Without the gap it would count as forged, and the grant would continue.
    pub(crate) const fn next_generation(&self, recovery: bool) -> u32 {
        self.generation.saturating_add(if recovery { 2 } else { 1 })
    }

    /// Returns the revision that this record, with the current token `current`, stands for.
    pub(crate) fn revision(&self, current: ClaimTag) -> Revision {
        Revision {
            current,
            sealed: self.sealed.clone(),
        }
    }

    /// Returns the record with a new upstream token. The current token stays.
    pub(crate) fn renewed(&self, renewal: Renewal) -> Self {
        let now = self.time(renewal.now);
        let end = |lifetime: Option<Duration>, last| match lifetime {
            Some(lifetime) => Some(now.saturating_add(lifetime)),
            None if renewal.renewed => None,
            None => last,
        };
        let upstream_end = end(renewal.upstream_lifetime, self.upstream_end);
        let authorization_end = end(renewal.authorization_lifetime, self.authorization_end);
        let upstream_ends = [upstream_end, authorization_end];
        let idle_lifetime = renewal.idle_lifetime;
        let expires_at = self.binding.expires_at(now, idle_lifetime, upstream_ends);
        Self {
            rotated_at: Some(now),
            upstream_end,
            authorization_end,
            expires_at,
            sealed: renewal.sealed,
            revocable: renewal.revocable,
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

    /// Returns the link to the current token if `hash` is that of the previous token.
    pub(crate) fn link_from(&self, hash: &ClaimTag) -> Option<&Bytes> {
        let previous = self.previous.as_ref()?;
        previous.link.as_ref().filter(|_| previous.hash == *hash)
    }
}
