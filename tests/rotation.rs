//! Every token is good for one rotation, and a rotation loses no session.

mod support;

use support::{App, Call};
use tower_oauth_refresh::EventKind;

#[tokio::test]
async fn a_client_sees_the_layers_tokens_alone_and_rotates_them() {
    let app = App::new();
    let mut token = app.log_in("app").await;
    for count in 1..=3 {
        assert!(token.starts_with("rt_") && token.len() == 67, "{token}");
        let answer = app.refresh(&token).await;
        let next = answer.token();
        assert_ne!(next, token);
        assert_eq!(
            answer.json(),
            serde_json::json!({
                "access_token": format!("at-0-{count}"),
                "token_type": "Bearer",
                "expires_in": 3600,
                "refresh_token": next,
                "scope": "read write",
            })
        );
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert_eq!(answer.headers["x-upstream"], "yes", "headers of the inner service are kept");
        token = next;
    }
    assert_eq!(app.upstream.refreshes(), 3);
    assert_eq!(app.upstream.reuses(), 0);
    assert_eq!(app.events(), [EventKind::Issued, EventKind::Rotated, EventKind::Rotated, EventKind::Rotated]);
}

#[tokio::test]
async fn a_rotation_takes_two_trips_to_the_store() {
    let app = App::new();
    let token = app.log_in("app").await;
    app.store.calls();
    app.refresh(&token).await.token();
    let calls = app.store.calls();
    assert!(matches!(&calls[..], [Call::Claim, commit] if commit.is_commit()), "{calls:?}");
}
