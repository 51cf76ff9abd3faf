//! A route that uses the grant behind an access token instead of the token itself.

use axum::Json;
use serde_json::{Value, json};
use tower_oauth_refresh::AccessGrant;

pub(crate) async fn grant(grant: AccessGrant) -> Json<Value> {
    Json(json!({ "client_id": grant.client_id(), "scopes": grant.scopes().collect::<Vec<_>>() }))
}
