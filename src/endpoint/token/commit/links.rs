//! Stores links: that of the previous token in the record, all others in sidecars.

use std::time::Duration;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::endpoint::token::entropy::Minted;
use crate::endpoint::token::held::OpenGrant;
use crate::grant::{Previous, Record, Windows};
use crate::link;
use crate::seal::{Purpose, SealError, SealNonce, Sealer};
use crate::store::{ClaimTag, Sidecar, Store};

/// The links that one rotation or convergence writes. Each leads to the next token.
pub(super) struct Links<'a, St> {
    pub(super) grant: &'a OpenGrant<'a, St>,
    pub(super) next: &'a Minted,
    pub(super) windows: Windows,
    pub(super) now: Timestamp,
    /// The sidecars to store with the record.
    pub(super) sidecars: Vec<Sidecar>,
}

impl<St: Store> Links<'_, St> {
    /// Returns the record after a rotation from the current token, which becomes the previous one.
    /// The link of the token that was the previous one moves to a sidecar, for the rest of its
    /// window.
    pub(super) fn rotate(&mut self, record: Record) -> Result<Record, SealError> {
        if let Some(previous) = &record.previous
            && let Some(link) = &previous.link
        {
            let left = previous.shared_until.saturating_since(self.now);
            self.add(&previous.hash, link.clone(), left);
        }
        self.supersede(record, &self.grant.sealer)
    }

    /// Returns the record after a rotation from the previous token. The current token is dropped,
    /// with a link for the shared token window.
    pub(super) fn recover(&mut self, record: Record) -> Result<Record, SealError> {
        let link = self.seal(&self.grant.sealer, self.next.entropy.dropped_nonce)?;
        self.add(&self.grant.claimed, link, self.windows.shared);
        let sealer = Sealer::new(self.grant.presented.token.secret());
        self.supersede(record, &sealer)
    }

    /// Returns the record after a convergence. The windows of the presented token start again, so
    /// that its client can repeat the request.
    pub(super) fn converge(&mut self, record: Record) -> Result<Record, SealError> {
        let presented = self.grant.presented;
        let hash = &presented.hash;
        if record.link_from(hash).is_none() {
            let sealer = Sealer::new(presented.token.secret());
            let link = self.seal(&sealer, self.next.entropy.link_nonce)?;
            self.add(hash, link, self.windows.shared);
        }
        Ok(record.converged(hash, &self.grant.claimed, self.now, self.windows))
    }

    /// Returns the record with the next token as the current one and the presented token as the
    /// previous one.
    fn supersede(&self, record: Record, sealer: &Sealer) -> Result<Record, SealError> {
        let link = match self.windows.are_zero() {
            true => None,
            false => Some(self.seal(sealer, self.next.entropy.link_nonce)?),
        };
        let previous = Previous::new(self.grant.presented.hash, self.now, self.windows, link);
        Ok(record.rotated(self.next.token.generation(), previous))
    }

    fn seal(&self, sealer: &Sealer, nonce: SealNonce) -> Result<Bytes, SealError> {
        let context = self.grant.presented.sealed_for(Purpose::Link);
        link::seal(sealer, nonce, context, &self.next.token).map(Bytes::from)
    }

    /// Adds the link of the token with the hash `of`, unless its time is over.
    fn add(&mut self, of: &ClaimTag, link: Bytes, ttl: Duration) {
        if !ttl.is_zero() {
            self.sidecars
                .push(Sidecar::new(link::sidecar_name(of), link, ttl));
        }
    }
}
