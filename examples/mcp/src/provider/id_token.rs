//! Verifies ID tokens (OpenID Connect Core §3.1.3.7, §12.2).

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::{Map, Value};
use server_common::jose::{Audience, Jwt, JwtError, TENANT};
use subtle::ConstantTimeEq as _;

use super::config::IdTokens;

/// The most that the clocks of the provider and of this server may differ.
const SKEW: Duration = Duration::from_secs(60);

/// The reason why an ID token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum IdTokenError {
    #[error(transparent)]
    Jwt(#[from] JwtError),
    #[error("it is another kind of JWT")]
    Type,
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
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    #[serde(rename = "sub")]
    _sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: u64,
    iat: u64,
    nonce: Option<String>,
    /// The tenant at Entra ID.
    tid: Option<String>,
}

/// Returns the claims of a valid token for this client; `None` if there are no keys and the token
/// cannot be read, such as an encrypted one. `nonce` is that of the log-in; a refresh has none.
pub(super) async fn verify(
    token: &str,
    settings: &IdTokens,
    client_id: &str,
    nonce: Option<&str>,
) -> Result<Option<Map<String, Value>>, IdTokenError> {
    let claims = match &settings.keys {
        Some(published) => {
            let jwt = Jwt::parse(token)?;
            if !jwt.has_type(&["jwt"]) {
                return Err(IdTokenError::Type);
            }
            jwt.verify(&published.keys).await?
        }
        None => match Jwt::unverified(token) {
            Some(claims) => claims,
            None => return Ok(None),
        },
    };
    let read = serde_json::from_value(Value::Object(claims.clone()));
    let read: Claims = read.map_err(|_| IdTokenError::Malformed)?;
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    read.check(settings.issuer.as_deref(), client_id, nonce, now)?;
    Ok(Some(claims))
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

    fn check(
        &self,
        issuer: Option<&str>,
        client_id: &str,
        nonce: Option<&str>,
        now: Duration,
    ) -> Result<(), IdTokenError> {
        if !issuer.is_none_or(|issuer| self.is_of(issuer)) {
            return Err(IdTokenError::Issuer);
        }
        let is_for_this = match &self.aud {
            Audience::One(_) => self.aud.has(client_id),
            Audience::Several(all) if all.len() < 2 => self.aud.has(client_id),
            Audience::Several(_) => {
                self.aud.has(client_id) && self.azp.as_deref() == Some(client_id)
            }
        };
        if !is_for_this {
            return Err(IdTokenError::Audience);
        }
        // Any number can be in a token, so the limits are computed from the time instead.
        if Duration::from_secs(self.exp) < now.saturating_sub(SKEW)
            || Duration::from_secs(self.iat) > now + SKEW
        {
            return Err(IdTokenError::Time);
        }
        let same = |expected: &str| {
            let given = self.nonce.as_deref().unwrap_or_default();
            bool::from(given.as_bytes().ct_eq(expected.as_bytes()))
        };
        if !nonce.is_none_or(same) {
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
        claims.check(Some(issuer), "me", Some("n"), Duration::from_secs(NOW))
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
            (
                json!({ "aud": ["other", "more"], "azp": "me" }),
                Err(IdTokenError::Audience),
            ),
            (json!({ "exp": NOW - 61 }), Err(IdTokenError::Time)),
            (json!({ "exp": NOW - 60 }), Ok(())),
            (json!({ "exp": null }), Err(IdTokenError::Malformed)),
            (json!({ "iat": NOW + 61 }), Err(IdTokenError::Time)),
            (
                json!({ "iat": u64::MAX, "exp": u64::MAX }),
                Err(IdTokenError::Time),
            ),
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
}
