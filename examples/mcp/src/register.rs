//! Dynamic client registration (RFC 7591).

use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use crate::app::App;
use crate::clients::{
    ClientKeys, GRANT_TYPES, InvalidMetadata, KeyLocation, Metadata, Origin, RESPONSE_TYPES,
    Registration,
};
use crate::content_type::is_json;
use crate::cors::with_cors;
use crate::error::OauthError;
use crate::rate_limit;

/// The maximum size of the metadata in a registration request, in bytes.
const LARGEST: usize = 16 * 1024;

pub(crate) fn routes(app: &App) -> Router<App> {
    let limit = from_fn_with_state(app.clone(), rate_limit::registrations);
    with_cors(
        Router::new()
            .route("/register", post(register))
            .layer(DefaultBodyLimit::max(LARGEST))
            .layer(limit),
    )
}

/// Registers a client. Registration is open to everyone, because a registration alone grants no
/// access: the user decides at each log-in.
async fn register(
    State(app): State<App>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, OauthError> {
    let body = body.map_err(|rejection| {
        OauthError::new(
            "invalid_client_metadata",
            "the metadata is too large or could not be read",
        )
        .with_status(rejection.status())
    })?;
    if !is_json(&headers) {
        return Err(OauthError::new(
            "invalid_client_metadata",
            "the Content-Type must be application/json",
        ));
    }
    let metadata = Metadata::parse(&body, Origin::Registration, app.clients.rules())?;
    let registration = app.clients.register(metadata).await?;
    tracing::info!(
        client_id = registration.client.client_id,
        "registered a client"
    );
    let answer = Answer::of(&registration, app.scopes.all());
    Ok((
        StatusCode::CREATED,
        [(CACHE_CONTROL, "no-store")],
        Json(answer),
    )
        .into_response())
}

impl From<InvalidMetadata> for OauthError {
    fn from(error: InvalidMetadata) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// The registered metadata of a client (RFC 7591 §3.2.1).
#[derive(Serialize)]
struct Answer<'a> {
    client_id: &'a str,
    client_id_issued_at: u64,
    #[serde(flatten)]
    secret: Option<Secret<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_uri: Option<&'a str>,
    redirect_uris: &'a [String],
    token_endpoint_auth_method: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    application_type: Option<&'static str>,
    #[serde(flatten)]
    keys: Option<AnswerKeys<'a>>,
    grant_types: [&'static str; 2],
    response_types: [&'static str; 1],
    scope: String,
}

#[derive(Serialize)]
struct Secret<'a> {
    client_secret: &'a str,
    client_secret_expires_at: u64,
}

/// The keys of a client, as it registered them.
#[derive(Serialize)]
struct AnswerKeys<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    jwks: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwks_uri: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_endpoint_auth_signing_alg: Option<&'a str>,
}

impl<'a> AnswerKeys<'a> {
    fn of(keys: &'a ClientKeys) -> Self {
        let (jwks, jwks_uri) = match &keys.location {
            KeyLocation::Jwks(jwks) => (Some(jwks), None),
            KeyLocation::JwksUri(uri) => (None, Some(uri.as_str())),
        };
        Self {
            jwks,
            jwks_uri,
            token_endpoint_auth_signing_alg: keys.algorithm.as_deref(),
        }
    }
}

impl<'a> Answer<'a> {
    fn of(registration: &'a Registration, scopes: &[String]) -> Self {
        let Registration {
            client,
            secret,
            auth_method,
            application_type,
            issued_at,
            expires_at,
        } = registration;
        let secret = secret.as_deref();
        Self {
            client_id: &client.client_id,
            client_id_issued_at: *issued_at,
            secret: secret.map(|secret| Secret {
                client_secret: secret,
                client_secret_expires_at: *expires_at,
            }),
            client_name: client.client_name.as_deref(),
            client_uri: client.client_uri.as_deref(),
            redirect_uris: &client.redirect_uris,
            token_endpoint_auth_method: auth_method,
            application_type: *application_type,
            keys: client.keys.as_ref().map(AnswerKeys::of),
            grant_types: GRANT_TYPES,
            response_types: RESPONSE_TYPES,
            scope: client.scope.clone().unwrap_or_else(|| scopes.join(" ")),
        }
    }
}
