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

impl Replays {
    pub(super) const fn new(store: BoxStore) -> Self {
        Self { store }
    }

    /// Returns whether a token was used before, on any instance.
    pub(super) async fn was_used(&self, issuer: &str, jti: &str) -> Result<bool, StoreError> {
        Ok(self.store.get(&key(issuer, jti)).await?.is_some())
    }

    /// Marks a token as used. Of several calls, on any instance, one returns `true`.
    pub(super) async fn mark(&self, issuer: &str, jti: &str) -> Result<bool, StoreError> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(StoreError::unavailable)?;
        let change = Change::Put {
            entry: Entry::new(Version::new(bytes), ClaimTag::new([0; 32]), Bytes::new()),
            ttl: Ttl::After(REMEMBERED),
        };
        let swap = self.store.swap(&key(issuer, jti), None, change, &[]).await;
        Ok(matches!(swap?, Swap::Swapped))
    }
}

fn key(issuer: &str, jti: &str) -> Key {
    let hash = Sha256::new()
        .chain_update(DOMAIN)
        .chain_update(issuer)
        .chain_update([0])
        .chain_update(jti);
    Key::new(hash.finalize().into())
}
