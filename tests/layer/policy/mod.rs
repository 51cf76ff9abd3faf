//! The rotation policy of each client.

mod callback;
mod repeated;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use http::{Request, StatusCode};
use http_body_util::Full;
use test_support::requests::{assertion, basic, generation};
use test_support::{Act, App, Call, Plan, foreign, post, refresh_form, settle};
use tokio::task::JoinSet;
use tower_oauth_refresh::RotationPolicy::{EveryUse, Never, WhenOlderThan};
use tower_oauth_refresh::{
    ClientId, ClientInfo, Clock as _, EventKind, RotationPolicy, SenderConstrained,
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn refused() -> (u16, String) {
    (400, "invalid_grant".into())
}

fn app(policy: RotationPolicy) -> App {
    App::with(move |builder| builder.rotation_policy(move |_| policy))
}

/// Returns another instance over the same store, with this policy.
fn another(app: &App, policy: RotationPolicy) -> App {
    App::over(
        app.clock.clone(),
        app.store.clone(),
        app.upstream.clone(),
        move |builder| builder.rotation_policy(move |_| policy),
    )
}

#[tokio::test]
async fn a_client_that_never_rotates_keeps_its_token() {
    let app = app(Never);
    let token = app.log_in("app").await;
    for day in 1..=50 {
        app.clock.advance(24 * HOUR);
        app.store.calls();
        let answer = app.refresh(&token).await;
        assert_eq!(answer.token(), token, "day {day}");
        assert_eq!(answer.get("access_token"), Some(format!("at-0-{day}")));
        assert_eq!(app.store.calls().len(), 2, "as many trips as a rotation");
        assert_eq!(app.upstream.refreshes(), day);
    }
    assert_eq!(app.upstream.reuses(), 0, "each upstream token is used once");
    assert_eq!(app.upstream.alive(), 1);
    let events = app.take_events();
    assert_eq!(events.len(), 51);
    for event in &events[1..] {
        assert_eq!((event.kind, event.generation), (EventKind::Kept, Some(0)));
    }
    // The lifetime is that of an unused token, as with rotation.
    app.clock.advance(30 * 24 * HOUR);
    assert_eq!(app.refresh(&token).await.error(), refused());
    assert_eq!(app.events(), [EventKind::Expired]);
}

#[tokio::test]
async fn a_token_is_replaced_once_it_is_old_enough() {
    let app = app(WhenOlderThan(HOUR));
    let mut token = app.log_in("app").await;
    for minted in 0..3 {
        // The age counts from when the token was minted, not from the last refresh.
        for _ in 0..5 {
            app.clock.advance(10 * MINUTE);
            assert_eq!(app.refresh(&token).await.token(), token);
        }
        app.clock.advance(10 * MINUTE - Duration::from_millis(1));
        assert_eq!(app.refresh(&token).await.token(), token);
        app.clock.advance(2 * MINUTE);
        let next = app.refresh(&token).await.token();
        assert_ne!(next, token);
        assert_eq!(generation(&next), minted + 1);
        token = next;
    }
    assert_eq!(app.upstream.reuses(), 0);
    assert_eq!(app.upstream.refreshes(), 21);
}

#[tokio::test]
async fn a_convergence_does_not_make_the_token_younger() {
    let app = App::with(|builder| {
        builder
            .shared_token_window(24 * HOUR)
            .rotation_policy(|_| WhenOlderThan(HOUR))
    });
    let old = app.log_in("app").await;
    app.clock.advance(2 * HOUR);
    let current = app.refresh(&old).await.token();
    for _ in 0..2 {
        app.clock.advance(25 * MINUTE);
        assert_eq!(app.refresh(&old).await.token(), current);
    }
    app.clock.advance(10 * MINUTE);
    assert_ne!(app.refresh(&current).await.token(), current);
    assert_eq!(
        app.events(),
        [
            EventKind::Issued,
            EventKind::Rotated,
            EventKind::Converged,
            EventKind::Converged,
            EventKind::Rotated
        ]
    );
}

#[tokio::test]
async fn the_presets_are_policies() {
    assert_eq!(RotationPolicy::default(), EveryUse);
    assert_eq!(RotationPolicy::mcp(), EveryUse);
    assert_eq!(RotationPolicy::fapi2(), Never);
    assert_eq!(RotationPolicy::account_linking(), Never);
}

#[tokio::test]
async fn a_kept_token_can_be_revoked() {
    let app = app(Never);
    let token = app.log_in("app").await;
    app.refresh(&token).await.token();
    assert_eq!(app.revoke(&token).await.status, StatusCode::OK);
    assert_eq!(app.upstream.alive(), 0);
    assert_eq!(app.refresh(&token).await.error(), refused());
    let other = app.log_in("app").await;
    assert_eq!(app.refresh_as("other", &other).await.error(), refused());
    assert_eq!(app.refresh(&other).await.token(), other);
}

#[tokio::test]
async fn an_upstream_that_does_not_rotate_keeps_its_token_too() {
    let app = app(Never);
    let token = app.log_in("app").await;
    for _ in 0..3 {
        app.upstream.then(Act::KeepToken);
        app.clock.advance(HOUR);
        assert_eq!(app.refresh(&token).await.token(), token);
    }
    app.clock.advance(HOUR);
    assert_eq!(app.refresh(&token).await.token(), token);
    assert_eq!(app.upstream.reuses(), 0);
}

#[tokio::test]
async fn an_upstream_that_ends_the_session_ends_the_grant() {
    let app = app(Never);
    let token = app.log_in("app").await;
    app.upstream.then(Act::Answer(
        400,
        "application/json",
        r#"{"error":"invalid_grant"}"#,
    ));
    assert_eq!(app.refresh(&token).await.error(), refused());
    assert_eq!(app.refresh(&token).await.error(), refused());
    assert_eq!(app.upstream.refreshes(), 1);
    assert_eq!(
        app.events(),
        [
            EventKind::Issued,
            EventKind::UpstreamRejected,
            EventKind::Unknown
        ]
    );
}

/// With all windows at zero there is no stored answer: requests with the kept token follow each
/// other.
#[tokio::test(start_paused = true)]
async fn strict_and_never_go_together() {
    let app = App::with(|builder| {
        builder
            .strict(true)
            .rotation_policy(|_| RotationPolicy::fapi2())
    });
    let token = app.log_in("app").await;
    let mut requests = JoinSet::new();
    for _ in 0..4 {
        let (app, token) = (app.clone(), token.clone());
        requests.spawn(async move { app.refresh(&token).await.token() });
    }
    assert_eq!(requests.join_all().await, [(); 4].map(|()| token.clone()));
    assert_eq!(app.upstream.refreshes(), 4);
    assert_eq!(app.upstream.reuses(), 0);
}

/// Adoption replaces the token once. A client that does not save the new token is served with the
/// adopted one, until the new one is presented.
#[tokio::test]
async fn an_adopted_token_leads_to_the_kept_one() {
    let app = app(Never);
    let until = Duration::from_millis(app.clock.now().as_millis()) + HOUR;
    let app = App::over(
        app.clock.clone(),
        app.store.clone(),
        app.upstream.clone(),
        |builder| {
            builder
                .adopt_until(SystemTime::UNIX_EPOCH + until)
                .rotation_policy(|_| Never)
        },
    );
    let foreign = foreign::log_in_before(&app, "app").await;
    let token = app.refresh(&foreign).await.token();
    for _ in 0..3 {
        app.clock.advance(HOUR);
        assert_eq!(app.refresh(&foreign).await.token(), token);
    }
    assert_eq!(app.refresh(&token).await.token(), token);
    app.clock.advance(HOUR);
    assert_eq!(app.refresh(&token).await.token(), token);
    assert_eq!(app.refresh(&foreign).await.error(), refused());
    assert_eq!(app.events().last(), Some(&EventKind::ReuseDetected));
    assert_eq!(app.upstream.reuses(), 0);
}

#[tokio::test]
async fn each_kept_refresh_has_its_own_reference_access_token() {
    let app = App::with(|builder| {
        builder
            .reference_access_tokens(true)
            .rotation_policy(|_| Never)
    });
    let token = app.log_in("app").await;
    let mut issued = HashSet::new();
    for _ in 0..3 {
        app.clock.advance(HOUR);
        let answer = app.refresh(&token).await;
        assert_eq!(answer.token(), token);
        let access = answer.get("access_token").unwrap();
        assert!(access.starts_with("at_"), "{access}");
        let retried = app.refresh(&token).await;
        assert_eq!(retried.get("access_token"), Some(access.clone()));
        assert!(issued.insert(access), "a new access token");
    }
    assert_eq!(app.upstream.refreshes(), 3);
}
