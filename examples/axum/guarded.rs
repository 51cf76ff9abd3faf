//! A route that uses the grant behind an access token instead of the token itself.

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde_json::{Value, json};
use tower_oauth_refresh::AccessGrant;

/// The grant behind the access token of the request. It exists only behind an `AccessLayer`.
pub(crate) struct Granted(AccessGrant);

impl<S: Sync> FromRequestParts<S> for Granted {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        parts
            .extensions
            .get()
            .cloned()
            .map(Self)
            .ok_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

pub(crate) async fn grant(Granted(grant): Granted) -> Json<Value> {
    Json(json!({ "client_id": grant.client_id(), "scopes": grant.scopes().collect::<Vec<_>>() }))
}
