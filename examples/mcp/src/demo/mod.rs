//! A demo identity provider: a log-in page without passwords, the authorization code grant with
//! PKCE, one-time refresh tokens whose reuse ends the session, revocation, userinfo, and as an
//! OpenID provider discovery, ID tokens and back-channel logout. It knows one client, this server,
//! and has no dynamic registration.

mod authorize;
mod clients;
mod logout;
mod openid;
mod page;

use std::io;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, HeaderMap, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use server_common::demo::client::{OauthError, Parameters};
use server_common::demo::state::{Code, Sessions, Settings};
use server_common::demo::token;
use server_common::program::Failure;
use server_common::receivers::LOGOUT_PATH;
use tokio::net::TcpListener;
use url::Url;

use self::clients::{CLIENT, SECRET};
use crate::cli::DemoFlags;
use crate::issuer::Issuer;
use crate::provider::{Credential, Endpoints, ProviderConfig};
use crate::signing::SigningKey;
use crate::users::Rules;

/// The state that all handlers share.
#[derive(Clone, Debug)]
struct Demo {
    sessions: Arc<Sessions>,
    issuer: Arc<str>,
    /// The redirect URI of the only client.
    redirect_uri: Arc<str>,
    /// The URL at which the client receives logout tokens.
    logout_uri: Arc<str>,
    key: SigningKey,
}

impl server_common::demo::Demo for Demo {
    fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    fn id_token(&self, code: &Code) -> Option<String> {
        openid::id_token(self, code)
    }

    fn authenticate(headers: &HeaderMap, form: &Parameters) -> Result<&'static str, OauthError> {
        clients::authenticate(headers, form)
    }
}

/// Starts the provider in a background task. Returns its URL.
pub(crate) fn start(
    flags: &DemoFlags,
    listener: TcpListener,
    issuer: &Issuer,
) -> Result<Url, Failure> {
    let here = Url::parse(&format!("http://{}", listener.local_addr()?))?;
    let settings = Settings {
        access_lifetime: flags.access_lifetime(),
        expires_in: !flags.demo_no_expires_in,
        refresh_lifetime: flags.demo_refresh_lifetime,
        rotates: !flags.demo_no_rotation,
    };
    let name = here.origin().ascii_serialization();
    tracing::info!("no identity provider is configured: started a demo provider at {name}");
    let demo = Demo {
        sessions: Arc::new(Sessions::new(settings)),
        issuer: name.as_str().into(),
        redirect_uri: issuer.join("/callback").into(),
        logout_uri: issuer.join(LOGOUT_PATH).into(),
        key: SigningKey::generate().map_err(|_| "the system's random number generator failed")?,
    };
    tokio::spawn(async move {
        if let Err(error) = serve(listener, demo).await {
            tracing::error!(%error, "the demo identity provider stopped");
        }
    });
    Ok(here)
}

/// Returns the settings with which this server uses a demo provider at this URL.
pub(crate) fn config(
    here: &Url,
    scopes: Vec<String>,
    rules: Rules,
) -> Result<ProviderConfig, String> {
    let issuer = here.origin().ascii_serialization().parse();
    let issuer = issuer.map_err(|_| "--demo-listen must be an address of this computer")?;
    Ok(ProviderConfig {
        preset: None,
        issuer: Some(issuer),
        endpoints: Endpoints::default(),
        response_issuer: None,
        client_id: CLIENT.into(),
        credential: Credential::Secret(SECRET.into()),
        auth_method: None,
        authorization_params: Vec::new(),
        token_params: Vec::new(),
        forward_resource: false,
        scopes,
        rules,
        forwards_users: false,
        groups_claim: None,
    })
}

async fn serve(listener: TcpListener, demo: Demo) -> io::Result<()> {
    let router = Router::new()
        .route("/authorize", get(authorize::show).post(authorize::log_in))
        .route("/token", post(token::token::<Demo>))
        .route("/revoke", post(token::revoke::<Demo>))
        .route("/userinfo", get(userinfo))
        .route("/logout", get(logout::show).post(logout::log_out))
        .route("/jwks.json", get(openid::keys))
        .route("/.well-known/openid-configuration", get(openid::discovery))
        .with_state(demo);
    axum::serve(listener, router).await
}

async fn userinfo(State(demo): State<Demo>, headers: HeaderMap) -> Response {
    let token = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let access = token.and_then(|token| demo.sessions.access(token));
    let Some(access) = access else {
        let challenge = HeaderValue::from_static(r#"Bearer error="invalid_token""#);
        return (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, challenge)]).into_response();
    };
    let mut user = json!({ "sub": access.user, "client_id": access.client, "scope": access.scope });
    openid::add_email(&mut user, &access.user, &access.scope);
    ([(CACHE_CONTROL, "no-store")], Json(user)).into_response()
}
