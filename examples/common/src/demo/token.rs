//! The token and revocation endpoints of the demo.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::Demo;
use super::client::{OauthError, Parameters};

pub async fn token<D: Demo>(
    State(demo): State<D>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, OauthError> {
    let form = form(&headers, &body)?;
    let client = D::authenticate(&headers, &form)?;
    let mut id_token = None;
    let tokens = match form.need("grant_type")? {
        "authorization_code" => {
            let code = demo.sessions().take_code(form.need("code")?)?;
            let verifier = URL_SAFE_NO_PAD.encode(Sha256::digest(form.need("code_verifier")?));
            if code.client != client
                || code.redirect_uri != form.need("redirect_uri")?
                || code.challenge != verifier
            {
                return Err(OauthError(
                    "invalid_grant",
                    "the code was not issued for this request",
                ));
            }
            id_token = demo.id_token(&code);
            demo.sessions().begin(client, code.user, code.scope)?
        }
        "refresh_token" => {
            demo.sessions()
                .refresh(form.need("refresh_token")?, client, form.get("scope"))?
        }
        _ => {
            return Err(OauthError(
                "unsupported_grant_type",
                "the grant type must be authorization_code or refresh_token",
            ));
        }
    };
    let settings = demo.sessions().settings();
    let mut answer = json!({
        "access_token": tokens.access,
        "token_type": "Bearer",
        "refresh_token": tokens.refresh,
        "scope": tokens.scope,
    });
    if settings.expires_in {
        answer["expires_in"] = settings.access_lifetime.as_secs().into();
    }
    if let Some(id_token) = id_token {
        answer["id_token"] = id_token.into();
    }
    if let Some(lifetime) = settings.refresh_lifetime {
        answer["refresh_expires_in"] = lifetime.as_secs().into();
    }
    Ok(([(CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}

pub async fn revoke<D: Demo>(
    State(demo): State<D>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, OauthError> {
    let form = form(&headers, &body)?;
    let client = D::authenticate(&headers, &form)?;
    demo.sessions().revoke(form.need("token")?, client);
    Ok(StatusCode::OK)
}

fn form(headers: &HeaderMap, body: &[u8]) -> Result<Parameters, OauthError> {
    let content_type = headers
        .get(CONTENT_TYPE)
        .map(|value| value.as_bytes())
        .unwrap_or_default();
    let essence = content_type
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    if !essence.eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
        return Err(OauthError("invalid_request", "the body is not a form"));
    }
    Parameters::parse(body)
}
