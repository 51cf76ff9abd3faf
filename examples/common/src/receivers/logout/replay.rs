//! Remembers used logout tokens, in the store that all instances share.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tower_oauth_refresh::store::{
    BoxStore, Change, ClaimTag, Entry, Key, Store as _, StoreError, Swap, Ttl, Version,
};

use super::token::REMEMBERED;

/// The domain of the hashes, which keeps them apart from the other keys in the store.
const DOMAIN: &[u8] = b"tower-oauth-refresh logout token\0";

/// The IDs of used tokens. The store has their hashes, until the tokens are too old anyway. Only
/// verified tokens get here, so that a stranger cannot fill the store.
#[derive(Debug)]
pub(super) struct Replays {
    store: BoxStore,
}

/// Whether a token was used before.
pub(super) enum Use {
    First(Used),
    Again,
}

/// A token that has been marked as used.
pub(super) struct Used {
    key: Key,
    version: Version,
}

impl Replays {
    pub(super) const fn new(store: BoxStore) -> Self {
        Self { store }
    }

    /// Marks a token as used. Of several calls, on any instance, one is the first.
    pub(super) async fn first_use(&self, issuer: &str, jti: &str) -> Result<Use, StoreError> {
        let hash = Sha256::new()
            .chain_update(DOMAIN)
            .chain_update(issuer)
            .chain_update([0])
            .chain_update(jti);
        let key = Key::new(hash.finalize().into());
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(StoreError::unavailable)?;
        let version = Version::new(bytes);
        let change = Change::Put {
            entry: Entry::new(version, ClaimTag::new([0; 32]), Bytes::new()),
            ttl: Ttl::After(REMEMBERED),
        };
        Ok(match self.store.swap(&key, None, change, &[]).await? {
            Swap::Swapped => Use::First(Used { key, version }),
            Swap::Conflict(_) => Use::Again,
        })
    }

    /// Forgets that a token was used, because it had no effect.
    pub(super) async fn forget(&self, used: Used) {
        let Used { key, version } = used;
        let removed = self
            .store
            .swap(&key, Some(version), Change::Remove, &[])
            .await;
        if removed.is_err() {
            tracing::warn!(
                "the store failed while a user was logged out: the identity provider must send a new logout token"
            );
        }
    }
}
