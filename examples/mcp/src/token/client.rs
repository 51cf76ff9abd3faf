//! Client authentication (RFC 6749 §2.3.1) with `none`, `client_secret_basic` or
//! `client_secret_post`.

use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, HeaderMap};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_PAD_INDIFFERENT;

use crate::app::App;
use crate::clients::{Client, ClientError, DocumentError};
use crate::error::OauthError;
use crate::parameters::Parameters;

/// Returns the authenticated client. The layer has checked that the token belongs to this client
/// ID, and continues only if the authentication succeeds.
pub(super) async fn authenticate(
    app: &App,
    headers: &HeaderMap,
    form: &Parameters,
) -> Result<Client, OauthError> {
    let (client_id, secret) = credentials(headers, form)?;
    let client = app
        .clients
        .find(&client_id)
        .await
        .map_err(unknown)?
        .ok_or_else(invalid)?;
    let right = match (&client.secret, &secret) {
        (None, None) => true,
        (_, Some(secret)) => client.verify_secret(secret),
        (Some(_), None) => false,
    };
    if right { Ok(client) } else { Err(invalid()) }
}

/// Returns the client ID and the secret. A client must use only one method.
fn credentials(
    headers: &HeaderMap,
    form: &Parameters,
) -> Result<(String, Option<String>), OauthError> {
    let (named, posted) = (form.one("client_id")?, form.one("client_secret")?);
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Ok((
            named.ok_or_else(invalid)?.to_owned(),
            posted.map(str::to_owned),
        ));
    };
    let (client_id, secret) = basic(value.as_bytes()).ok_or_else(invalid)?;
    if posted.is_some() || named.is_some_and(|named| named != client_id) {
        return Err(OauthError::invalid_request(
            "the request uses more than one method of client authentication",
        ));
    }
    Ok((client_id, (!secret.is_empty()).then_some(secret)))
}

/// Parses HTTP Basic credentials, whose parts are form-encoded.
fn basic(value: &[u8]) -> Option<(String, String)> {
    let (scheme, rest) = value.split_at_checked("basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let pair = String::from_utf8(STANDARD_PAD_INDIFFERENT.decode(rest.trim_ascii()).ok()?).ok()?;
    let (client_id, secret) = pair.split_once(':')?;
    Some((decoded(client_id), decoded(secret)))
}

fn decoded(text: &str) -> String {
    // A form encoder escapes `&` and `=`, so an unescaped one is meant literally.
    let text = text.replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(text.as_bytes())
        .next()
        .map(|(text, _)| text.into_owned())
        .unwrap_or_default()
}

fn invalid() -> OauthError {
    OauthError::new(
        "invalid_client",
        "unknown client or wrong client secret: if the registration has expired, register again",
    )
    .with_status(StatusCode::UNAUTHORIZED)
}

fn unknown(error: ClientError) -> OauthError {
    match error {
        ClientError::Store(error) => error.into(),
        // The failure may be temporary. With 503, the client keeps its tokens and tries again.
        ClientError::Document(why @ (DocumentError::Unreachable(_) | DocumentError::Busy)) => {
            OauthError::unavailable(why.to_string())
        }
        ClientError::Document(DocumentError::Status(status)) if status.is_server_error() => {
            OauthError::unavailable(DocumentError::Status(status).to_string())
        }
        ClientError::Document(why) => OauthError {
            description: why.to_string(),
            ..invalid()
        },
    }
}
