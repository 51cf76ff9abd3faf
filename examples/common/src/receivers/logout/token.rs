//! Verifies logout tokens (OpenID Connect Back-Channel Logout 1.0 §2.6).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::keys::{Keys, NoKey};
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
    iss: String,
    aud: Audience,
    iat: u64,
    exp: u64,
    pub(super) jti: String,
    events: Map<String, Value>,
    pub(super) sub: Option<String>,
    /// The session at the provider. It need not be one that the layer knows.
    pub(super) sid: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn has(&self, client_id: &str) -> bool {
        match self {
            Self::One(one) => one == client_id,
            Self::Several(several) => several.iter().any(|one| one == client_id),
        }
    }
}

/// Returns the claims of a token that one of the provider's keys has signed.
pub(super) async fn verify(token: &str, keys: &Keys) -> Result<Claims, Refused> {
    let header =
        decode_header(token).map_err(|_| Refused::invalid("the logout token is not a JWT"))?;
    if has_critical_headers(token) {
        return Err(Refused::invalid(
            "the JWT has critical headers, none of which is supported",
        ));
    }
    // The type keeps other JWTs of the provider apart, if it names one. The claim `events` does so
    // in any case.
    let is_logout = |typ: &String| {
        let typ = typ.to_ascii_lowercase();
        let typ = typ.strip_prefix("application/").unwrap_or(&typ);
        typ == "logout+jwt" || typ == "jwt"
    };
    if !header.typ.as_ref().is_none_or(is_logout) {
        return Err(Refused::invalid("the JWT is not a logout token"));
    }
    match header.alg {
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
            return Err(Refused::invalid("the algorithm is not asymmetric"));
        }
        Algorithm::RS256
        | Algorithm::RS384
        | Algorithm::RS512
        | Algorithm::PS256
        | Algorithm::PS384
        | Algorithm::PS512
        | Algorithm::ES256
        | Algorithm::ES384
        | Algorithm::EdDSA => {}
    }
    let keys = keys.find(header.kid.as_deref(), header.alg).await;
    let keys = keys.map_err(|error| match error {
        NoKey::Unknown => Refused::invalid("the provider has no such key"),
        NoKey::Unavailable => Refused::unavailable("the keys of the provider are unavailable"),
    })?;
    // `Claims::check` checks the claims: the crate ignores some that have the wrong type.
    let mut validation = Validation::new(header.alg);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    let mut verified = keys
        .iter()
        .filter_map(|key| decode::<Map<String, Value>>(token, key, &validation).ok());
    let claims = verified
        .next()
        .ok_or(Refused::invalid(
            "the signature of the logout token is invalid",
        ))?
        .claims;
    if claims.contains_key("nonce") {
        return Err(Refused::invalid("a logout token must not have a nonce"));
    }
    serde_json::from_value(claims.into())
        .map_err(|_| Refused::invalid("a claim of the logout token is missing or malformed"))
}

/// Returns whether the token has headers that must be understood (RFC 7515 §4.1.11).
fn has_critical_headers(token: &str) -> bool {
    let header = token.split('.').next().unwrap_or_default();
    let header = URL_SAFE_NO_PAD.decode(header).unwrap_or_default();
    serde_json::from_slice::<Map<String, Value>>(&header)
        .is_ok_and(|header| header.contains_key("crit"))
}

impl Claims {
    /// Checks the claims. `now` is the time since 1970.
    pub(super) fn check(
        &self,
        issuer: &str,
        audience: &[String],
        now: Duration,
    ) -> Result<(), Refused> {
        if self.iss != issuer {
            return Err(Refused::invalid("the logout token has another issuer"));
        }
        if !audience.iter().any(|client_id| self.aud.has(client_id)) {
            return Err(Refused::invalid("the logout token is for another client"));
        }
        let (iat, exp) = (Duration::from_secs(self.iat), Duration::from_secs(self.exp));
        // Any number can be in a token, so the limits are computed from the time instead.
        let (earliest, oldest) = (now.saturating_sub(SKEW), now.saturating_sub(LONGEST + SKEW));
        if iat > now + SKEW || iat < oldest || exp < earliest {
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
        // The layer ignores longer ones. With `sub`, the sessions of which it knows none end.
        let longest = self.sub.as_ref().map_or(LONGEST_SID, |_| usize::MAX);
        if let Some(sid) = &self.sid
            && !(1..=longest).contains(&sid.len())
        {
            return Err(Refused::invalid("the claim sid is invalid"));
        }
        Ok(())
    }
}
