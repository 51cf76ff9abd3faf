use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::event::Subject;
use crate::seal::{Context, Purpose, Sealer, Secret};
use crate::store::{ClaimTag, Key};
use crate::wire::client::ClientId;

/// The tags of the entry of an adoption: in progress, or done with the sealed answer as the value.
pub(super) const UNDER_WAY: ClaimTag = ClaimTag::new([0; 32]);
pub(super) const DONE: ClaimTag = ClaimTag::new([1; 32]);

/// The first input of the hash that is the key of an adoption. It is longer than the id of a grant,
/// so an adoption never has the key of a grant.
const ADOPT: &str = "tower-oauth-refresh adopt key";
const ADOPT_SECRET: &str = "tower-oauth-refresh adopt secret";

/// An upstream token that a client received before the layer was installed.
pub(super) struct Foreign<'a> {
    pub(super) client_id: &'a ClientId,
    /// The key of the entry of its adoption.
    pub(super) key: Key,
    /// Seals the answer for the same token.
    pub(super) sealer: Sealer,
}

impl<'a> Foreign<'a> {
    pub(super) fn new(token: &str, client_id: &'a ClientId) -> Self {
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
            client_id,
            key,
            sealer: Sealer::new(Secret::new(&secret)),
        }
    }

    pub(super) fn subject(&self) -> Subject<'a> {
        Subject::client(Some(self.client_id))
    }

    pub(super) fn context(&self) -> Context<'_> {
        Context {
            purpose: Purpose::Replay,
            key: &self.key,
            client_id: self.client_id.as_str(),
        }
    }
}
