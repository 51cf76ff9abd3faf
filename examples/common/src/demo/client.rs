//! Parameters and credentials in the requests of clients.

use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, HeaderMap, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::oauth_error::oauth_error;

/// The error for a client that fails to authenticate.
pub const WRONG: OauthError = OauthError("invalid_client", "unknown client or wrong secret");

/// An error of RFC 6749 §5.2.
#[derive(Debug)]
pub struct OauthError(pub &'static str, pub &'static str);

impl IntoResponse for OauthError {
    fn into_response(self) -> Response {
        let Self(code, description) = self;
        if code == "invalid_client" {
            let challenge = [(WWW_AUTHENTICATE, r#"Basic realm="demo""#)];
            let error = oauth_error(StatusCode::UNAUTHORIZED, code, description);
            return (challenge, error).into_response();
        }
        oauth_error(StatusCode::BAD_REQUEST, code, description).into_response()
    }
}

/// The parameters of a request. None is repeated (RFC 6749 §3.2).
#[derive(Debug)]
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub fn parse(text: &[u8]) -> Result<Self, OauthError> {
        let all: Vec<(String, String)> = form_urlencoded::parse(text).into_owned().collect();
        let repeated = all
            .iter()
            .enumerate()
            .any(|(at, (name, _))| all[..at].iter().any(|(other, _)| other == name));
        if repeated {
            Err(OauthError("invalid_request", "a parameter is repeated"))
        } else {
            Ok(Self(all))
        }
    }

    /// Returns the value of a parameter. An empty value counts as missing (RFC 6749 §3.1).
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    pub fn need(&self, name: &str) -> Result<&str, OauthError> {
        self.get(name)
            .ok_or(OauthError("invalid_request", "a parameter is missing"))
    }
}

/// Returns the client ID and the secret in a request to the token or revocation endpoint, from HTTP
/// Basic or from the form.
pub fn credentials(
    headers: &HeaderMap,
    form: &Parameters,
) -> Result<(Option<String>, Option<String>), OauthError> {
    match headers.get(AUTHORIZATION) {
        Some(value) => {
            let (client_id, secret) = basic(value.as_bytes()).ok_or(WRONG)?;
            Ok((Some(client_id), Some(secret)))
        }
        None => Ok((
            form.get("client_id").map(str::to_owned),
            form.get("client_secret").map(str::to_owned),
        )),
    }
}

/// Parses HTTP Basic credentials. The client ID and the secret are form-encoded (RFC 6749 §2.3.1).
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
