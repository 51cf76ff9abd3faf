//! A JSON Web Key Set (RFC 7517 §5).

use std::sync::Arc;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The most keys that are used.
const MOST_KEYS: usize = 64;

/// The most keys with which the signature of one token is tried. A token may name no key.
const MOST_TRIED: usize = 8;

/// The public keys of a JSON Web Key Set, at most 64. Keys of unknown types are left out, because
/// they do not concern the others. Clones share the keys.
#[derive(Clone, Debug)]
pub struct KeySet(Arc<[Jwk]>);

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl<'de> Deserialize<'de> for KeySet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let document = Document::deserialize(deserializer)?;
        let keys = document.keys.into_iter().take(MOST_KEYS);
        let keys = keys.filter_map(|key| serde_json::from_value(key).ok());
        Ok(Self(keys.collect()))
    }
}

impl KeySet {
    /// Returns whether one of the keys can verify signatures with an algorithm of
    /// [`ALGORITHMS`](super::ALGORITHMS).
    pub fn is_usable(&self) -> bool {
        let all = &super::jwt::ASYMMETRIC;
        all.iter().any(|&all| !self.find(None, all).is_empty())
    }

    /// Returns the first keys that may have made a signature with this algorithm and key ID, at
    /// most 8.
    pub(super) fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Vec<DecodingKey> {
        let keys = self.0.iter().filter(|key| is_for(key, kid, algorithm));
        keys.filter_map(|key| DecodingKey::from_jwk(key).ok())
            .take(MOST_TRIED)
            .collect()
    }
}

/// Returns whether `key` may have made a signature with this algorithm and key ID. The type of the
/// key counts, so a key of another type never verifies a signature.
fn is_for(key: &Jwk, kid: Option<&str>, algorithm: Algorithm) -> bool {
    let common = &key.common;
    let fits = match (&key.algorithm, algorithm) {
        (
            AlgorithmParameters::RSA(_),
            Algorithm::RS256
            | Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS256
            | Algorithm::PS384
            | Algorithm::PS512,
        ) => true,
        (AlgorithmParameters::EllipticCurve(key), Algorithm::ES256) => {
            key.curve == EllipticCurve::P256
        }
        (AlgorithmParameters::EllipticCurve(key), Algorithm::ES384) => {
            key.curve == EllipticCurve::P384
        }
        (AlgorithmParameters::OctetKeyPair(key), Algorithm::EdDSA) => {
            key.curve == EllipticCurve::Ed25519
        }
        _ => false,
    };
    let named = common.key_algorithm.map(|name| name.to_string());
    fits && kid.is_none_or(|kid| common.key_id.as_deref() == Some(kid))
        && named.is_none_or(|name| name == format!("{algorithm:?}"))
        && !matches!(common.public_key_use, Some(PublicKeyUse::Encryption))
}
