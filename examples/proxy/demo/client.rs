//! The clients of the demo, and how they say who they are.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, HeaderMap, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use subtle::ConstantTimeEq as _;

pub(super) const PUBLIC: &str = "demo";
pub(super) const CONFIDENTIAL: &str = "demo-confidential";
pub(super) const SECRET: &str = "demo-secret";

/// An error of RFC 6749 §5.2.
#[derive(Debug)]
pub(super) struct OauthError(pub(super) &'static str, pub(super) &'static str);

impl IntoResponse for OauthError {
    fn into_response(self) -> Response {
        let body = Json(json!({ "error": self.0, "error_description": self.1 }));
        let no_store = [(CACHE_CONTROL, "no-store")];
        if self.0 == "invalid_client" {
            let challenge = [(WWW_AUTHENTICATE, r#"Basic realm="demo""#)];
            return (StatusCode::UNAUTHORIZED, no_store, challenge, body).into_response();
        }
        (StatusCode::BAD_REQUEST, no_store, body).into_response()
    }
}

/// The parameters of a request, none of them twice (RFC 6749 §3.2).
#[derive(Debug)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(super) fn parse(text: &[u8]) -> Result<Self, OauthError> {
        let all: Vec<(String, String)> = form_urlencoded::parse(text).into_owned().collect();
        let repeated = all.iter().enumerate().any(|(at, (name, _))| all[..at].iter().any(|(other, _)| other == name));
        if repeated { Err(OauthError("invalid_request", "a parameter is repeated")) } else { Ok(Self(all)) }
    }

    /// The value of a parameter; an empty one counts as none (RFC 6749 §3.1).
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    pub(super) fn need(&self, name: &str) -> Result<&str, OauthError> {
        self.get(name).ok_or(OauthError("invalid_request", "a parameter is missing"))
    }
}

/// The client that a name stands for.
pub(super) fn known(client_id: &str) -> Option<&'static str> {
    [PUBLIC, CONFIDENTIAL].into_iter().find(|known| *known == client_id)
}

/// Who sends a request to the token or revocation endpoint: by HTTP Basic or by the form.
pub(super) fn authenticate(headers: &HeaderMap, form: &Parameters) -> Result<&'static str, OauthError> {
    let wrong = || OauthError("invalid_client", "unknown client or wrong secret");
    let basic = headers.get(AUTHORIZATION).map(|value| basic(value.as_bytes()).ok_or_else(wrong)).transpose()?;
    let (client_id, secret) = match &basic {
        Some((client_id, secret)) => (Some(client_id.as_str()), Some(secret.as_str())),
        None => (form.get("client_id"), form.get("client_secret")),
    };
    let client = client_id.and_then(known).ok_or_else(wrong)?;
    let right = match secret {
        None => client == PUBLIC,
        Some(secret) => client == CONFIDENTIAL && bool::from(secret.as_bytes().ct_eq(SECRET.as_bytes())),
    };
    right.then_some(client).ok_or_else(wrong)
}

/// Name and secret, each form-encoded (RFC 6749 §2.3.1).
fn basic(value: &[u8]) -> Option<(String, String)> {
    let (scheme, rest) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(rest.trim_ascii()).ok()?).ok()?;
    let (client_id, secret) = pair.split_once(':')?;
    let decoded = |text: &str| {
        let (text, _) = form_urlencoded::parse(text.as_bytes()).next()?;
        Some(text.into_owned())
    };
    Some((decoded(client_id)?, decoded(secret)?))
}
