//! The registered clients.

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use subtle::ConstantTimeEq as _;

use crate::provider::{OAuthError, oauth_error};

pub(crate) const SCOPES: [&str; 2] = ["profile", "email"];
pub(crate) const CHALLENGE: HeaderValue =
    HeaderValue::from_static(r#"Basic realm="clients", charset="UTF-8""#);

pub(crate) struct Client {
    pub(crate) id: &'static str,
    /// The client secret. `None` for a public client, which uses only PKCE.
    pub(crate) secret: Option<&'static str>,
    pub(crate) redirect_uri: &'static str,
}

static CLIENTS: [Client; 2] = [
    Client {
        id: "app",
        secret: None,
        redirect_uri: "http://127.0.0.1:7777/callback",
    },
    Client {
        id: "web",
        secret: Some("s3cret of web"),
        redirect_uri: "https://web.example/callback",
    },
];

const INVALID_CLIENT: OAuthError = oauth_error("invalid_client", "unknown client or wrong secret");

pub(crate) fn find(id: &str) -> Option<&'static Client> {
    CLIENTS.iter().find(|client| client.id == id)
}

/// Authenticates the client by HTTP Basic or by the form (RFC 6749 §2.3.1).
pub(crate) fn authenticate(
    headers: &HeaderMap,
    form_id: Option<&str>,
    form_secret: Option<&str>,
) -> Result<&'static Client, OAuthError> {
    let (id, secret) = match headers.get(AUTHORIZATION) {
        Some(basic) => {
            let (id, secret) = read_basic(basic).ok_or(INVALID_CLIENT)?;
            if form_secret.is_some() || form_id.is_some_and(|form_id| form_id != id) {
                return Err(oauth_error(
                    "invalid_request",
                    "the client authenticates in the header and in the form",
                ));
            }
            (id, Some(secret))
        }
        None => (
            form_id.unwrap_or_default().to_owned(),
            form_secret.map(str::to_owned),
        ),
    };
    let client = find(&id).ok_or(INVALID_CLIENT)?;
    let (given, registered) = (
        secret.unwrap_or_default(),
        client.secret.unwrap_or_default(),
    );
    if given.as_bytes().ct_eq(registered.as_bytes()).into() {
        Ok(client)
    } else {
        Err(INVALID_CLIENT)
    }
}

fn read_basic(header: &HeaderValue) -> Option<(String, String)> {
    let (scheme, credentials) = header.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let credentials = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
    let (id, secret) = credentials.split_once(':')?;
    let decode = |part: &str| {
        Some(
            percent_decode_str(&part.replace('+', " "))
                .decode_utf8()
                .ok()?
                .into_owned(),
        )
    };
    Some((decode(id)?, decode(secret)?))
}
