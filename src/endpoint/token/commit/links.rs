//! Stores links: that of the previous token in the record, all others in sidecars.

use std::time::Duration;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::endpoint::presented::PresentedToken;
use crate::grant::{Previous, Record, Windows};
use crate::link;
use crate::seal::{Purpose, SealError, SealNonce, Sealer};
use crate::store::{ClaimTag, Sidecar};
use crate::token::RefreshToken;

/// The links that one rotation or convergence writes. Each leads to `next`.
pub(super) struct Links<'a> {
    pub(super) presented: &'a PresentedToken<'a>,
    /// The hash and the sealer of the current token.
    pub(super) current: (&'a ClaimTag, &'a Sealer),
    pub(super) next: &'a RefreshToken,
    pub(super) windows: Windows,
    pub(super) now: Timestamp,
    /// The sidecars to store with the record.
    pub(super) sidecars: Vec<Sidecar>,
}

impl Links<'_> {
    /// Returns the record after a rotation from the current token, which becomes the previous one.
    /// The link of the token that was the previous one moves to a sidecar, for the rest of its
    /// window.
    pub(super) fn rotate(&mut self, record: Record, nonce: SealNonce) -> Result<Record, SealError> {
        if let Some(previous) = &record.previous
            && let Some(link) = &previous.link
        {
            let left = previous.shared_until.saturating_since(self.now);
            self.add(&previous.hash, link.clone(), left);
        }
        let (_, sealer) = self.current;
        self.supersede(record, sealer, nonce)
    }

    /// Returns the record after a rotation from the previous token. The current token is dropped,
    /// with a link for the shared token window.
    pub(super) fn recover(
        &mut self,
        record: Record,
        nonce: SealNonce,
        dropped_nonce: SealNonce,
    ) -> Result<Record, SealError> {
        let (current, sealer) = self.current;
        let link = self.seal(sealer, dropped_nonce)?;
        self.add(current, link, self.windows.shared);
        let sealer = Sealer::new(self.presented.token.secret());
        self.supersede(record, &sealer, nonce)
    }

    /// Returns the record after a convergence. The windows of the presented token start again, so
    /// that its client can repeat the request.
    pub(super) fn converge(
        &mut self,
        record: Record,
        nonce: SealNonce,
    ) -> Result<Record, SealError> {
        let hash = &self.presented.hash;
        if record.link_from(hash).is_none() {
            let sealer = Sealer::new(self.presented.token.secret());
            let link = self.seal(&sealer, nonce)?;
            self.add(hash, link, self.windows.shared);
        }
        Ok(record.converged(hash, self.current.0, self.now, self.windows))
    }

    /// Returns the record with `next` as the current token and the presented token as the previous
    /// one.
    fn supersede(
        &self,
        record: Record,
        sealer: &Sealer,
        nonce: SealNonce,
    ) -> Result<Record, SealError> {
        let link = match self.windows.are_zero() {
            true => None,
            false => Some(self.seal(sealer, nonce)?),
        };
        let previous = Previous::new(self.presented.hash, self.now, self.windows, link);
        Ok(record.rotated(self.next.generation(), previous))
    }

    fn seal(&self, sealer: &Sealer, nonce: SealNonce) -> Result<Bytes, SealError> {
        let context = self.presented.context(Purpose::Link);
        link::seal(sealer, nonce, context, self.next).map(Bytes::from)
    }

    /// Adds the link of the token with the hash `of`, unless its time is over.
    fn add(&mut self, of: &ClaimTag, link: Bytes, ttl: Duration) {
        if !ttl.is_zero() {
            self.sidecars
                .push(Sidecar::new(link::sidecar_name(of), link, ttl));
        }
    }
}
