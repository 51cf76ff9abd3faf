//! A small authorization server for the demo: authorization code with PKCE (RFC 7636), one-time
//! refresh tokens, revocation (RFC 7009), userinfo and discovery. Its only user is always logged
//! in.
//!
//! It is as strict as many real servers: using a refresh token twice ends its session. The demo
//! shows that clients of the proxy keep their sessions.

mod authorize;
mod clients;
mod script;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, HeaderMap, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use server_common::demo::client::{OauthError, Parameters};
use server_common::demo::state::{Sessions, Settings};
use server_common::demo::token;
use tokio::net::TcpListener;

pub(crate) use self::script::session;

/// The state of the server.
#[derive(Clone, Debug)]
struct Demo {
    sessions: Arc<Sessions>,
    issuer: Arc<str>,
}

impl server_common::demo::Demo for Demo {
    fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    fn authenticate(headers: &HeaderMap, form: &Parameters) -> Result<&'static str, OauthError> {
        clients::authenticate(headers, form)
    }
}

/// Starts the server on a free loopback port. It runs until the process ends.
pub(crate) async fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let demo = Demo {
        sessions: Arc::new(Sessions::new(Settings::default())),
        issuer: format!("http://{address}").into(),
    };
    let router = Router::new()
        .route("/authorize", get(authorize::authorize))
        .route("/token", post(token::token::<Demo>))
        .route("/revoke", post(token::revoke::<Demo>))
        .route("/userinfo", get(userinfo))
        .route("/.well-known/openid-configuration", get(metadata))
        .route("/.well-known/oauth-authorization-server", get(metadata))
        .with_state(demo);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the demo authorization server stopped");
        }
    });
    Ok(address)
}

async fn metadata(State(demo): State<Demo>) -> Json<serde_json::Value> {
    let issuer = &demo.issuer;
    Json(json!({
        "issuer": **issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "revocation_endpoint": format!("{issuer}/revoke"),
        "userinfo_endpoint": format!("{issuer}/userinfo"),
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post"],
        "scopes_supported": ["profile", "email"],
    }))
}

async fn userinfo(State(demo): State<Demo>, headers: HeaderMap) -> Response {
    let token = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let Some(token) = token else {
        return (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")]).into_response();
    };
    match demo.sessions.access(token) {
        Some(access) => {
            let user =
                json!({ "sub": access.user, "client_id": access.client, "scope": access.scope });
            ([(CACHE_CONTROL, "no-store")], Json(user)).into_response()
        }
        None => (
            StatusCode::UNAUTHORIZED,
            [(WWW_AUTHENTICATE, r#"Bearer error="invalid_token""#)],
        )
            .into_response(),
    }
}
