//! Client authentication with `none`, `client_secret_basic`, `client_secret_post` (RFC 6749 §2.3.1)
//! or `private_key_jwt` (RFC 7523).

use axum::http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use axum::http::request::Parts;
use axum::http::{Extensions, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_PAD_INDIFFERENT;

use super::assertion;
use crate::app::App;
use crate::clients::{Client, ClientError, DocumentError};
use crate::error::OauthError;
use crate::parameters::Parameters;
use crate::rate_limit::{Network, Wasted};

/// Returns the authenticated client. The layer has checked that the token belongs to this client
/// ID, and continues only if the authentication succeeds.
pub(super) async fn authenticate(
    app: &App,
    head: &Parts,
    form: &Parameters,
) -> Result<Client, OauthError> {
    let (client_id, credential) = credentials(&head.headers, form)?;
    let client = app
        .clients
        .find(&client_id, Network::of_request(&head.extensions))
        .await
        .map_err(|error| unknown(error, &head.extensions))?
        .ok_or_else(invalid)?;
    match &credential {
        Credential::None if client.is_public() => Ok(client),
        Credential::None if client.keys.is_some() => Err(OauthError {
            description: "this client must authenticate with a client_assertion".into(),
            ..invalid()
        }),
        Credential::Secret(secret) if client.verify_secret(secret) => Ok(client),
        Credential::None | Credential::Secret(_) => Err(invalid()),
        Credential::Assertion(assertion) => {
            assertion::verify(app, &client, assertion, &head.extensions).await?;
            Ok(client)
        }
    }
}

/// The credential in a request.
enum Credential<'a> {
    None,
    Secret(String),
    Assertion(&'a str),
}

/// Returns the client ID and the credential. A client must use only one method.
fn credentials<'a>(
    headers: &HeaderMap,
    form: &'a Parameters,
) -> Result<(String, Credential<'a>), OauthError> {
    let more = || {
        OauthError::invalid_request(
            "the request uses more than one method of client authentication",
        )
    };
    let (named, posted) = (form.one("client_id")?, form.one("client_secret")?);
    let basic = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    if let Some(assertion) = form.one("client_assertion")? {
        if form.one("client_assertion_type")? != Some(assertion::TYPE) {
            return Err(OauthError::invalid_request(format!(
                "the client_assertion_type must be {}",
                assertion::TYPE
            )));
        }
        if posted.is_some() || basic.is_some() {
            return Err(more());
        }
        let client_id = match named {
            Some(named) => named.to_owned(),
            None => assertion::client_id(assertion).ok_or_else(invalid)?,
        };
        return Ok((client_id, Credential::Assertion(assertion)));
    }
    let credential = |secret: Option<String>| secret.map_or(Credential::None, Credential::Secret);
    let Some(basic) = basic else {
        let client_id = named.ok_or_else(invalid)?.to_owned();
        return Ok((client_id, credential(posted.map(str::to_owned))));
    };
    let (client_id, secret) = decode_basic(basic).ok_or_else(invalid)?;
    if posted.is_some() || named.is_some_and(|named| named != client_id) {
        return Err(more());
    }
    let secret = (!secret.is_empty()).then_some(secret);
    Ok((client_id, credential(secret)))
}

/// Parses HTTP Basic credentials, whose parts are form-encoded.
fn decode_basic(value: &[u8]) -> Option<(String, String)> {
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

pub(super) fn invalid() -> OauthError {
    OauthError::new(
        "invalid_client",
        "unknown client or wrong client secret: if the registration has expired, register again",
    )
    .with_status(StatusCode::UNAUTHORIZED)
}

fn unknown(error: ClientError, request: &Extensions) -> OauthError {
    match error {
        ClientError::Store(error) => error.into(),
        // The failure may be temporary. With 503, the client keeps its tokens and tries again.
        ClientError::Document(DocumentError::Fetch(why)) if why.is_temporary() => {
            // Anyone can name a host that does not respond.
            Wasted::mark(request);
            OauthError::unavailable(DocumentError::Fetch(why).to_string())
        }
        ClientError::Document(why) => OauthError {
            description: why.to_string(),
            ..invalid()
        },
    }
}
