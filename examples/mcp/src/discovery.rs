//! Discovery documents for clients (RFC 8414, RFC 9728).

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::get;
use bytes::Bytes;
use serde_json::{Value, json};
use server_common::jose::ALGORITHMS;
use server_common::receivers::REVOCATION_PATH;

use crate::app::App;
use crate::clients::{AUTH_METHODS, GRANT_TYPES, RESPONSE_TYPES};
use crate::cors::with_cors;
use crate::token::{ID_JAG_GRANT_TYPE, PROFILE};

/// The documents change only when the server is restarted with other flags, so that five minutes
/// are short enough.
const AGE: &str = "public, max-age=300";

/// The path of the public key for identity tokens, below the issuer.
const KEYS_PATH: &str = "/.well-known/jwks.json";

/// Returns the routes of the documents. Their paths are absolute: they are at the root of the host,
/// whatever the path of the issuer is.
pub(crate) fn routes(app: &App) -> Router<App> {
    let path = app.issuer.path();
    let server = document(&authorization_server(app));
    let name = app.issuer.resource();
    let resource = document(&protected_resource(app, &name));
    // Some clients compare the resource with the URL that they were given, byte for byte.
    let with_slash = document(&protected_resource(app, &format!("{name}/")));
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
        .route(
            &format!("/.well-known/oauth-protected-resource{path}/mcp/"),
            get(with_slash),
        )
        // Clients that have not received a challenge request this path.
        .route("/.well-known/oauth-protected-resource", get(resource));
    if !path.is_empty() {
        // OpenID Connect Discovery §4 appends the well-known path to the issuer.
        router = router.route(
            &format!("{path}/.well-known/openid-configuration"),
            get(server),
        );
    }
    if let Some(keys) = app.identity.key_set() {
        router = router.route(&format!("{path}{KEYS_PATH}"), get(document(&keys)));
    }
    with_cors(router)
}

/// Serializes a document once. It does not change while the server runs.
fn document(value: &Value) -> impl IntoResponse + Clone + Send + Sync + use<> {
    let bytes = Bytes::from(value.to_string());
    (
        [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, AGE)],
        bytes,
    )
}

/// Returns the metadata of RFC 8414 §2, with the members of RFC 9207 §3 and of the drafts on client
/// ID metadata documents (§5), on refresh token expiration (§8) and on global token revocation
/// (§5).
fn authorization_server(app: &App) -> Value {
    let issuer = &app.issuer;
    let mut metadata = json!({
        "issuer": issuer.as_str(),
        "authorization_endpoint": issuer.join("/authorize"),
        "token_endpoint": issuer.join("/token"),
        "registration_endpoint": issuer.join("/register"),
        "revocation_endpoint": issuer.join("/revoke"),
        "scopes_supported": app.scopes.accepted(),
        "response_types_supported": RESPONSE_TYPES,
        "response_modes_supported": ["query"],
        "grant_types_supported": GRANT_TYPES,
        "token_endpoint_auth_methods_supported": AUTH_METHODS,
        "token_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
        "revocation_endpoint_auth_methods_supported": AUTH_METHODS,
        "revocation_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
        "client_id_metadata_document_supported": app.clients.knows_documents(),
        "refresh_token_expiration_types_supported": app.expiration_types,
    });
    if app.identity.key_set().is_some() {
        metadata["jwks_uri"] = issuer.join(KEYS_PATH).into();
    }
    if !app.trusted_issuers.is_empty() {
        let [code, refresh] = GRANT_TYPES;
        metadata["grant_types_supported"] = json!([code, refresh, ID_JAG_GRANT_TYPE]);
        metadata["authorization_grant_profiles_supported"] = json!([PROFILE]);
    }
    if app.receivers.receives(REVOCATION_PATH) {
        metadata["global_token_revocation_endpoint"] = issuer.join(REVOCATION_PATH).into();
        metadata["global_token_revocation_endpoint_auth_methods_supported"] = json!(["Bearer"]);
    }
    metadata
}

/// Returns the metadata of RFC 9728 §2.
fn protected_resource(app: &App, resource: &str) -> Value {
    json!({
        "resource": resource,
        "authorization_servers": [app.issuer.as_str()],
        "scopes_supported": app.scopes.of_resource(),
        "bearer_methods_supported": ["header"],
    })
}
