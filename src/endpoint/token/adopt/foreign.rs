use bytes::{Buf as _, BufMut as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::endpoint::context::RequestContext;
use crate::error::RefreshError;
use crate::event::{EventKind, EventSubject};
use crate::seal::{Context, Purpose, SealError, SealNonce, Sealer, Secret};
use crate::store::{ClaimTag, Key, Store, StoreError};
use crate::token::RefreshToken;
use crate::wire::client::ClientId;

/// The tags of the entry of an adoption: in progress, or done with the sealed successor as the
/// value.
pub(super) const UNDER_WAY: ClaimTag = ClaimTag::new([0; 32]);
pub(super) const DONE: ClaimTag = ClaimTag::new([1; 32]);

/// The first input of the hash that is the key of an adoption. It is longer than the id of a grant,
/// so an adoption never has the key of a grant.
const ADOPT: &str = "tower-oauth-refresh adopt key";
const ADOPT_SECRET: &str = "tower-oauth-refresh adopt secret";

/// An upstream token that a client received before the layer was installed.
pub(crate) struct Foreign<'a, St> {
    pub(super) context: &'a RequestContext<St>,
    pub(super) token: &'a str,
    pub(super) client_id: &'a ClientId,
    /// The key of the entry of its adoption.
    pub(super) key: Key,
    sealer: Sealer,
}

impl<'a, St: Store> Foreign<'a, St> {
    pub(crate) fn new(
        context: &'a RequestContext<St>,
        token: &'a str,
        client_id: &'a ClientId,
    ) -> Self {
        let key = Key::new(
            Sha256::new()
                .chain_update(ADOPT)
                .chain_update(token)
                .finalize()
                .into(),
        );
        // Unlike the layer's own secrets, this token is not uniformly random. Its hash is a key
        // that is as hard to guess as the token.
        let mut secret = Zeroizing::new([0; 32]);
        Sha256::new()
            .chain_update(ADOPT_SECRET)
            .chain_update(token)
            .finalize_into((&mut *secret).into());
        Self {
            context,
            token,
            client_id,
            key,
            sealer: Sealer::new(Secret::new(&secret)),
        }
    }

    pub(super) fn subject(&self) -> EventSubject<'a> {
        EventSubject::client(Some(self.client_id))
    }

    pub(super) fn emit(&self, kind: EventKind) {
        self.context.emit(kind, self.subject());
    }

    /// Emits a store-failure event and returns the error for the client.
    pub(super) fn store_failed(&self, error: StoreError) -> RefreshError {
        self.context.store_failed(error, self.subject())
    }

    /// Seals the successor: the first token of the grant that the adoption began, and the end of
    /// the shared token window of the adopted token. Only this token of this client opens it.
    pub(super) fn seal(
        &self,
        nonce: SealNonce,
        successor: &RefreshToken,
        shared_until: Timestamp,
    ) -> Result<Vec<u8>, SealError> {
        let mut message = Zeroizing::new(Vec::with_capacity(64));
        message.put_u64(shared_until.as_millis());
        message.put_slice(&successor.id());
        message.put_slice(successor.secret().as_bytes());
        self.sealer.seal(nonce, self.sealed_for(), &[], &message)
    }

    /// Opens a successor that [`seal`](Self::seal) has sealed.
    pub(super) fn open(&self, sealed: &[u8]) -> Result<(RefreshToken, Timestamp), SealError> {
        let message = self.sealer.open(self.sealed_for(), &[], sealed)?;
        let mut rest = &message[..];
        let shared_until = rest.try_get_u64().map_err(|_| SealError)?;
        let (id, secret) = rest.split_first_chunk().ok_or(SealError)?;
        let secret = secret.try_into().map_err(|_| SealError)?;
        let successor = RefreshToken::new(*id, 0, secret);
        Ok((successor, Timestamp::from_millis(shared_until)))
    }

    fn sealed_for(&self) -> Context<'_> {
        Context::new(Purpose::Link, &self.key, self.client_id.as_str())
    }
}
