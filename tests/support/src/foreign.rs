//! Sessions from before the layer was installed.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::Full;
use tower::ServiceExt as _;
use tower_oauth_refresh::Clock as _;

use super::{App, Upstream, post};

/// Returns an instance that adopts for an hour, and the refresh token of a session that began
/// without the layer.
pub async fn adopting() -> (App, String) {
    let app = App::new();
    let app = another(&app, 3600);
    let token = log_in_before(&app, "app").await;
    (app, token)
}

/// Returns another instance over the same store, which adopts for that many seconds.
pub fn another(app: &App, seconds: u64) -> App {
    let until = Duration::from_millis(app.clock.now().as_millis()) + Duration::from_secs(seconds);
    App::over(
        app.clock.clone(),
        app.store.clone(),
        app.upstream.clone(),
        |builder| builder.adopt_until(SystemTime::UNIX_EPOCH + until),
    )
}

/// Logs in without the layer.
pub async fn log_in_before(app: &App, client: &str) -> String {
    log_in_before_at(&app.upstream, client).await
}

pub async fn log_in_before_at(upstream: &Upstream, client: &str) -> String {
    let secret = format!("secret of {client}");
    let form = [
        ("grant_type", "password"),
        ("client_id", client),
        ("client_secret", &secret),
    ];
    let answer = upstream
        .clone()
        .oneshot(post("/token", &form))
        .await
        .unwrap();
    let body: Bytes = collect(answer.into_body()).await;
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
    answer["refresh_token"].as_str().unwrap().to_owned()
}

async fn collect(body: Full<Bytes>) -> Bytes {
    use http_body_util::BodyExt as _;
    body.collect().await.unwrap().to_bytes()
}
