//! Client authentication with a signed assertion: `private_key_jwt` (RFC 7523 §3).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::Extensions;
use serde::Deserialize;
use server_common::jose::{Audience, Jwt, JwtError};

use super::client::invalid;
use super::single_use::{SingleUse, now};
use crate::app::App;
use crate::clients::Client;
use crate::error::OauthError;
use crate::rate_limit::{Network, Wasted};
use crate::records::Kind;

/// The value of `client_assertion_type` (RFC 7523 §2.2).
pub(super) const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A flag that is set when the assertion of this request was accepted. The refresh layer may send
/// one request of a client to the handlers twice: with a token that it never issued, to learn
/// whether the client authenticates, and then with the right one.
#[derive(Clone, Debug, Default)]
pub(super) struct Accepted(Arc<AtomicBool>);

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
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
    let keys = app.clients.keys(client, Network::of_request(request));
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
        let single_use = SingleUse {
            exp: self.exp,
            nbf: self.nbf,
            iat: self.iat,
            jti: &self.jti,
        };
        single_use.check(now).map_err(refused)
    }
}

fn not_verified(error: JwtError) -> OauthError {
    match error {
        // With 503, the client keeps its tokens and tries again.
        JwtError::KeysUnavailable => OauthError::unavailable(
            "no known key of the client verifies the assertion, and newer keys are unavailable",
        ),
        error => refused(&error.to_string()),
    }
}

fn refused(why: &str) -> OauthError {
    OauthError {
        description: format!("the client_assertion is not valid: {why}"),
        ..invalid()
    }
}
