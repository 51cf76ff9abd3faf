//! The layer's own refresh tokens.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::seal::Secret;
use crate::store::{Key, Tag};

const ID: usize = 12;
const GENERATION: usize = 4;
const SECRET: usize = 32;
const LEN: usize = ID + GENERATION + SECRET;
const ENCODED_LEN: usize = LEN / 3 * 4;

/// A refresh token of the layer: `id ‖ generation ‖ secret`, base64url behind a prefix.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RefreshToken(Zeroizing<[u8; LEN]>);

impl RefreshToken {
    /// Puts a token together; `id` and `secret` are random.
    pub(crate) fn new(id: [u8; ID], generation: u32, secret: &[u8; SECRET]) -> Self {
        let mut bytes = Zeroizing::new([0; LEN]);
        bytes[..ID].copy_from_slice(&id);
        bytes[ID..ID + GENERATION].copy_from_slice(&generation.to_be_bytes());
        bytes[ID + GENERATION..].copy_from_slice(secret);
        Self(bytes)
    }

    /// The token that `text` is, if it has the layer's format.
    pub(crate) fn parse(prefix: &str, text: &str) -> Option<Self> {
        let encoded = text.strip_prefix(prefix).filter(|encoded| encoded.len() == ENCODED_LEN)?;
        let mut token = Self(Zeroizing::new([0; LEN]));
        let len = URL_SAFE_NO_PAD.decode_slice(encoded, &mut *token.0).ok()?;
        (len == LEN).then_some(token)
    }

    /// The token as its client gets it.
    pub(crate) fn encode(&self, prefix: &str) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(prefix.len() + ENCODED_LEN));
        text.push_str(prefix);
        URL_SAFE_NO_PAD.encode_string(*self.0, &mut text);
        text
    }

    pub(crate) fn id(&self) -> [u8; ID] {
        *self.0.first_chunk().expect("a token is longer than its id")
    }

    pub(crate) fn generation(&self) -> u32 {
        let [_, _, _, _, _, _, _, _, _, _, _, _, a, b, c, d, ..] = *self.0;
        u32::from_be_bytes([a, b, c, d])
    }

    /// What the token seals with.
    pub(crate) fn secret(&self) -> Secret<'_> {
        Secret::new(self.0.last_chunk().expect("a token is longer than its secret"))
    }

    /// The key of the grant that the token belongs to.
    pub(crate) fn key(&self) -> Key {
        Key::new(Sha256::digest(&self.0[..ID]).into())
    }

    /// The hash by which the store knows the token.
    pub(crate) fn hash(&self) -> Tag {
        Tag::new(Sha256::digest(*self.0).into())
    }
}

impl fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshToken").field("generation", &self.generation()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> RefreshToken {
        RefreshToken::new([0xfb; ID], 0x0102_0304, &[0xff; SECRET])
    }

    #[test]
    fn a_token_is_read_as_it_was_written() {
        let text = token().encode("rt_");
        assert_eq!(text.len(), 3 + 64);
        let read = RefreshToken::parse("rt_", &text).unwrap();
        assert_eq!(read, token());
        assert_eq!(read.id(), [0xfb; ID]);
        assert_eq!(read.generation(), 0x0102_0304);
        assert_eq!(read.hash(), token().hash());
        assert_ne!(read.hash().as_bytes(), read.key().as_bytes());
    }

    #[test]
    fn what_is_not_a_token_is_none() {
        let good = token().encode("rt_");
        let rows = [
            ("empty", String::new()),
            ("the prefix alone", "rt_".into()),
            ("another prefix", good.replace("rt_", "at_")),
            ("no prefix", good.replace("rt_", "")),
            ("a character short", good[..good.len() - 1].into()),
            ("a character long", format!("{}A", *good)),
            ("padding", format!("{}=", &good[..good.len() - 1])),
            ("the other alphabet", good.replace('_', "/")),
            ("a space", format!("{} ", &good[..good.len() - 1])),
            ("64 bytes that are not ASCII", format!("rt_{}", "ä".repeat(32))),
        ];
        for (name, text) in rows {
            assert_eq!(RefreshToken::parse("rt_", &text), None, "{name}: {text}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", token());
        assert!(shown.contains("generation") && !shown.contains("255") && !shown.contains("251"), "{shown}");
    }
}
