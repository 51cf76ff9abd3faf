//! The authorization endpoint of the demo.

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use server_common::demo::client::{OauthError, Parameters};
use server_common::demo::state::Code;
use url::{Host, Url};

use super::Demo;
use super::clients;

const USER: &str = "demo-user";
const SCOPES: [&str; 2] = ["profile", "email"];

/// Redirects the browser back to the client with a code. The demo user is always logged in and
/// always consents.
pub(super) async fn authorize(
    State(demo): State<Demo>,
    RawQuery(query): RawQuery,
) -> Result<Response, OauthError> {
    let query = Parameters::parse(query.unwrap_or_default().as_bytes())?;
    let client = query.get("client_id").and_then(clients::known);
    let client = client.ok_or(OauthError("invalid_request", "unknown client"))?;
    // If the client or the redirect URI is invalid, the browser must not be redirected (RFC 6749
    // §4.1.2.1).
    let redirect_uri = query.need("redirect_uri")?;
    let mut target = loopback(redirect_uri).ok_or(OauthError(
        "invalid_request",
        "redirect_uri is not registered",
    ))?;
    let code = match challenge_and_scope(&query) {
        Ok((challenge, scope)) => {
            let (user, redirect_uri) = (USER.to_owned(), redirect_uri.to_owned());
            demo.sessions.add_code(Code {
                client,
                user,
                redirect_uri,
                challenge,
                scope,
                nonce: None,
            })
        }
        Err(error) => Err(error),
    };
    let mut parameters = target.query_pairs_mut();
    match code {
        Ok(code) => parameters.append_pair("code", &code),
        Err(OauthError(error, description)) => parameters
            .append_pair("error", error)
            .append_pair("error_description", description),
    };
    if let Some(state) = query.get("state") {
        parameters.append_pair("state", state);
    }
    parameters.append_pair("iss", &demo.issuer);
    drop(parameters);
    Ok((StatusCode::FOUND, [(LOCATION, String::from(target))]).into_response())
}

/// Returns the PKCE challenge and the scope of a request. The default scope is `profile`.
///
/// Returns an error if the request is not one for a code with the method S256, or names an unknown
/// scope.
fn challenge_and_scope(query: &Parameters) -> Result<(String, String), OauthError> {
    if query.need("response_type")? != "code" {
        return Err(OauthError(
            "unsupported_response_type",
            "only code is supported",
        ));
    }
    let challenge = query.need("code_challenge")?;
    if query.get("code_challenge_method") != Some("S256") || challenge.len() != 43 {
        return Err(OauthError(
            "invalid_request",
            "a code_challenge with the method S256 is required",
        ));
    }
    let scope = query.get("scope").unwrap_or("profile");
    if !scope.split(' ').all(|scope| SCOPES.contains(&scope)) {
        return Err(OauthError(
            "invalid_scope",
            "only the scopes profile and email are supported",
        ));
    }
    Ok((challenge.to_owned(), scope.to_owned()))
}

/// Parses a redirect URI of a native client: `/callback` at any port of a loopback address (RFC
/// 8252 §7.3).
fn loopback(uri: &str) -> Option<Url> {
    let url = Url::parse(uri).ok()?;
    let is_loopback = match url.host()? {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    };
    let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    (is_loopback && plain && url.scheme() == "http" && url.path() == "/callback").then_some(url)
}
