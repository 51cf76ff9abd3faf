//! The documents by which clients find their way (RFC 8414, RFC 9728).

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::app::App;
use crate::clients::{AUTH_METHODS, GRANT_TYPES, RESPONSE_TYPES};
use crate::cors::with_cors;

/// They change when the server is started with other flags: soon enough for that.
const AGE: &str = "public, max-age=300";

/// These are absolute: they lie at the root of the host, whatever the path of the issuer.
pub(crate) fn routes(app: &App) -> Router<App> {
    let path = app.issuer.path();
    let server = document(&authorization_server(app));
    let resource = document(&protected_resource(app));
    let mut router = Router::new()
        .route(
            &format!("/.well-known/oauth-authorization-server{path}"),
            get(server.clone()),
        )
        .route(
            &format!("/.well-known/openid-configuration{path}"),
            get(server.clone()),
        )
        .route(
            &format!("/.well-known/oauth-protected-resource{path}/mcp"),
            get(resource.clone()),
        )
        // Where clients look that have no challenge to go by.
        .route("/.well-known/oauth-protected-resource", get(resource));
    if !path.is_empty() {
        // OpenID Connect Discovery §4 appends it.
        router = router.route(
            &format!("{path}/.well-known/openid-configuration"),
            get(server),
        );
    }
    with_cors(router)
}

/// What never changes while the server runs.
fn document(value: &Value) -> impl IntoResponse + Clone + Send + Sync + use<> {
    let bytes = Bytes::from(value.to_string());
    (
        [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, AGE)],
        bytes,
    )
}

/// RFC 8414 §2, with RFC 9207 §3 and the client id metadata documents of their draft (§5).
fn authorization_server(app: &App) -> Value {
    let issuer = &app.issuer;
    json!({
        "issuer": issuer.as_str(),
        "authorization_endpoint": issuer.join("/authorize"),
        "token_endpoint": issuer.join("/token"),
        "registration_endpoint": issuer.join("/register"),
        "revocation_endpoint": issuer.join("/revoke"),
        "scopes_supported": app.scopes,
        "response_types_supported": RESPONSE_TYPES,
        "response_modes_supported": ["query"],
        "grant_types_supported": GRANT_TYPES,
        "token_endpoint_auth_methods_supported": AUTH_METHODS,
        "revocation_endpoint_auth_methods_supported": AUTH_METHODS,
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
        "client_id_metadata_document_supported": app.clients.knows_documents(),
    })
}

/// RFC 9728 §2.
fn protected_resource(app: &App) -> Value {
    json!({
        "resource": app.issuer.resource(),
        "authorization_servers": [app.issuer.as_str()],
        "scopes_supported": app.scopes,
        "bearer_methods_supported": ["header"],
    })
}
