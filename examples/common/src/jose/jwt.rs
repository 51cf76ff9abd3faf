//! JSON Web Tokens (RFC 7519) with a signature of an asymmetric key.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::keys::{Candidates, Keys, NoKey};

/// The names of the algorithms of signatures that are accepted.
pub const ALGORITHMS: [&str; 9] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA",
];

pub(super) const ASYMMETRIC: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// A token whose header is acceptable. Its signature is not verified yet.
#[derive(Clone)]
pub struct Jwt<'a> {
    token: &'a str,
    header: Header,
}

/// The reason why a token is refused. The messages contain nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    #[error("it is not a signed JWT with a known algorithm")]
    Malformed,
    #[error("it has critical headers, none of which is supported")]
    CriticalHeaders,
    #[error("its algorithm is not asymmetric")]
    NotAsymmetric,
    #[error("there is no such key")]
    UnknownKey,
    /// The same token may be accepted later.
    #[error("no known key verifies it, and newer keys are unavailable")]
    KeysUnavailable,
    #[error("its signature is invalid")]
    Signature,
}

impl From<NoKey> for JwtError {
    fn from(none: NoKey) -> Self {
        match none {
            NoKey::Unknown => Self::UnknownKey,
            NoKey::Unavailable => Self::KeysUnavailable,
        }
    }
}

impl<'a> Jwt<'a> {
    /// Parses the header of a token.
    ///
    /// # Errors
    ///
    /// If the token is not a JWT, has a header `crit` (RFC 7515 §4.1.11), or if its algorithm is
    /// not one of [`ALGORITHMS`].
    pub fn parse(token: &'a str) -> Result<Self, JwtError> {
        let header = decode_header(token).map_err(|_| JwtError::Malformed)?;
        // A header that only the crate can read may have the member, too.
        let members = part(token, 0).ok_or(JwtError::Malformed)?;
        if members.contains_key("crit") {
            return Err(JwtError::CriticalHeaders);
        }
        if !ASYMMETRIC.contains(&header.alg) {
            return Err(JwtError::NotAsymmetric);
        }
        Ok(Self { token, header })
    }

    /// Returns whether the header `typ` is absent or one of `types`, which are in lower case and
    /// without the prefix `application/` (RFC 7515 §4.1.9).
    pub fn has_type(&self, types: &[&str]) -> bool {
        self.header.typ.is_none() || types.iter().any(|typ| self.is_typed(typ))
    }

    /// Returns whether the header `typ` is present and `typ`, which is in lower case and without
    /// the prefix `application/`. A kind of token that needs explicit typing (RFC 8725 §3.11)
    /// cannot be confused with another one of the same issuer.
    pub fn is_typed(&self, typ: &str) -> bool {
        self.header.typ.as_ref().is_some_and(|named| {
            let named = named.to_ascii_lowercase();
            named.strip_prefix("application/").unwrap_or(&named) == typ
        })
    }

    /// Returns the name of the algorithm: one of [`ALGORITHMS`].
    pub fn algorithm(&self) -> &'static str {
        let mut all = ASYMMETRIC.iter().zip(ALGORITHMS);
        let found = all.find(|(algorithm, _)| **algorithm == self.header.alg);
        found.map_or("", |(_, name)| name)
    }

    /// Returns the claims of a token, whatever its header says and without verifying its signature.
    /// They serve only to find the keys.
    pub fn unverified(token: &str) -> Option<Map<String, Value>> {
        part(token, 1)
    }

    /// Verifies the signature with one of the keys and returns the claims. The claims are not
    /// checked: not even `exp`.
    ///
    /// # Errors
    ///
    /// If no key verifies the signature, or if the keys are unavailable.
    pub async fn verify(&self, keys: &Keys) -> Result<Map<String, Value>, JwtError> {
        let kid = self.header.kid.as_deref();
        let found = keys.find(kid, self.header.alg).await?;
        if let Some(claims) = self.verified(&found) {
            return Ok(claims);
        }
        // A token that names its key is either of that key or forged.
        if kid.is_some() {
            return Err(JwtError::Signature);
        }
        match keys.find_newer(&found, self.header.alg).await {
            Ok(newer) => self.verified(&newer).ok_or(JwtError::Signature),
            Err(NoKey::Unknown) => Err(JwtError::Signature),
            Err(NoKey::Unavailable) => Err(JwtError::KeysUnavailable),
        }
    }

    /// Returns the claims if one of the keys has made the signature.
    fn verified(&self, found: &Candidates) -> Option<Map<String, Value>> {
        // The caller checks the claims: the crate ignores some that have the wrong type.
        let mut validation = Validation::new(self.header.alg);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let mut verified = found
            .keys
            .iter()
            .filter_map(|key| decode(self.token, key, &validation).ok());
        Some(verified.next()?.claims)
    }
}

impl std::fmt::Debug for Jwt<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jwt").finish_non_exhaustive()
    }
}

/// Decodes a part of a token: 0 is the header, 1 the claims.
fn part(token: &str, number: usize) -> Option<Map<String, Value>> {
    let part = URL_SAFE_NO_PAD.decode(token.split('.').nth(number)?).ok()?;
    serde_json::from_slice(&part).ok()
}

/// The claim `aud` (RFC 7519 §4.1.3).
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    /// Returns whether the token is for `audience`.
    pub fn has(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Several(several) => several.iter().any(|one| one == audience),
        }
    }

    /// Returns whether the token is for one audience only.
    pub const fn is_single(&self) -> bool {
        match self {
            Self::One(_) => true,
            Self::Several(several) => several.len() == 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_the_algorithms_are_theirs() {
        let names = ASYMMETRIC.map(|algorithm| format!("{algorithm:?}"));
        assert_eq!(names, ALGORITHMS);
    }

    #[test]
    fn a_token_with_critical_headers_is_refused_however_they_are_written() {
        let parse = |header: &str| {
            let token = format!("{}.e30.c2ln", URL_SAFE_NO_PAD.encode(header));
            Jwt::parse(&token).map(drop)
        };
        assert_eq!(parse(r#"{"alg":"ES256","n":1}"#), Ok(()));
        for header in [
            r#"{"alg":"ES256","crit":["x"]}"#,
            r#"{"alg":"ES256","crit":[]}"#,
            r#"{"alg":"ES256","crit":null}"#,
            r#"{"alg":"ES256","\u0063rit":["x"]}"#,
        ] {
            assert_eq!(parse(header), Err(JwtError::CriticalHeaders), "{header}");
        }
        // The numbers are out of range for one of the two parsers.
        for header in [
            r#"{"alg":"ES256","crit":["x"],"n":1e999}"#,
            r#"{"alg":"ES256","n":[{"m":-1e400}],"crit":["x"]}"#,
            r#"{"alg":"ES256","n":1e999}"#,
        ] {
            assert!(parse(header).is_err(), "{header}");
        }
    }
}
