//! The authorization endpoint, with a log-in page that asks for no password.

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use server_common::demo::client::{OauthError, Parameters};
use server_common::demo::state::Code;
use url::Url;

use super::clients::CLIENT;
use super::{Demo, page};

pub(super) const SCOPES: [&str; 4] = ["openid", "profile", "email", "offline_access"];

/// The maximum length of a user name, in bytes.
const LONGEST_NAME: usize = 64;

/// The maximum length of a nonce, in bytes.
const LONGEST_NONCE: usize = 256;

/// The parts of an authorization request that end up in the code. The log-in page repeats the
/// query.
struct Wanted {
    challenge: String,
    scope: String,
    nonce: Option<String>,
}

pub(super) async fn show(
    State(demo): State<Demo>,
    RawQuery(query): RawQuery,
) -> Result<Response, OauthError> {
    let query = query.unwrap_or_default();
    let parameters = read(&demo, &query)?;
    match wanted(&parameters) {
        Ok(wanted) => Ok(page::log_in(&wanted.scope, &query, StatusCode::OK)),
        Err(error) => Ok(back(&demo, &parameters, Err(error))),
    }
}

pub(super) async fn log_in(
    State(demo): State<Demo>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, OauthError> {
    refuse_other_sites(&headers)?;
    let query = query.unwrap_or_default();
    let parameters = read(&demo, &query)?;
    let form = Parameters::parse(&body)?;
    let wanted = match wanted(&parameters) {
        Ok(wanted) => wanted,
        Err(error) => return Ok(back(&demo, &parameters, Err(error))),
    };
    if form.get("cancel").is_some() {
        return Ok(back(
            &demo,
            &parameters,
            Err(OauthError("access_denied", "the user cancelled the log-in")),
        ));
    }
    let Some(user) = user(&form) else {
        return Ok(page::log_in(&wanted.scope, &query, StatusCode::BAD_REQUEST));
    };
    let code = Code {
        client: CLIENT,
        user: user.to_owned(),
        redirect_uri: demo.redirect_uri.as_ref().to_owned(),
        challenge: wanted.challenge,
        scope: wanted.scope,
        nonce: wanted.nonce,
    };
    Ok(back(&demo, &parameters, demo.sessions.add_code(code)))
}

/// Refuses a form that another site sends. Browsers name it (Fetch Metadata §2.4), other programs
/// do not.
pub(super) fn refuse_other_sites(headers: &HeaderMap) -> Result<(), OauthError> {
    match headers.get("sec-fetch-site") {
        Some(site) if site != "same-origin" => Err(OauthError(
            "invalid_request",
            "the form comes from another site",
        )),
        _ => Ok(()),
    }
}

/// Returns the user that a form names.
pub(super) fn user(form: &Parameters) -> Option<&str> {
    let user = form.get("other").or_else(|| form.get("user"))?.trim();
    let fits = (1..=LONGEST_NAME).contains(&user.len()) && !user.chars().any(char::is_control);
    fits.then_some(user)
}

/// Parses a query, and checks that it comes from the only client and names its redirect URI.
fn read(demo: &Demo, query: &str) -> Result<Parameters, OauthError> {
    let parameters = Parameters::parse(query.as_bytes())?;
    if parameters.get("client_id") != Some(CLIENT) {
        return Err(OauthError("invalid_request", "unknown client"));
    }
    if parameters.get("redirect_uri") != Some(&demo.redirect_uri) {
        return Err(OauthError(
            "invalid_request",
            "redirect_uri is not registered",
        ));
    }
    Ok(parameters)
}

fn wanted(query: &Parameters) -> Result<Wanted, OauthError> {
    if query.need("response_type")? != "code" {
        return Err(OauthError(
            "unsupported_response_type",
            "the only supported response_type is code",
        ));
    }
    let challenge = query.need("code_challenge")?;
    if query.get("code_challenge_method") != Some("S256") || challenge.len() != 43 {
        return Err(OauthError(
            "invalid_request",
            "a code_challenge with the method S256 is required",
        ));
    }
    let scope = query.get("scope").unwrap_or("openid");
    if !scope.split(' ').all(|scope| SCOPES.contains(&scope)) {
        return Err(OauthError("invalid_scope", "unknown scope"));
    }
    let nonce = query.get("nonce");
    if nonce.is_some_and(|nonce| nonce.len() > LONGEST_NONCE) {
        return Err(OauthError("invalid_request", "the nonce is too long"));
    }
    Ok(Wanted {
        challenge: challenge.to_owned(),
        scope: scope.to_owned(),
        nonce: nonce.map(str::to_owned),
    })
}

/// Redirects the browser back to the client.
fn back(demo: &Demo, query: &Parameters, code: Result<String, OauthError>) -> Response {
    let Ok(mut target) = Url::parse(&demo.redirect_uri) else {
        return OauthError("server_error", "the redirect URI is invalid").into_response();
    };
    let mut answer = target.query_pairs_mut();
    match code {
        Ok(code) => answer.append_pair("code", &code),
        Err(OauthError(code, why)) => answer
            .append_pair("error", code)
            .append_pair("error_description", why),
    };
    if let Some(state) = query.get("state") {
        answer.append_pair("state", state);
    }
    answer.append_pair("iss", &demo.issuer);
    drop(answer);
    (StatusCode::SEE_OTHER, [(LOCATION, String::from(target))]).into_response()
}
