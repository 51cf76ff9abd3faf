//! Client authentication with a signed assertion: `private_key_jwt` (RFC 7523 §3).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use axum::http::Extensions;
use serde::Deserialize;
use server_common::jose::{Audience, Jwt, JwtError};

use super::client::invalid;
use crate::app::App;
use crate::clients::Client;
use crate::error::OauthError;
use crate::rate_limit::Wasted;
use crate::records::Kind;

/// The value of `client_assertion_type` (RFC 7523 §2.2).
pub(super) const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The most that the clocks of the client and of this server may differ, in seconds.
const SKEW: f64 = 60.0;

/// The longest time until an assertion expires, in seconds. The store remembers it for this long.
const LONGEST: f64 = 3600.0;

/// The maximum length of `jti`, in bytes.
const LONGEST_ID: usize = 512;

/// Whether the assertion of this request was accepted. The refresh layer may send one request of a
/// client to the handlers twice: with a token that it never issued, to learn whether the client
/// authenticates, and then with the right one.
#[derive(Clone, Debug, Default)]
pub(super) struct Accepted(Arc<AtomicBool>);

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    /// Times may have fractions (RFC 7519 §2).
    exp: f64,
    nbf: Option<f64>,
    iat: Option<f64>,
    jti: String,
}

/// Returns the client ID that the assertion names, before its signature is verified.
pub(super) fn client_id(assertion: &str) -> Option<String> {
    let claims = Jwt::unverified(assertion)?;
    Some(claims.get("sub")?.as_str()?.to_owned())
}

/// Verifies an assertion, which each client can use only once.
pub(super) async fn verify(
    app: &App,
    client: &Client,
    assertion: &str,
    request: &Extensions,
) -> Result<(), OauthError> {
    let Some(keys) = &client.keys else {
        return Err(refused("this client has registered no keys"));
    };
    let jwt = Jwt::parse(assertion).map_err(not_verified)?;
    if !jwt.has_type(&["jwt", "client-authentication+jwt"]) {
        return Err(refused("its typ is not that of a client assertion"));
    }
    let algorithm = keys.algorithm.as_deref();
    if algorithm.is_some_and(|algorithm| algorithm != jwt.algorithm()) {
        return Err(refused("its algorithm is not the client's"));
    }
    let keys = app.clients.keys(client);
    let keys = keys.ok_or_else(|| refused("the keys of the client cannot be used"))?;
    let claims = jwt.verify(&keys).await.map_err(|error| {
        if error == JwtError::KeysUnavailable {
            // Anyone can name a host that does not respond.
            Wasted::mark(request);
        }
        not_verified(error)
    })?;
    let claims: Claims = serde_json::from_value(claims.into())
        .map_err(|_| refused("it needs the claims iss, sub, aud, exp and jti"))?;
    let left = claims.check(app, client, now())?;
    let accepted: Accepted = request.get().cloned().unwrap_or_default();
    if accepted.0.load(Ordering::Relaxed) {
        return Ok(());
    }
    let id = &client.client_id;
    // The length keeps the two parts apart.
    let id = format!("{} {id} {}", id.len(), claims.jti);
    if !app.records.insert(Kind::Assertion, &id, left).await? {
        return Err(refused("it was used before"));
    }
    accepted.0.store(true, Ordering::Relaxed);
    Ok(())
}

impl Claims {
    /// Checks the claims. `now` is in seconds since 1970. Returns the time for which the assertion
    /// must be remembered.
    fn check(&self, app: &App, client: &Client, now: f64) -> Result<Duration, OauthError> {
        if self.iss != client.client_id || self.sub != client.client_id {
            return Err(refused("its iss and sub are not the client ID"));
        }
        // RFC 7523 §3 allows both; clients differ in the slash at the end of the issuer.
        let issuer = app.issuer.as_str();
        let names = [
            issuer.to_owned(),
            format!("{issuer}/"),
            app.issuer.join("/token"),
        ];
        if !names.iter().any(|name| self.aud.has(name)) {
            let [issuer, ..] = names;
            return Err(refused(&format!("its aud must be {issuer}")));
        }
        if self.exp <= now - SKEW {
            return Err(refused("it has expired"));
        }
        if self.exp > now + LONGEST + SKEW {
            return Err(refused("its exp is more than one hour ahead"));
        }
        let is_ahead = |time: Option<f64>| time.is_some_and(|time| time > now + SKEW);
        if is_ahead(self.nbf) || is_ahead(self.iat) {
            return Err(refused("it is not yet valid"));
        }
        if self.jti.is_empty() || self.jti.len() > LONGEST_ID {
            return Err(refused("its jti is empty or too long"));
        }
        // The clock of another instance may be behind.
        let left = self.exp - now + 2.0 * SKEW;
        Ok(Duration::from_secs_f64(
            left.clamp(1.0, LONGEST + 3.0 * SKEW),
        ))
    }
}

/// Returns the time in seconds since 1970.
pub(super) fn now() -> f64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

fn not_verified(error: JwtError) -> OauthError {
    match error {
        // With 503, the client keeps its tokens and tries again.
        JwtError::KeysUnavailable => {
            OauthError::unavailable("the keys of the client are unavailable")
        }
        error => refused(&error.to_string()),
    }
}

fn refused(why: &str) -> OauthError {
    OauthError {
        description: format!("the client_assertion is not valid: {why}"),
        ..invalid()
    }
}
