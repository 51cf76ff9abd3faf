//! The API for operators and their programs. `openapi.json` describes it.

use axum::extract::{Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tower_oauth_refresh::store::StoreError;
use tower_oauth_refresh::{ClientId, GrantKey, InvalidSubject, Session, Subject, Timestamp};

use super::Console;

const OPENAPI: &str = include_str!("openapi.json");

pub(super) fn routes(console: Console) -> Router {
    Router::new()
        .route("/sessions", get(list).delete(end_sessions))
        .route("/sessions/{grant}", delete(end_grant))
        .route("/clients/{id}", delete(end_client))
        .route_layer(from_fn_with_state(console.clone(), authorize))
        .route("/openapi.json", get(openapi))
        .with_state(console)
}

async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

/// Refuses requests without the token. All others get `Cache-Control: no-store`.
async fn authorize(
    State(console): State<Console>,
    headers: HeaderMap,
    request: axum::extract::Request,
    next: Next,
) -> Response {
    let mut response = if console.token.authorizes(&headers) {
        next.run(request).await
    } else {
        ApiError::Unauthorized.into_response()
    };
    let no_store = axum::http::HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, no_store);
    response
}

enum ApiError {
    Unauthorized,
    Invalid(&'static str),
    Store,
}

impl From<StoreError> for ApiError {
    fn from(_: StoreError) -> Self {
        Self::Store
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code, description) = match self {
            Self::Unauthorized => (
                StatusCode::UNAUTHORIZED,
                "invalid_token",
                "the bearer token is missing or invalid",
            ),
            Self::Invalid(description) => (StatusCode::BAD_REQUEST, "invalid_request", description),
            Self::Store => (
                StatusCode::SERVICE_UNAVAILABLE,
                "temporarily_unavailable",
                "the store is unavailable",
            ),
        };
        let body = Json(json!({ "error": code, "error_description": description }));
        let mut response = (status, body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = axum::http::HeaderValue::from_static("Bearer realm=\"admin\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

#[derive(Deserialize)]
struct User {
    subject: String,
    issuer: Option<String>,
}

impl User {
    /// Returns the subjects that are meant. An empty issuer is that of a form that was left empty.
    fn subjects(&self, console: &Console) -> Result<Vec<Subject>, ApiError> {
        let issuer = self.issuer.as_deref().filter(|issuer| !issuer.is_empty());
        let subjects = console.sessions.subjects(&self.subject, issuer);
        subjects
            .map_err(|_: InvalidSubject| ApiError::Invalid("the subject or its issuer is invalid"))
    }
}

type UserQuery = Result<Query<User>, axum::extract::rejection::QueryRejection>;

fn user(query: UserQuery) -> Result<User, ApiError> {
    match query {
        Ok(Query(user)) => Ok(user),
        Err(_) => Err(ApiError::Invalid(
            "the parameter subject is missing or repeated",
        )),
    }
}

/// A session, as the API describes it. Times are seconds since 1970.
#[derive(Serialize)]
struct SessionView {
    grant: String,
    client_id: String,
    created_at: u64,
    last_refreshed_at: Option<u64>,
    expires_at: u64,
    scope: String,
    label: Option<String>,
}

impl From<&Session> for SessionView {
    fn from(session: &Session) -> Self {
        let seconds = |time: Timestamp| time.as_millis() / 1000;
        Self {
            grant: session.grant().to_string(),
            client_id: session.client_id().to_owned(),
            created_at: seconds(session.created_at()),
            last_refreshed_at: session.last_refreshed_at().map(seconds),
            expires_at: seconds(session.expires_at()),
            scope: session.scopes().collect::<Vec<_>>().join(" "),
            label: session.label().map(str::to_owned),
        }
    }
}

async fn list(
    State(console): State<Console>,
    query: UserQuery,
) -> Result<Json<serde_json::Value>, ApiError> {
    let subjects = user(query)?.subjects(&console)?;
    let sessions = console.sessions.list(&subjects).await?;
    let sessions: Vec<_> = sessions.iter().map(SessionView::from).collect();
    Ok(Json(json!({ "sessions": sessions })))
}

async fn end_sessions(
    State(console): State<Console>,
    query: UserQuery,
) -> Result<Json<serde_json::Value>, ApiError> {
    let subjects = user(query)?.subjects(&console)?;
    let ended = console.sessions.end(&subjects).await?;
    tracing::info!(ended, "an operator ended the sessions of a user");
    Ok(Json(json!({ "ended": ended })))
}

async fn end_grant(
    State(console): State<Console>,
    Path(grant): Path<String>,
) -> Result<Json<serde_json::Value>, ApiError> {
    let grant: GrantKey = grant
        .parse()
        .map_err(|_| ApiError::Invalid("the grant is not 43 characters of base64url"))?;
    let ended = console.sessions.end_grant(&grant).await?;
    tracing::info!(grant = %grant.short(), ended, "an operator ended a session");
    Ok(Json(json!({ "ended": usize::from(ended) })))
}

async fn end_client(
    State(console): State<Console>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let client_id = ClientId::try_from(id.as_str())
        .map_err(|_| ApiError::Invalid("the client ID is empty or too long"))?;
    console.sessions.end_client(&client_id).await?;
    tracing::info!(client_id = id, "an operator ended all sessions of a client");
    Ok(StatusCode::NO_CONTENT)
}
