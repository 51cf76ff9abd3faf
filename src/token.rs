//! The format of the layer's own tokens, and the store keys that are derived from them.
//!
//! A token is a prefix and 72 characters of base64url without padding, which encode 54 bytes:
//!
//! | bytes | content |
//! | --- | --- |
//! | 12 | id: the key of the grant is derived from it |
//! | 4 | generation, big-endian |
//! | 32 | secret: the key that seals the stored values is derived from it |
//! | 6 | checksum: the first bytes of `SHA-256("tower-oauth-refresh checksum" ‖ prefix ‖ the 48 bytes before)` |
//!
//! The checksum is not a security feature: anyone can compute it. It distinguishes the layer's
//! tokens from those of the inner service and from damaged ones without a read of the store, and
//! lets secret scanners discard false positives, like the checksum in GitHub's tokens. It is a hash
//! instead of a CRC-32 because a hash with a domain separator does not match the checksum of
//! another server that uses GitHub's format; the same CRC-32 over the same bytes would.

#![allow(unreachable_pub, reason = "`crate::fuzzing` exports some of it")]

use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::seal::Secret;
use crate::store::{ClaimTag, Key};

const ID: usize = 12;
const GENERATION: usize = 4;
const SECRET: usize = 32;
const LEN: usize = ID + GENERATION + SECRET;
/// The length of the checksum. With the payload it makes a multiple of three bytes, so that every
/// token has one spelling in base64, without unused bits.
const CHECKSUM: usize = 6;
const ENCODED_LEN: usize = (LEN + CHECKSUM) / 3 * 4;

const CHECKSUM_DOMAIN: &str = "tower-oauth-refresh checksum";

/// The first bytes of a token. The key of its grant is derived from them.
pub(crate) type TokenId = [u8; ID];

/// A token of the layer: `id ‖ generation ‖ secret`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token<Kind>(Zeroizing<[u8; LEN]>, PhantomData<Kind>);

/// A refresh token of the layer.
pub type RefreshToken = Token<RefreshKind>;

/// A reference access token, which stands for an upstream access token.
pub type AccessToken = Token<AccessKind>;

/// The kind of refresh tokens.
#[derive(Clone, PartialEq, Eq)]
pub enum RefreshKind {}

/// The kind of reference access tokens.
#[derive(Clone, PartialEq, Eq)]
pub enum AccessKind {}

impl<Kind> Token<Kind> {
    /// Creates a token. `id` must be random, or the access id of a grant. `secret` must be random.
    pub fn new(id: TokenId, generation: u32, secret: &[u8; SECRET]) -> Self {
        let mut bytes = Zeroizing::new([0; LEN]);
        bytes[..ID].copy_from_slice(&id);
        bytes[ID..ID + GENERATION].copy_from_slice(&generation.to_be_bytes());
        bytes[ID + GENERATION..].copy_from_slice(secret);
        Self(bytes, PhantomData)
    }

    /// Parses `text`, if it has the layer's format and its checksum is right.
    pub fn parse(prefix: &str, text: &str) -> Option<Self> {
        let encoded = text
            .strip_prefix(prefix)
            .filter(|encoded| encoded.len() == ENCODED_LEN)?;
        let mut bytes = Zeroizing::new([0; LEN + CHECKSUM]);
        let len = URL_SAFE_NO_PAD.decode_slice(encoded, &mut *bytes).ok()?;
        let (payload, sum) = bytes.get(..len)?.split_first_chunk()?;
        (*sum == checksum(prefix, payload)).then(|| Self(Zeroizing::new(*payload), PhantomData))
    }

    /// Returns the text of the token, as the client receives it.
    pub fn encode(&self, prefix: &str) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0; LEN + CHECKSUM]);
        bytes[..LEN].copy_from_slice(&*self.0);
        bytes[LEN..].copy_from_slice(&checksum(prefix, &self.0));
        let mut text = Zeroizing::new(String::with_capacity(prefix.len() + ENCODED_LEN));
        text.push_str(prefix);
        URL_SAFE_NO_PAD.encode_string(*bytes, &mut text);
        text
    }

    /// Returns the generation of the refresh token, or of that with which it was issued.
    pub fn generation(&self) -> u32 {
        let [_, _, _, _, _, _, _, _, _, _, _, _, a, b, c, d, ..] = *self.0;
        u32::from_be_bytes([a, b, c, d])
    }

    /// Returns the secret that seals what is stored for the token.
    pub(crate) fn secret(&self) -> Secret<'_> {
        let secret = self.0.last_chunk();
        Secret::new(secret.expect("a token is longer than its secret"))
    }

    pub fn id(&self) -> TokenId {
        *self.0.first_chunk().expect("a token is longer than its id")
    }

    fn digest(&self) -> [u8; 32] {
        Sha256::digest(*self.0).into()
    }
}

/// Returns the checksum of a token with this prefix and payload.
fn checksum(prefix: &str, payload: &[u8; LEN]) -> [u8; CHECKSUM] {
    let hash = Sha256::new()
        .chain_update(CHECKSUM_DOMAIN)
        .chain_update(prefix)
        .chain_update(payload)
        .finalize();
    *hash
        .first_chunk()
        .expect("a hash is longer than a checksum")
}

impl RefreshToken {
    /// Returns the token with these bytes, which are not encoded.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.try_into().ok()?;
        Some(Self(Zeroizing::new(bytes), PhantomData))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0[..]
    }

    /// Returns the id of the access tokens of the same grant.
    ///
    /// The id of a refresh token cannot be derived from it. Resource servers see access tokens. If
    /// one could make a refresh token of an older generation from an access token, it could end the
    /// grant by presenting it, as reuse.
    pub fn access_id(&self) -> TokenId {
        let digest = Sha256::digest(self.id());
        *digest.first_chunk().expect("a hash is longer than an id")
    }

    /// Returns the key of the grant to which the token belongs.
    pub fn key(&self) -> Key {
        grant_key(self.access_id())
    }

    /// Returns the hash of the token, which the store has as the tag of the entry.
    pub fn hash(&self) -> ClaimTag {
        ClaimTag::new(self.digest())
    }
}

impl AccessToken {
    /// Returns the key of its record.
    pub fn key(&self) -> Key {
        Key::new(self.digest())
    }

    /// Returns the key of the grant to which it belongs, if its record says that it belongs to one.
    pub fn grant_key(&self) -> Key {
        grant_key(self.id())
    }
}

fn grant_key(access_id: TokenId) -> Key {
    Key::new(Sha256::digest(access_id).into())
}

redacted_debug!(self: RefreshToken { generation: self.generation() });

redacted_debug!(self: AccessToken { generation: self.generation() });

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> RefreshToken {
        RefreshToken::new([0xfb; ID], 0x0102_0304, &[0xff; SECRET])
    }

    #[test]
    fn a_token_survives_encoding_and_parsing() {
        let text = token().encode("rt_");
        assert_eq!(text.len(), 3 + 72);
        let read = RefreshToken::parse("rt_", &text).unwrap();
        assert_eq!(read, token());
        assert_eq!(read.id(), [0xfb; ID]);
        assert_eq!(read.generation(), 0x0102_0304);
        assert_eq!(read.hash(), token().hash());
        assert_ne!(read.hash().as_bytes(), read.key().as_bytes());
    }

    #[test]
    fn other_texts_are_not_tokens() {
        let good = token().encode("rt_");
        let rows = [
            ("empty", String::new()),
            ("only the prefix", "rt_".into()),
            ("another prefix", good.replace("rt_", "at_")),
            ("no prefix", good.replace("rt_", "")),
            ("a character short", good[..good.len() - 1].into()),
            ("a character long", format!("{}A", *good)),
            ("padding", format!("{}=", &good[..good.len() - 1])),
            ("the other alphabet", good.replace('_', "/")),
            ("a space", format!("{} ", &good[..good.len() - 1])),
            (
                "72 bytes that are not ASCII",
                format!("rt_{}", "ä".repeat(36)),
            ),
            ("only the payload", good[..3 + 64].into()),
            ("another checksum", format!("{}AAAAAAAA", &good[..3 + 64])),
            (
                "the prefix of access tokens, with the checksum of a refresh token",
                good.replace("rt_", "at_"),
            ),
        ];
        for (name, text) in rows {
            assert_eq!(RefreshToken::parse("rt_", &text), None, "{name}: {text}");
        }
    }

    #[test]
    fn the_checksum_covers_every_character() {
        let good = token().encode("rt_");
        for at in 3..good.len() {
            let other = if good.as_bytes()[at] == b'A' {
                "B"
            } else {
                "A"
            };
            let damaged = format!("{}{other}{}", &good[..at], &good[at + 1..]);
            assert_eq!(RefreshToken::parse("rt_", &damaged), None, "character {at}");
        }
        let renamed = good.replace("rt_", "xy_");
        assert_eq!(
            RefreshToken::parse("xy_", &renamed),
            None,
            "the prefix is covered"
        );
    }

    #[test]
    fn an_access_token_names_its_grant_but_is_no_refresh_token() {
        let access = AccessToken::new(token().access_id(), 7, &[1; SECRET]);
        let text = access.encode("at_");
        assert_eq!(AccessToken::parse("at_", &text).unwrap(), access);
        assert_eq!(
            (access.generation(), access.grant_key()),
            (7, token().key())
        );
        assert_eq!(
            RefreshToken::parse("rt_", &text.replace("at_", "rt_")),
            None
        );
        let refresh = RefreshToken::from_bytes(&access.0[..]).unwrap();
        assert_ne!(
            refresh.key(),
            token().key(),
            "its id is not that of a refresh token"
        );
        assert_ne!(access.key(), access.grant_key());
    }

    #[test]
    fn debug_output_contains_no_secret() {
        let access = AccessToken::new([0xfb; ID], 3, &[0xff; SECRET]);
        let shown = format!("{:?} {access:?}", token());
        assert!(
            shown.contains("generation") && !shown.contains("255") && !shown.contains("251"),
            "{shown}"
        );
    }
}
