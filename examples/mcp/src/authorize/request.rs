//! Validates authorization requests.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::reply::Reply;
use crate::app::App;
use crate::clients::Client;
use crate::error::OauthError;
use crate::parameters::Parameters;

/// The maximum length of `state`, in bytes.
const LONGEST_STATE: usize = 2048;

/// A valid authorization request (RFC 6749 §4.1.1, RFC 7636 §4.3, RFC 8707 §2).
///
/// `prompt=consent` is supported. Other parameters of OpenID Connect are ignored, as RFC 6749 §3.1
/// requires.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Asked {
    pub(super) client_id: String,
    pub(super) reply: Reply,
    /// The PKCE code challenge (method S256).
    pub(super) code_challenge: String,
    pub(super) scopes: BTreeSet<String>,
    pub(super) resource: Option<String>,
    /// Whether to show the consent page even if a consent is remembered.
    pub(super) ask_again: bool,
}

impl Asked {
    pub(super) fn read(
        app: &App,
        client: &Client,
        reply: Reply,
        query: &Parameters,
    ) -> Result<Self, OauthError> {
        if query.repeat(&["resource"]) {
            return Err(OauthError::invalid_request("a parameter is repeated"));
        }
        let get = |name| query.all(name).next();
        match get("response_type") {
            Some("code") => {}
            Some(_) => {
                return Err(OauthError::new(
                    "unsupported_response_type",
                    "the only supported response_type is code",
                ));
            }
            None => return Err(OauthError::invalid_request("response_type is missing")),
        }
        if get("response_mode").is_some_and(|mode| mode != "query") {
            return Err(OauthError::invalid_request(
                "the only supported response_mode is query",
            ));
        }
        if reply
            .state
            .as_ref()
            .is_some_and(|state| state.len() > LONGEST_STATE)
        {
            return Err(OauthError::invalid_request(format!(
                "state is longer than {LONGEST_STATE} bytes"
            )));
        }
        Ok(Self {
            client_id: client.client_id.clone(),
            reply,
            code_challenge: challenge(query)?,
            scopes: scopes(app, client, get("scope"))?,
            resource: resource(app, query)?,
            ask_again: get("prompt")
                .is_some_and(|prompt| prompt.split(' ').any(|prompt| prompt == "consent")),
        })
    }

    /// Returns the scopes in the syntax of OAuth.
    pub(super) fn scope(&self) -> String {
        self.scopes
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(" ")
    }
}

fn challenge(query: &Parameters) -> Result<String, OauthError> {
    let get = |name| query.all(name).next();
    let challenge = get("code_challenge");
    let challenge = challenge.ok_or_else(|| {
        OauthError::invalid_request("code_challenge is missing: PKCE is required")
    })?;
    // If the parameter is missing, the method is `plain` (RFC 7636 §4.3).
    if get("code_challenge_method") != Some("S256") {
        return Err(OauthError::invalid_request(
            "code_challenge_method must be S256",
        ));
    }
    if URL_SAFE_NO_PAD
        .decode(challenge)
        .is_ok_and(|hash| hash.len() == 32)
    {
        Ok(challenge.to_owned())
    } else {
        Err(OauthError::invalid_request(
            "code_challenge is not a SHA-256 hash in base64url",
        ))
    }
}

/// Returns the requested scopes. A client may request more than it registered, because the user is
/// asked.
fn scopes(app: &App, client: &Client, asked: Option<&str>) -> Result<BTreeSet<String>, OauthError> {
    let asked = app.scopes.read(asked.unwrap_or_default())?;
    // The client may have registered when other scopes were configured.
    let registered = client.scope.as_deref().unwrap_or_default();
    let registered = app.scopes.read(registered).unwrap_or_default();
    // A request without scopes gets the registered scopes, or else all of them (RFC 6749 §3.3).
    let found = [asked, registered]
        .into_iter()
        .find(|scopes| !scopes.is_empty());
    Ok(match found {
        Some(scopes) => scopes.into_iter().map(str::to_owned).collect(),
        None => app.scopes.all().iter().cloned().collect(),
    })
}

/// Checks the requested resources. This server has only one.
fn resource(app: &App, query: &Parameters) -> Result<Option<String>, OauthError> {
    let mut asked = query.all("resource").peekable();
    if asked.peek().is_none() {
        return Ok(None);
    }
    if asked.all(|text| app.issuer.is_resource(text)) {
        Ok(Some(app.issuer.resource()))
    } else {
        Err(OauthError::new(
            "invalid_target",
            "this server issues no tokens for that resource",
        ))
    }
}
