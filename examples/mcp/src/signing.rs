//! Private keys that sign JSON Web Tokens (RFC 7515): ES256 or RS256.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::error::Unspecified;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
    RsaPublicKeyComponents,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// A key pair, and the ID under which its public key is known. Clones share the key.
#[derive(Clone)]
pub(crate) struct SigningKey(Arc<Inner>);

struct Inner {
    pair: Pair,
    kid: String,
    jwk: Value,
}

enum Pair {
    Es256(EcdsaKeyPair),
    Rs256(RsaKeyPair),
}

impl SigningKey {
    /// Generates a key for ES256.
    pub(crate) fn generate() -> Result<Self, Unspecified> {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)?;
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random);
        Ok(Self::new(Pair::Es256(pair.map_err(|_| Unspecified)?), None))
    }

    /// Reads a key from a PEM file that `flag` names. Without `kid`, the ID is the thumbprint of
    /// the public key (RFC 7638). The error contains nothing of the file.
    pub(crate) fn read(flag: &str, path: &Path, kid: Option<&str>) -> Result<Self, String> {
        let failed = |why: &str| format!("{flag} {}: {why}", path.display());
        let pem = fs::read(path).map_err(|error| failed(&error.to_string()))?;
        let pair = pair(&pem).ok_or_else(|| {
            failed(
                "not a private key in PEM, for the curve P-256 in PKCS #8 (`openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`) or for RSA with 2048 to 4096 bits",
            )
        })?;
        Ok(Self::new(pair, kid))
    }

    fn new(pair: Pair, kid: Option<&str>) -> Self {
        let (members, algorithm) = match &pair {
            Pair::Es256(pair) => {
                // An uncompressed point: a byte 4, and both coordinates.
                let point = pair.public_key().as_ref();
                let (x, y) = point[1..].split_at(32);
                let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
                let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
                (members, "ES256")
            }
            Pair::Rs256(pair) => {
                let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
                let (n, e) = (
                    URL_SAFE_NO_PAD.encode(public.n),
                    URL_SAFE_NO_PAD.encode(public.e),
                );
                let members = format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#);
                (members, "RS256")
            }
        };
        // RFC 7638 §3: the required members, in lexicographic order, without white space.
        let thumbprint = || URL_SAFE_NO_PAD.encode(Sha256::digest(&members));
        let kid = kid.map_or_else(thumbprint, str::to_owned);
        let mut jwk: Value = serde_json::from_str(&members).unwrap_or_default();
        jwk["kid"] = kid.as_str().into();
        jwk["use"] = "sig".into();
        jwk["alg"] = algorithm.into();
        Self(Arc::new(Inner { pair, kid, jwk }))
    }

    /// Returns whether the algorithm is ES256.
    pub(crate) fn is_es256(&self) -> bool {
        matches!(self.0.pair, Pair::Es256(_))
    }

    /// Returns the set with the public keys (RFC 7517 §5).
    pub(crate) fn key_set(keys: &[Self]) -> Value {
        let keys: Vec<_> = keys.iter().map(|key| &key.0.jwk).collect();
        json!({ "keys": keys })
    }

    /// Returns a signed JWT with these claims. `typ` is the value of its header `typ`.
    ///
    /// # Errors
    ///
    /// If the system's random number generator failed.
    pub(crate) fn sign(&self, typ: &str, claims: &Value) -> Result<String, Unspecified> {
        let Inner { pair, kid, jwk } = &*self.0;
        let header = json!({ "alg": jwk["alg"], "kid": kid, "typ": typ });
        let encoded = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let message = format!("{}.{}", encoded(&header), encoded(claims));
        let random = SystemRandom::new();
        let signature = match pair {
            Pair::Es256(pair) => pair.sign(&random, message.as_bytes())?.as_ref().to_vec(),
            Pair::Rs256(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(
                    &RSA_PKCS1_SHA256,
                    &random,
                    message.as_bytes(),
                    &mut signature,
                )?;
                signature
            }
        };
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

fn pair(pem: &[u8]) -> Option<Pair> {
    match PrivateKeyDer::from_pem_slice(pem).ok()? {
        PrivateKeyDer::Pkcs8(key) => {
            let key = key.secret_pkcs8_der();
            let random = SystemRandom::new();
            match EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key, &random) {
                Ok(pair) => Some(Pair::Es256(pair)),
                Err(_) => RsaKeyPair::from_pkcs8(key).ok().map(Pair::Rs256),
            }
        }
        PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der())
            .ok()
            .map(Pair::Rs256),
        _ => None,
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.0.kid)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use base64::engine::general_purpose::STANDARD;
    use jsonwebtoken::jwk::JwkSet;
    use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
    use rcgen::KeyPair;
    use tempfile::NamedTempFile;

    use super::*;

    /// A key of RSA in PKCS #1.
    const RSA: &[u8] = include_bytes!("../../../tests/support/src/openid.der");

    #[test]
    fn tokens_are_verified_with_the_published_key() {
        let rsa = format!(
            "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----\n",
            STANDARD.encode(RSA)
        );
        let ec = KeyPair::generate().unwrap().serialize_pem();
        for (pem, kid) in [(&rsa, None), (&ec, None), (&ec, Some("7"))] {
            let mut file = NamedTempFile::new().unwrap();
            file.write_all(pem.as_bytes()).unwrap();
            let key = SigningKey::read("--key", file.path(), kid).unwrap();
            assert_eq!(key.is_es256(), pem == &ec);
            let claims = json!({ "sub": "ada", "exp": 4_000_000_000_u64 });
            let token = key.sign("JWT", &claims).unwrap();
            assert!(!format!("{key:?}").contains("Pair"));
            let header = decode_header(&token).unwrap();
            let keys: JwkSet = serde_json::from_value(SigningKey::key_set(&[key])).unwrap();
            let published = keys.find(header.kid.as_deref().unwrap()).unwrap();
            assert!(kid.is_none() || kid == published.common.key_id.as_deref());
            let verifier = DecodingKey::from_jwk(published).unwrap();
            let validation = Validation::new(header.alg);
            let verified = decode::<Value>(&token, &verifier, &validation).unwrap();
            assert_eq!(verified.claims, claims);
        }
    }
}
