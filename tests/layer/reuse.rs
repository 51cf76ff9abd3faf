//! An old token that no conforming client would send ends its grant. One that a conforming client
//! may send does not.

use std::time::Duration;

use test_support::App;
use test_support::requests::patched;
use tower_oauth_refresh::EventKind;

fn refused(answer: &test_support::Answer) {
    assert_eq!(answer.error(), (400, "invalid_grant".into()));
    assert_eq!(answer.headers["cache-control"], "no-store");
}

#[tokio::test]
async fn reuse_ends_the_grant_for_thief_and_client() {
    let app = App::new();
    let stolen = app.log_in("app").await;
    let second = app.refresh(&stolen).await.token();
    let third = app.refresh(&second).await.token();
    app.clock.advance(Duration::from_secs(61));
    refused(&app.refresh(&stolen).await);
    refused(&app.refresh(&third).await);
    refused(&app.refresh(&second).await);
    let kinds = app.events();
    assert_eq!(
        kinds[3..],
        [
            EventKind::ReuseDetected,
            EventKind::Unknown,
            EventKind::Unknown
        ]
    );
    let other = app.log_in("app").await;
    app.refresh(&other).await.token();
}

#[tokio::test]
async fn an_old_token_within_the_retry_window_is_only_late() {
    let app = App::with(|builder| builder.shared_token_window(Duration::ZERO));
    let first = app.log_in("app").await;
    let second = app.refresh(&first).await.token();
    let third = app.refresh(&second).await.token();
    app.clock.advance(Duration::from_secs(59));
    refused(&app.refresh(&first).await);
    app.refresh(&third).await.token();
    assert_eq!(app.events()[3..], [EventKind::Late, EventKind::Rotated]);
}

#[tokio::test]
async fn strict_mode_allows_only_concurrent_requests() {
    let app = App::with(|builder| builder.strict(true));
    let first = app.log_in("app").await;
    let second = app.refresh(&first).await.token();
    refused(&app.refresh(&first).await);
    refused(&app.refresh(&second).await);
    assert_eq!(
        app.events()[2..],
        [EventKind::ReuseDetected, EventKind::Unknown]
    );

    let token = app.log_in("app").await;
    let gate = std::sync::Arc::new(tokio::sync::Notify::new());
    app.upstream
        .then(test_support::Act::Wait(std::sync::Arc::clone(&gate)));
    let open = async {
        test_support::settle().await;
        gate.notify_one();
    };
    let (a, b, ()) = tokio::join!(app.refresh(&token), app.refresh(&token), open);
    let (winner, loser) = if a.status == 200 { (a, b) } else { (b, a) };
    refused(&loser);
    app.refresh(&winner.token()).await.token();
    assert_eq!(
        app.events(),
        [
            EventKind::Issued,
            EventKind::Rotated,
            EventKind::Late,
            EventKind::Rotated
        ]
    );
}

#[tokio::test]
async fn a_token_presented_by_another_client_is_rejected_without_effect() {
    let app = App::new();
    let first = app.log_in("app").await;
    refused(&app.refresh_as("thief", &first).await);
    let second = app.refresh(&first).await.token();
    refused(&app.refresh_as("thief", &first).await);
    refused(&app.refresh_as("thief", &second).await);
    app.clock.advance(Duration::from_secs(61));
    refused(&app.refresh_as("thief", &first).await);
    app.refresh(&second).await.token();
    let events = app.take_events();
    let mismatches: Vec<_> = events
        .iter()
        .filter(|event| event.kind == EventKind::ClientMismatch)
        .collect();
    assert_eq!(mismatches.len(), 4);
    assert!(mismatches.iter().all(|event| {
        event
            .client_id
            .as_ref()
            .is_some_and(|id| id.as_str() == "thief")
    }));
    assert!(events.iter().all(|event| event.grant == events[0].grant));
    assert_eq!(app.upstream.refreshes(), 2);
}

#[tokio::test]
async fn a_token_that_was_never_issued_is_rejected_without_effect() {
    let app = App::new();
    let first = app.log_in("app").await;
    let second = app.refresh(&first).await.token();
    app.clock.advance(Duration::from_secs(61));
    let rows = [
        ("another secret, this generation", 47, 1, EventKind::Forged),
        ("a newer generation", 15, 2, EventKind::Ahead),
        ("another grant", 0, 1, EventKind::Unknown),
    ];
    for (name, at, change, kind) in rows {
        let forged = patched(&second, |bytes| bytes[at] = bytes[at].wrapping_add(change));
        app.events();
        refused(&app.refresh(&forged).await);
        assert_eq!(app.events(), [kind], "{name}");
    }
    app.refresh(&second).await.token();
}

#[tokio::test]
async fn an_option_sets_the_status_to_401() {
    let app = App::with(|builder| builder.unauthorized_on_invalid_grant(true));
    let answer = app.refresh("rt_nonsense").await;
    assert_eq!(answer.error(), (401, "invalid_grant".into()));
    assert!(!answer.headers.contains_key("www-authenticate"));
}
