//! The refresh tokens of the layer.

use sha2::{Digest as _, Sha256};
use tower_oauth_refresh::store::{ClaimTag, Key};

use test_support::tokens;

use super::upstream::MARK;

/// Returns the keys of an access token's entry and of the grant with which it ends, and its
/// generation.
pub(crate) fn read_access(text: &str) -> Option<(Key, Key, u32)> {
    let bytes = tokens::payload("at_", text)?;
    let (id, rest) = bytes.split_at_checked(12)?;
    let generation = u32::from_be_bytes(*rest.first_chunk()?);
    Some((
        Key::new(Sha256::digest(&bytes).into()),
        Key::new(Sha256::digest(id).into()),
        generation,
    ))
}

/// Returns the key of the entry of the epochs.
pub(crate) fn epochs_key() -> Key {
    Key::new(Sha256::digest("tower-oauth-refresh v1 epochs").into())
}

/// A refresh token of the layer, as its client holds it and as the store knows it.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) key: Key,
    pub(crate) tag: ClaimTag,
}

impl Token {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = tokens::payload("rt_", text)?;
        let id = Sha256::digest(bytes.get(..12)?);
        let key = Key::new(Sha256::digest(id.get(..12)?).into());
        Some(Self {
            text: text.to_owned(),
            key,
            tag: ClaimTag::new(Sha256::digest(&bytes).into()),
        })
    }

    /// Returns the token in a response.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let foreign = || Self::foreign(text.to_owned());
        Self::parse(text).or_else(|| text.starts_with(MARK).then(foreign))
    }

    /// Returns a token of the authorization server that a client holds. Its key is that of its
    /// adoption.
    pub(crate) fn foreign(text: String) -> Self {
        let key = Sha256::new()
            .chain_update("tower-oauth-refresh adopt key")
            .chain_update(&text)
            .finalize();
        Self {
            key: Key::new(key.into()),
            tag: ClaimTag::new(Sha256::digest(&text).into()),
            text,
        }
    }

    pub(crate) fn is_foreign(&self) -> bool {
        !self.text.starts_with("rt_")
    }

    /// Returns the token with a made-up secret.
    pub(crate) fn forged(&self) -> Option<Self> {
        let mut bytes = tokens::payload("rt_", &self.text)?;
        bytes.get_mut(16..)?.fill(0);
        Self::parse(&tokens::encode("rt_", &bytes))
    }
}
