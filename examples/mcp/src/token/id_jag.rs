//! Enterprise-managed authorization (SEP-990): the identity provider of an enterprise lets a client
//! act for a user, without a log-in here.
//!
//! The client presents an identity assertion authorization grant, an ID-JAG
//! (draft-ietf-oauth-identity-assertion-authz-grant §4), with the grant type of RFC 7523 §2.1. The
//! access token expires after 15 minutes, and there is no refresh token: the client asks its
//! identity provider again, which can refuse. The layer does not list such a session, so that only
//! its client can end it earlier.
//!
//! There is no token of the provider either. The layer gets a random one in its place, which opens
//! nothing. Therefore `--mcp-upstream` must not expect one.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use server_common::jose::{Audience, Issuer, Jwt, JwtError, Keys};

use super::answer::Answer;
use super::need;
use super::single_use::{SingleUse, now};
use crate::app::App;
use crate::clients::Client;
use crate::error::OauthError;
use crate::parameters::Parameters;
use crate::records::{Handle, Kind};
use crate::users::{ClaimNames, User};

/// The grant type.
pub(crate) const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// The name of this use of the grant type, for the metadata.
pub(crate) const PROFILE: &str = "urn:ietf:params:oauth:grant-profile:id-jag";

/// The type of the assertion, which keeps it apart from ID tokens.
const TYPE: &str = "oauth-id-jag+jwt";

/// The lifetime of an access token, in seconds.
const LIFETIME: u64 = 900;

/// The identity providers whose assertions are accepted, with their keys.
pub(crate) struct TrustedIssuers(Vec<(Issuer, Keys)>);

impl TrustedIssuers {
    /// # Errors
    ///
    /// The root certificates of the platform cannot be loaded. The text names the flag.
    pub(crate) fn new(issuers: &[Issuer]) -> Result<Self, String> {
        let with_keys = |issuer: &Issuer| {
            let keys = Keys::discovered(issuer.clone());
            let keys = keys.map_err(|error| format!("--trusted-issuer {issuer}: {error}"))?;
            Ok((issuer.clone(), keys))
        };
        issuers
            .iter()
            .map(with_keys)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Returns whether this server accepts assertions.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the keys of the issuer that an assertion names, before its signature is verified.
    fn keys(&self, assertion: &str) -> Option<(&Issuer, &Keys)> {
        let claims = Jwt::unverified(assertion)?;
        let named = claims.get("iss")?.as_str()?;
        let mut known = self.0.iter();
        let (issuer, keys) = known.find(|(issuer, _)| issuer.as_str() == named)?;
        Some((issuer, keys))
    }
}

impl fmt::Debug for TrustedIssuers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let issuers = self.0.iter().map(|(issuer, _)| issuer.as_str());
        f.debug_list().entries(issuers).finish()
    }
}

#[derive(Deserialize)]
struct Claims {
    aud: Audience,
    client_id: String,
    resource: String,
    scope: Option<String>,
    /// Times may have fractions (RFC 7519 §2).
    exp: f64,
    iat: f64,
    nbf: Option<f64>,
    jti: String,
}

/// Exchanges an assertion, which works once, for an access token.
pub(super) async fn exchange(
    app: &App,
    client: &Client,
    form: &Parameters,
) -> Result<Answer, OauthError> {
    if client.is_public() {
        let why = "a client must authenticate to use this grant type";
        return Err(OauthError::new("unauthorized_client", why));
    }
    let assertion = need(form, "assertion")?;
    let keys = app.trusted_issuers.keys(assertion);
    let (issuer, keys) = keys.ok_or_else(|| refused("its issuer is not trusted"))?;
    let jwt = Jwt::parse(assertion).map_err(not_verified)?;
    if !jwt.is_typed(TYPE) {
        return Err(refused(&format!("its typ must be {TYPE}")));
    }
    let claims = jwt.verify(keys).await.map_err(not_verified)?;
    let user = check_user(app, &claims)?;
    let id_token = app.provider.own_id_token(&claims, &user);
    let claims: Claims = serde_json::from_value(claims.into())
        .map_err(|_| refused("it needs the claims aud, client_id, resource, exp, iat and jti"))?;
    let left = claims.check(app, client, now())?;
    let scope = claims.scope(app, form)?;
    app.clients.keep(&client.client_id).await?;
    // The length keeps the two parts apart.
    let id = format!("{} {issuer} {}", issuer.as_str().len(), claims.jti);
    if !app
        .records
        .insert(Kind::IdentityAssertion, &id, left)
        .await?
    {
        return Err(refused("it was used before"));
    }
    let answer = json!({
        "access_token": Handle::random()?.to_string(),
        "token_type": "Bearer",
        "expires_in": LIFETIME,
        "scope": scope,
        // Names the user to the layer, which removes the token from the response.
        "id_token": id_token,
    });
    match answer {
        Value::Object(answer) => Ok(answer),
        _ => Err(OauthError::server_error("internal error")),
    }
}

/// Checks that the rules allow the user, as at a log-in.
fn check_user(app: &App, claims: &Map<String, Value>) -> Result<User, OauthError> {
    let config = app.provider.config();
    let user = User::read(
        claims,
        &ClaimNames::STANDARD,
        config.groups_claim(),
        &config.rules,
    );
    let user = user.ok_or_else(|| refused("it needs the claim sub"))?;
    if !config.rules.admit(&user) {
        tracing::info!("an assertion was refused: no --allow-… rule names its user");
        return Err(refused("its user may not use this server"));
    }
    Ok(user)
}

impl Claims {
    /// Checks the claims. `now` is in seconds since 1970. Returns the time for which the assertion
    /// must be remembered.
    fn check(&self, app: &App, client: &Client, now: f64) -> Result<Duration, OauthError> {
        let own = app.issuer.as_str();
        if !self.aud.has(own) && !self.aud.has(&format!("{own}/")) {
            return Err(refused(&format!("its aud must be {own}")));
        }
        if self.client_id != client.client_id {
            return Err(refused("it is for another client"));
        }
        if !app.issuer.is_resource(&self.resource) {
            let resource = app.issuer.resource();
            return Err(refused(&format!("its resource must be {resource}")));
        }
        let single_use = SingleUse {
            exp: self.exp,
            nbf: self.nbf,
            iat: Some(self.iat),
            jti: &self.jti,
        };
        single_use.check(now).map_err(refused)
    }

    /// Returns the scope of the access token: what the client requests, as far as the issuer grants
    /// it and this server supports it.
    fn scope(&self, app: &App, form: &Parameters) -> Result<String, OauthError> {
        let all = app.scopes.of_resource();
        let granted = match &self.scope {
            Some(scope) => app.scopes.read(scope)?,
            None => all,
        };
        let requested = match form.one("scope")? {
            Some(scope) => app.scopes.read(scope)?,
            None => granted.clone(),
        };
        let scope: Vec<_> = requested
            .into_iter()
            .filter(|scope| granted.contains(scope))
            .collect();
        if scope.is_empty() && !granted.is_empty() {
            let why = "the assertion grants none of the requested scopes";
            return Err(OauthError::new("invalid_scope", why));
        }
        Ok(scope.join(" "))
    }
}

fn not_verified(error: JwtError) -> OauthError {
    match error {
        JwtError::KeysUnavailable => OauthError::unavailable(
            "no known key of its issuer verifies the assertion, and newer keys are unavailable",
        ),
        error => refused(&error.to_string()),
    }
}

fn refused(why: &str) -> OauthError {
    OauthError::invalid_grant(format!("the assertion is not valid: {why}"))
}
