//! Verifies logout tokens (OpenID Connect Back-Channel Logout 1.0 §2.6).

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::jose::{Audience, Issuer, Jwt, JwtError, Keys};
use crate::receivers::Refused;

/// The event that makes a JWT a logout token.
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// The most that the clocks of the provider and of this server may differ.
const SKEW: Duration = Duration::from_secs(60);

/// The greatest age of a token. A provider sends it at once.
const LONGEST: Duration = Duration::from_secs(10 * 60);

/// The time for which the ID of a used token is remembered: until the token is too old.
pub(super) const REMEMBERED: Duration = Duration::from_secs(2 * 60 + 10 * 60);

/// The largest ID of a token, in bytes.
const LONGEST_ID: usize = 512;

/// The largest `sid` that can identify a session without `sub`, in bytes.
const LONGEST_SID: usize = 255;

/// The claims of a token whose signature is valid.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    pub(super) iss: String,
    aud: Audience,
    /// Times may have fractions (RFC 7519 §2).
    iat: f64,
    exp: f64,
    pub(super) jti: String,
    events: Map<String, Value>,
    pub(super) sub: Option<String>,
    /// The session at the provider. It need not be one that the layer knows.
    pub(super) sid: Option<String>,
}

/// Returns the claims of a token that one of the provider's keys has signed.
pub(super) async fn verify(token: &str, keys: &Keys) -> Result<Claims, Refused> {
    let token = Jwt::parse(token)?;
    // The type keeps other JWTs of the provider apart, if it names one. The claim `events` does so
    // in any case.
    if !token.has_type(&["logout+jwt", "jwt"]) {
        return Err(Refused::invalid("the JWT is not a logout token"));
    }
    let claims = token.verify(keys).await?;
    if claims.contains_key("nonce") {
        return Err(Refused::invalid("a logout token must not have a nonce"));
    }
    serde_json::from_value(claims.into())
        .map_err(|_| Refused::invalid("a claim of the logout token is missing or malformed"))
}

impl From<JwtError> for Refused {
    fn from(error: JwtError) -> Self {
        match error {
            JwtError::Malformed => Self::invalid("the logout token is not a JWT"),
            JwtError::CriticalHeaders => {
                Self::invalid("the JWT has critical headers, none of which is supported")
            }
            JwtError::NotAsymmetric => Self::invalid("the algorithm is not asymmetric"),
            // A cache in front of the keys of the provider may not have a new one yet.
            JwtError::UnknownKey => {
                Self::unavailable("the provider does not publish the key of the token yet")
            }
            JwtError::KeysUnavailable => {
                Self::unavailable("no known key verifies the token, and newer keys are unavailable")
            }
            JwtError::Signature => Self::invalid("the signature of the logout token is invalid"),
        }
    }
}

impl Claims {
    /// Checks the claims. `now` is the time since 1970.
    pub(super) fn check(
        &self,
        issuer: &Issuer,
        audience: &[String],
        now: Duration,
    ) -> Result<(), Refused> {
        if !issuer.is_named_by(&self.iss) {
            return Err(Refused::invalid("the logout token has another issuer"));
        }
        if !audience.iter().any(|client_id| self.aud.has(client_id)) {
            return Err(Refused::invalid("the logout token is for another client"));
        }
        let earliest = now.saturating_sub(SKEW).as_secs_f64();
        let oldest = now.saturating_sub(LONGEST + SKEW).as_secs_f64();
        let latest = (now + SKEW).as_secs_f64();
        if self.iat > latest || self.iat < oldest || self.exp < earliest {
            return Err(Refused::invalid(
                "the logout token is too old or not yet valid",
            ));
        }
        if !self.events.get(EVENT).is_some_and(Value::is_object) {
            return Err(Refused::invalid("the JWT is not a logout token"));
        }
        if self.jti.is_empty() || self.jti.len() > LONGEST_ID {
            return Err(Refused::invalid("the claim jti is invalid"));
        }
        // The layer stores no longer `sid`. Without `sub`, such a token could end nothing. With
        // `sub`, it ends the sessions of the user whose `sid` is unknown.
        let longest = self.sub.as_ref().map_or(LONGEST_SID, |_| usize::MAX);
        if let Some(sid) = &self.sid
            && !(1..=longest).contains(&sid.len())
        {
            return Err(Refused::invalid("the claim sid is invalid"));
        }
        Ok(())
    }
}
