//! The demo as an OpenID provider: discovery, keys and ID tokens.

use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use server_common::demo::state::Code;

use super::Demo;
use super::authorize::SCOPES;
use crate::signing::SigningKey;

/// The lifetime of an ID token, in seconds.
const LIFETIME: u64 = 300;

/// `GET /.well-known/openid-configuration`.
pub(super) async fn discovery(State(demo): State<Demo>) -> Json<Value> {
    let at = |path: &str| format!("{}{path}", demo.issuer);
    Json(json!({
        "issuer": &*demo.issuer,
        "authorization_endpoint": at("/authorize"),
        "token_endpoint": at("/token"),
        "revocation_endpoint": at("/revoke"),
        "userinfo_endpoint": at("/userinfo"),
        "jwks_uri": at("/jwks.json"),
        "end_session_endpoint": at("/logout"),
        "scopes_supported": SCOPES,
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
        "backchannel_logout_supported": true,
        "backchannel_logout_session_supported": false,
    }))
}

/// `GET /jwks.json`.
pub(super) async fn keys(State(demo): State<Demo>) -> Json<Value> {
    Json(SigningKey::key_set(std::slice::from_ref(&demo.key)))
}

/// Adds the address of a user, if the scope has `email`. The addresses of the demo's users are made
/// up.
pub(super) fn add_email(claims: &mut Value, user: &str, scope: &str) {
    if has(scope, "email") {
        claims["email"] = format!("{user}@demo.example").into();
        claims["email_verified"] = true.into();
    }
}

fn has(scope: &str, wanted: &str) -> bool {
    scope.split(' ').any(|scope| scope == wanted)
}

/// Returns the ID token for a code, if its scope has `openid`.
pub(super) fn id_token(demo: &Demo, code: &Code) -> Option<String> {
    if !has(&code.scope, "openid") {
        return None;
    }
    let now = now();
    let mut claims = json!({
        "iss": &*demo.issuer,
        "aud": code.client,
        "sub": code.user,
        "iat": now,
        "exp": now + LIFETIME,
    });
    if let Some(nonce) = &code.nonce {
        claims["nonce"] = nonce.as_str().into();
    }
    add_email(&mut claims, &code.user, &code.scope);
    demo.key.sign("JWT", &claims).ok()
}

/// Returns the time since 1970 in seconds.
pub(super) fn now() -> u64 {
    SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default()
        .as_secs()
}
