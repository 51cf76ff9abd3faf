//! Grants are handed back to the inner service, so that the layer can be removed.

use std::time::{Duration, UNIX_EPOCH};

use test_support::requests::assertion;
use test_support::{Act, App, refresh_form};
use tower_oauth_refresh::{ConfigError, EventKind, MemoryStore, RefreshLayer};

/// Returns another instance over the same store and inner service, which hands back.
fn leaving(app: &App) -> App {
    App::over(
        app.clock.clone(),
        app.store.clone(),
        app.upstream.clone(),
        |builder| builder.hand_back(true),
    )
}

/// Returns whether the inner service accepts this refresh token without the layer.
async fn works_upstream(app: &App, token: &str) -> bool {
    let passed = leaving(app).refresh(token).await;
    passed.status == 200 && passed.token().starts_with("upstream-")
}

#[tokio::test]
async fn a_refresh_hands_the_upstream_token_to_the_client() {
    let app = App::new();
    let token = app.log_in("app").await;
    let leaving = leaving(&app);
    let answer = leaving.refresh(&token).await;
    assert_eq!(answer.token(), "upstream-0-1");
    assert_eq!(leaving.events(), [EventKind::HandedBack]);
    // The same request gets the same response, and does not reach the inner service.
    assert_eq!(leaving.refresh(&token).await.body, answer.body);
    assert_eq!(app.upstream.refreshes(), 1);
    assert!(works_upstream(&app, "upstream-0-1").await);
    // Afterwards the token of the layer is over, and disturbs nothing.
    app.clock.advance(Duration::from_secs(100));
    let calls = app.upstream.seen().len();
    assert_eq!(
        leaving.refresh(&token).await.error(),
        (400, "invalid_grant".into())
    );
    assert_eq!(app.upstream.seen().len(), calls);
    assert_eq!(app.upstream.reuses(), 0);
    assert_eq!(app.upstream.alive(), 1);
}

#[tokio::test]
async fn the_client_keeps_the_token_of_a_server_that_does_not_rotate() {
    let app = App::new();
    let token = app.log_in("app").await;
    let leaving = leaving(&app);
    app.upstream.then(Act::KeepToken);
    assert_eq!(leaving.refresh(&token).await.token(), "upstream-0-0");
    assert!(works_upstream(&app, "upstream-0-0").await);
}

#[tokio::test]
async fn log_ins_and_upstream_tokens_pass_unchanged() {
    let app = App::new();
    let leaving = leaving(&app);
    let token = leaving.log_in("app").await;
    assert_eq!(token, "upstream-0-0");
    let answer = leaving.refresh(&token).await;
    assert_eq!(answer.token(), "upstream-0-1");
    assert_eq!(leaving.events(), []);
    assert!(app.store.calls().is_empty(), "the store is not used");
}

#[tokio::test]
async fn old_tokens_are_handed_back_too() {
    let app = App::new();
    let first = app.log_in("app").await;
    // The answer is lost.
    app.refresh(&first).await.token();
    app.clock.advance(Duration::from_secs(24 * 3600));
    let leaving = leaving(&app);
    let answer = leaving.refresh(&first).await;
    assert_eq!(answer.token(), "upstream-0-2");
    assert_eq!(leaving.refresh(&first).await.body, answer.body);
    assert_eq!(app.upstream.reuses(), 0);
}

#[tokio::test]
async fn a_request_that_cannot_be_replayed_is_repeated_upstream() {
    let app = App::new();
    let token = app.log_in("app").await;
    let leaving = leaving(&app);
    for (id, next) in ["upstream-0-1", "upstream-0-2"].into_iter().enumerate() {
        let assertion = assertion(&format!(r#"{{"sub":"app","jti":"{id}"}}"#));
        let form = [
            &refresh_form("app", &token)[..],
            &[("client_assertion", &assertion)],
        ]
        .concat();
        assert_eq!(leaving.post("/token", &form).await.token(), next);
    }
    assert_eq!(app.upstream.reuses(), 0);
}

#[tokio::test]
async fn a_failed_refresh_hands_nothing_back() {
    let app = App::new();
    let token = app.log_in("app").await;
    let leaving = leaving(&app);
    app.upstream.then(Act::Answer(503, "text/plain", "down"));
    assert_eq!(leaving.refresh(&token).await.status, 503);
    // The layer may also stay.
    app.refresh(&token).await.token();
}

#[test]
fn hand_back_contradicts_adoption_and_reference_tokens() {
    let builder = || RefreshLayer::builder(MemoryStore::new()).hand_back(true);
    for builder in [
        builder().adopt_until(UNIX_EPOCH),
        builder().reference_access_tokens(true),
    ] {
        assert!(matches!(builder.build(), Err(ConfigError::HandBack)));
    }
    let _ = builder().build().unwrap();
}
