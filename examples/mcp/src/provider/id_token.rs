//! Verifies ID tokens (OpenID Connect Core §3.1.3.7, §3.1.3.8, §12.2).
//!
//! Only the claims that are checked here must have their types. No library for OpenID Connect can
//! replace this module: none of November 2026 checks `azp`, `iat`, `nbf`, `at_hash` and the issuers
//! of tenants, and accepts what providers send besides. The nearest are:
//!
//! - `openidconnect` 4.1 refuses an ID token if any standard claim has another type, such as the
//!   `locale` of users who come to Auth0 from LinkedIn (an object), or an `amr` that is text. It
//!   accepts RSA keys of 512 bits and depends on the crate `rsa` (RUSTSEC-2023-0071).
//! - `openid` 0.25 verifies neither ES256 nor `EdDSA`, and allows no difference between clocks.
//! - `huskarl-core` 0.10 checks no `azp`, nonce or `at_hash`, and needs Rust 1.92.
//! - `axum-security-oidc` 0.0.2 checks no `nbf` or `at_hash`, and keeps withdrawn keys.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};
use server_common::jose::{Audience, Jwt, JwtError, TENANT};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq as _;

use super::config::IdTokens;

/// The most that the clocks of the provider and of this server may differ, in seconds.
const SKEW: f64 = 60.0;

/// The reason why an ID token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum IdTokenError {
    #[error(transparent)]
    Jwt(#[from] JwtError),
    #[error("it is another kind of JWT")]
    Type,
    #[error("its algorithm is not one of the discovery document")]
    Algorithm,
    #[error("a claim is missing or malformed")]
    Malformed,
    #[error("it has another issuer")]
    Issuer,
    #[error("it is for another client")]
    Audience,
    #[error("it has expired or is not yet valid")]
    Time,
    #[error("its nonce is not that of the log-in")]
    Nonce,
    #[error("its at_hash is not that of the access token")]
    AccessToken,
}

/// The log-in or the refresh to which an ID token must belong.
#[derive(Clone, Copy)]
pub(super) struct Expected<'a> {
    pub(super) client_id: &'a str,
    /// The nonce of the log-in; a refresh has none.
    pub(super) nonce: Option<&'a str>,
    /// The access token in the same response.
    pub(super) access_token: &'a str,
}

/// Times may have fractions (RFC 7519 §2).
#[derive(Deserialize)]
struct Claims {
    iss: String,
    #[serde(rename = "sub")]
    _sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: f64,
    iat: f64,
    nbf: Option<f64>,
    nonce: Option<String>,
    at_hash: Option<String>,
    /// The tenant at Entra ID.
    tid: Option<String>,
}

/// Returns the claims of a valid token; `None` if there are no keys and the token cannot be read,
/// such as an encrypted one.
pub(super) async fn verify(
    token: &str,
    settings: &IdTokens,
    expected: Expected<'_>,
) -> Result<Option<Map<String, Value>>, IdTokenError> {
    let (claims, algorithm) = match &settings.keys {
        Some(published) => {
            let jwt = Jwt::parse(token)?;
            if !jwt.has_type(&["jwt"]) {
                return Err(IdTokenError::Type);
            }
            let algorithm = jwt.algorithm();
            if !published.sign_with(algorithm) {
                return Err(IdTokenError::Algorithm);
            }
            (jwt.verify(&published.keys).await?, Some(algorithm))
        }
        None => match Jwt::unverified(token) {
            Some(claims) => (claims, None),
            None => return Ok(None),
        },
    };
    let read = serde_json::from_value(Value::Object(claims.clone()));
    let read: Claims = read.map_err(|_| IdTokenError::Malformed)?;
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    read.check(settings.issuer.as_deref(), expected, now.as_secs_f64())?;
    if let (Some(named), Some(algorithm)) = (&read.at_hash, algorithm)
        && *named != hash(algorithm, expected.access_token)
    {
        return Err(IdTokenError::AccessToken);
    }
    Ok(Some(claims))
}

/// Returns the `at_hash` of an access token: the left half of its hash, by the hash function of the
/// signature (OpenID Connect Core §3.1.3.6).
fn hash(algorithm: &str, access_token: &str) -> String {
    let digest = match algorithm {
        "RS256" | "PS256" | "ES256" => Sha256::digest(access_token).to_vec(),
        "RS384" | "PS384" | "ES384" => Sha384::digest(access_token).to_vec(),
        // Ed25519 uses SHA-512.
        _ => Sha512::digest(access_token).to_vec(),
    };
    URL_SAFE_NO_PAD.encode(&digest[..digest.len() / 2])
}

impl Claims {
    /// Returns whether the issuer, which may contain [`TENANT`], issued the token.
    fn is_of(&self, issuer: &str) -> bool {
        if !issuer.contains(TENANT) {
            return self.iss == issuer;
        }
        // The tenant must not contain anything that changes the rest of the URL.
        let is_id = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let tid = self.tid.as_ref().filter(|tid| tid.bytes().all(is_id));
        tid.is_some_and(|tid| self.iss == issuer.replace(TENANT, tid))
    }

    /// Checks the claims. `now` is in seconds since 1970.
    fn check(
        &self,
        issuer: Option<&str>,
        expected: Expected<'_>,
        now: f64,
    ) -> Result<(), IdTokenError> {
        if !issuer.is_none_or(|issuer| self.is_of(issuer)) {
            return Err(IdTokenError::Issuer);
        }
        let is_for_this = self.aud.has(expected.client_id)
            && match &self.azp {
                Some(azp) => azp == expected.client_id,
                // A token for several audiences must say who requested it.
                None => self.aud.is_single(),
            };
        if !is_for_this {
            return Err(IdTokenError::Audience);
        }
        let begin = self.nbf.map_or(self.iat, |nbf| nbf.max(self.iat));
        if self.exp < now - SKEW || begin > now + SKEW {
            return Err(IdTokenError::Time);
        }
        let same = |nonce: &str| {
            let given = self.nonce.as_deref().unwrap_or_default();
            bool::from(given.as_bytes().ct_eq(nonce.as_bytes()))
        };
        if !expected.nonce.is_none_or(same) {
            return Err(IdTokenError::Nonce);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn check(issuer: &str, changes: Value) -> Result<(), IdTokenError> {
        let mut claims = json!({
            "iss": "https://id.example", "sub": "ada", "aud": "me", "iat": NOW, "exp": NOW + 300, "nonce": "n",
        });
        let Value::Object(changes) = changes else {
            unreachable!()
        };
        claims.as_object_mut().unwrap().extend(changes);
        let claims: Claims = serde_json::from_value(claims).map_err(|_| IdTokenError::Malformed)?;
        let expected = Expected {
            client_id: "me",
            nonce: Some("n"),
            access_token: "",
        };
        claims.check(Some(issuer), expected, 1_800_000_000.0)
    }

    #[test]
    fn claims_must_be_those_of_this_log_in() {
        for (changes, result) in [
            (json!({}), Ok(())),
            (
                json!({ "iss": "https://id.example/" }),
                Err(IdTokenError::Issuer),
            ),
            (json!({ "sub": null }), Err(IdTokenError::Malformed)),
            (json!({ "aud": "other" }), Err(IdTokenError::Audience)),
            (json!({ "aud": ["me"] }), Ok(())),
            (json!({ "aud": [] }), Err(IdTokenError::Audience)),
            (
                json!({ "aud": ["me", "other"] }),
                Err(IdTokenError::Audience),
            ),
            (
                json!({ "aud": ["me", "other"], "azp": "other" }),
                Err(IdTokenError::Audience),
            ),
            (json!({ "aud": ["me", "other"], "azp": "me" }), Ok(())),
            (json!({ "azp": "me" }), Ok(())),
            (json!({ "azp": "other" }), Err(IdTokenError::Audience)),
            (
                json!({ "aud": ["other", "more"], "azp": "me" }),
                Err(IdTokenError::Audience),
            ),
            (json!({ "exp": NOW - 61 }), Err(IdTokenError::Time)),
            (json!({ "exp": NOW - 60 }), Ok(())),
            (json!({ "exp": 1_799_999_939.5 }), Err(IdTokenError::Time)),
            (json!({ "exp": 1_799_999_940.5 }), Ok(())),
            (json!({ "exp": null }), Err(IdTokenError::Malformed)),
            (json!({ "exp": "tomorrow" }), Err(IdTokenError::Malformed)),
            (json!({ "iat": NOW + 61 }), Err(IdTokenError::Time)),
            (
                json!({ "iat": u64::MAX, "exp": u64::MAX }),
                Err(IdTokenError::Time),
            ),
            (json!({ "nbf": NOW + 61 }), Err(IdTokenError::Time)),
            (json!({ "nbf": NOW + 60 }), Ok(())),
            (json!({ "nonce": null }), Err(IdTokenError::Nonce)),
            (json!({ "nonce": "m" }), Err(IdTokenError::Nonce)),
        ] {
            assert_eq!(
                check("https://id.example", changes.clone()),
                result,
                "{changes}"
            );
        }
    }

    #[test]
    fn the_issuer_of_a_tenant_is_the_one_that_the_token_names() {
        let issuer = "https://login.example/{tenantid}/v2.0";
        let of = |iss: &str, tid: &str| json!({ "iss": iss, "tid": tid });
        for (changes, result) in [
            (of("https://login.example/7-a/v2.0", "7-a"), Ok(())),
            (
                of("https://login.example/7-b/v2.0", "7-a"),
                Err(IdTokenError::Issuer),
            ),
            (
                of("https://login.example/a/b/v2.0", "a/b"),
                Err(IdTokenError::Issuer),
            ),
            (json!({ "iss": issuer }), Err(IdTokenError::Issuer)),
        ] {
            assert_eq!(check(issuer, changes.clone()), result, "{changes}");
        }
    }

    #[test]
    fn the_hash_is_that_of_the_signature() {
        for (algorithm, bytes) in [
            ("RS256", 16),
            ("ES256", 16),
            ("PS384", 24),
            ("ES384", 24),
            ("RS512", 32),
            ("EdDSA", 32),
        ] {
            let decoded = URL_SAFE_NO_PAD.decode(hash(algorithm, "x")).unwrap();
            assert_eq!(decoded.len(), bytes, "{algorithm}");
        }
    }
}
