//! The log-out page. It ends the sessions of a user here, and tells this server's only client
//! (OpenID Connect Back-Channel Logout 1.0).

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use server_common::causes::causes;
use server_common::demo::client::{OauthError, Parameters};

use super::authorize::{refuse_other_sites, user};
use super::clients::CLIENT;
use super::openid::now;
use super::{Demo, page};
use crate::records::random;

/// The event that makes a JWT a logout token.
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// The lifetime of a logout token, in seconds.
const LIFETIME: u64 = 120;

/// The time limit for the request to the client.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn show() -> Response {
    page::log_out(StatusCode::OK)
}

pub(super) async fn log_out(
    State(demo): State<Demo>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, OauthError> {
    refuse_other_sites(&headers)?;
    let form = Parameters::parse(&body)?;
    let Some(user) = user(&form) else {
        return Ok(page::log_out(StatusCode::BAD_REQUEST));
    };
    demo.sessions.end_all(user);
    let is_notified = notify_client(&demo, user).await;
    Ok(page::logged_out(user, is_notified))
}

/// Sends a logout token to the client. Returns whether the client accepted it.
async fn notify_client(demo: &Demo, user: &str) -> bool {
    let Ok(id) = random::<16>() else { return false };
    let now = now();
    let claims = json!({
        "iss": &*demo.issuer,
        "aud": CLIENT,
        "sub": user,
        "iat": now,
        "exp": now + LIFETIME,
        "jti": URL_SAFE_NO_PAD.encode(id),
        "events": { EVENT: {} },
    });
    let Ok(token) = demo.key.sign("logout+jwt", &claims) else {
        return false;
    };
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("logout_token", &token)
        .finish();
    let request = reqwest::Client::new()
        .post(&*demo.logout_uri)
        .timeout(TIMEOUT)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form);
    match request.send().await {
        Ok(response) => response.status().is_success(),
        Err(error) => {
            tracing::warn!(
                error = causes(&error),
                "the demo cannot notify its client of a log-out"
            );
            false
        }
    }
}
