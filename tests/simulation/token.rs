//! The refresh tokens of the layer.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use tower_oauth_refresh::store::{Key, Tag};

/// The keys of the entry of an access token and of the grant that it ends with, and its generation.
pub(crate) fn read_access(text: &str) -> Option<(Key, Key, u32)> {
    let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix("at_")?).ok()?;
    let (id, rest) = bytes.split_at_checked(12)?;
    let generation = u32::from_be_bytes(*rest.first_chunk()?);
    Some((Key::new(Sha256::digest(&bytes).into()), Key::new(Sha256::digest(id).into()), generation))
}

/// A refresh token of the layer, as its holder has it, and as the store knows it.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) key: Key,
    pub(crate) tag: Tag,
}

impl Token {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix("rt_")?).ok()?;
        let id = Sha256::digest(bytes.get(..12)?);
        let key = Key::new(Sha256::digest(id.get(..12)?).into());
        Some(Self { text: text.to_owned(), key, tag: Tag::new(Sha256::digest(&bytes).into()) })
    }

    /// A token of the authorization server in the hands of a client. Its key is that of its adoption.
    pub(crate) fn foreign(text: String) -> Self {
        let key = Sha256::new().chain_update("tower-oauth-refresh adopt key").chain_update(&text).finalize();
        Self { key: Key::new(key.into()), tag: Tag::new(Sha256::digest(&text).into()), text }
    }

    pub(crate) fn is_foreign(&self) -> bool {
        !self.text.starts_with("rt_")
    }

    /// The same with a secret that somebody has made up.
    pub(crate) fn forged(&self) -> Option<Self> {
        let (known, _) = self.text.split_at_checked("rt_".len() + 22)?;
        Self::parse(&format!("{known}{}", "A".repeat(42)))
    }
}
