//! A client that lost a response and returns after the retry window recovers its session.

use std::time::Duration;

use test_support::{Act, App};
use tower_oauth_refresh::EventKind;

#[tokio::test]
async fn the_previous_token_recovers_until_its_successor_is_presented() {
    let app = App::new();
    let token = app.log_in("app").await;
    let dropped = app.refresh(&token).await.token();
    app.clock.advance(Duration::from_secs(61));
    let recovered = app.refresh(&token).await;
    assert_eq!(recovered.json()["access_token"], "at-0-2");
    assert_eq!(
        app.upstream.reuses(),
        0,
        "the newest upstream token was used"
    );
    assert_eq!(
        app.refresh(&token).await.body,
        recovered.body,
        "the recovery has a retry window of its own"
    );
    assert_eq!(
        app.refresh(&dropped).await.body,
        recovered.body,
        "the dropped token leads to the one that replaced it"
    );
    app.refresh(&recovered.token()).await.token();
    assert_eq!(
        app.events(),
        [
            EventKind::Issued,
            EventKind::Rotated,
            EventKind::Recovered,
            EventKind::Replayed,
            EventKind::Replayed,
            EventKind::Rotated
        ]
    );
}

#[tokio::test]
async fn the_token_of_a_recovery_can_itself_be_recovered() {
    let app = App::new();
    let token = app.log_in("app").await;
    for _ in 0..3 {
        app.refresh(&token).await.token();
        app.clock.advance(Duration::from_secs(61));
    }
    let recovered = app.refresh(&token).await.token();
    app.refresh(&recovered).await.token();
    assert_eq!(app.upstream.reuses(), 0);
}

#[tokio::test]
async fn a_thief_who_recovers_is_detected_when_the_client_refreshes() {
    let app = App::new();
    let stolen = app.log_in("app").await;
    let owners = app.refresh(&stolen).await.token();
    app.clock.advance(Duration::from_secs(61));
    let thiefs = app.refresh(&stolen).await.token();
    app.clock.advance(Duration::from_secs(61));
    assert_eq!(
        app.refresh(&owners).await.error(),
        (400, "invalid_grant".into())
    );
    assert_eq!(
        app.refresh(&thiefs).await.error(),
        (400, "invalid_grant".into()),
        "the grant has ended"
    );
    assert_eq!(
        app.events().last_chunk(),
        Some(&[EventKind::ReuseDetected, EventKind::Unknown])
    );
}

#[tokio::test]
async fn no_recovery_once_the_successor_was_presented() {
    let app = App::new();
    let token = app.log_in("app").await;
    let next = app.refresh(&token).await.token();
    app.upstream.then(Act::Answer(500, "text/plain", "down"));
    assert_eq!(app.refresh(&next).await.status, 500);
    app.clock.advance(Duration::from_secs(61));
    assert_eq!(
        app.refresh(&token).await.error(),
        (400, "invalid_grant".into())
    );
    assert_eq!(app.events().last(), Some(&EventKind::ReuseDetected));
}

#[tokio::test]
async fn no_recovery_after_the_window() {
    let app = App::with(|builder| builder.recovery_window(Duration::from_secs(100)));
    let token = app.log_in("app").await;
    app.refresh(&token).await.token();
    app.clock.advance(Duration::from_secs(100));
    app.refresh(&token).await.error();
    assert_eq!(app.events().last(), Some(&EventKind::ReuseDetected));
}

#[tokio::test]
async fn a_failed_recovery_can_be_retried() {
    let app = App::new();
    let token = app.log_in("app").await;
    let next = app.refresh(&token).await.token();
    app.clock.advance(Duration::from_secs(61));
    app.upstream.then(Act::Break);
    app.send(test_support::post(
        "/token",
        &test_support::refresh_form("app", &token),
    ))
    .await
    .unwrap_err();
    app.upstream.then(Act::Answer(503, "text/plain", "down"));
    assert_eq!(app.refresh(&token).await.status, 503);
    let recovered = app.refresh(&token).await.token();
    assert_ne!(recovered, next);
    assert_eq!(app.upstream.reuses(), 0);
    app.refresh(&recovered).await.token();
}

#[tokio::test]
async fn a_failed_recovery_keeps_the_successor_valid() {
    let app = App::new();
    let token = app.log_in("app").await;
    let next = app.refresh(&token).await.token();
    app.clock.advance(Duration::from_secs(61));
    app.upstream.then(Act::Answer(503, "text/plain", "down"));
    assert_eq!(app.refresh(&token).await.status, 503);
    app.refresh(&next).await.token();
    assert_eq!(
        app.refresh(&token).await.error(),
        (400, "invalid_grant".into())
    );
}
