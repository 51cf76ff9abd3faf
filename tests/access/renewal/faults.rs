//! Renewals that fail.

use std::sync::Arc;
use std::time::Duration;

use test_support::access::{Guarded, LOG_IN, access_token, pair};
use test_support::{Act, Call, Plan, SECOND, settle};
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tower_oauth_refresh::EventKind;

use super::{HOUR, app, log_in_and_wait};

#[tokio::test(start_paused = true)]
async fn without_the_upstream_the_old_token_is_used_to_its_last_second() {
    let app = app();
    let guarded = Guarded::new(&app);
    let access = access_token(&app.post("/token", &LOG_IN).await);
    app.clock.advance(HOUR - 2 * SECOND);
    for act in [
        Act::Break,
        Act::Wait(Arc::default()),
        Act::Answer(500, "text/plain", "broken"),
        Act::Answer(429, "application/json", r#"{"error":"slow_down"}"#),
    ] {
        app.upstream.then(act.clone());
        let answer = guarded.get(&access).await;
        assert_eq!(Guarded::swapped(&answer), "at-0-0", "{act:?}");
        // The next one begins no sooner than a second later.
        assert_eq!(Guarded::swapped(&guarded.get(&access).await), "at-0-0");
        sleep(60 * SECOND).await;
    }
    app.clock.advance(2 * SECOND);
    app.upstream.then(Act::Break);
    let (answer, cause) = guarded.send(&[&format!("Bearer {access}")]).await;
    assert_eq!(answer.error(), (503, "temporarily_unavailable".into()));
    assert!(answer.headers.contains_key("retry-after"));
    assert!(!answer.headers.contains_key("www-authenticate"));
    let away = tower_oauth_refresh::AccessError::UpstreamUnavailable;
    assert_eq!(cause.map(|cause| cause.to_string()), Some(away.to_string()));
    sleep(2 * SECOND).await;
    assert_eq!(guarded.status(&access).await, 200, "the upstream is back");
    assert_eq!(app.upstream.reuses(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_failure_is_for_all_requests_of_the_next_second() {
    let app = app();
    let guarded = Guarded::new(&app);
    let (_, access) = log_in_and_wait(&app).await;
    app.upstream.then(Act::Break);
    for _ in 0..20 {
        assert_eq!(guarded.status(&access).await, 503);
    }
    assert_eq!(app.upstream.seen().len(), 2, "the log-in and one refresh");
    let failed = EventKind::RenewalFailed;
    assert_eq!(app.events(), [EventKind::Issued, failed]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_renewal_leaves_the_token_until_its_upstream_token_ends() {
    for body in [
        r#"{"error":"invalid_client"}"#,
        r#"{"error":"unauthorized_client"}"#,
        r#"{"error":"invalid_grant"}"#,
    ] {
        let app = app();
        let guarded = Guarded::new(&app);
        let (refresh, access) = pair(&app.post("/token", &LOG_IN).await);
        app.clock.advance(HOUR - SECOND);
        app.upstream
            .then(Act::Answer(401, "application/json", body));
        for _ in 0..20 {
            assert_eq!(guarded.status(&access).await, 200);
        }
        app.clock.advance(SECOND);
        for _ in 0..20 {
            assert_eq!(guarded.status(&access).await, 401);
        }
        assert_eq!(app.upstream.refreshes(), 1, "{body}: one request in 30 s");
        let failed = EventKind::RenewalFailed;
        assert_eq!(app.events(), [EventKind::Issued, failed], "{body}");
        assert_eq!(app.refresh(&refresh).await.status, 200, "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_refuses_gets_503() {
    for status in [403, 404, 502] {
        let app = app();
        let guarded = Guarded::new(&app);
        let (_, access) = log_in_and_wait(&app).await;
        let page = "<html>not here</html>";
        app.upstream.then(Act::Answer(status, "text/html", page));
        for _ in 0..20 {
            assert_eq!(guarded.status(&access).await, 503, "{status}");
        }
        assert_eq!(app.upstream.refreshes(), 1, "{status}");
        sleep(31 * SECOND).await;
        assert_eq!(guarded.status(&access).await, 200, "{status}: it is back");
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_without_an_access_token_loses_no_refresh_token() {
    let app = app();
    let guarded = Guarded::new(&app);
    let (refresh, access) = log_in_and_wait(&app).await;
    app.upstream.then(Act::With(r#"{"access_token":""}"#));
    assert_eq!(guarded.status(&access).await, 503);
    assert!(app.events().contains(&EventKind::UpstreamUnreadable));
    assert_eq!(app.refresh(&refresh).await.status, 200);
    assert_eq!(app.upstream.reuses(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_reaches_the_store_when_it_is_back() {
    let app = app();
    let guarded = Guarded::new(&app);
    let (refresh, access) = log_in_and_wait(&app).await;
    let mut failures = 10;
    app.store.hook(move |_, call| match call {
        Call::Swap { .. } if failures > 0 => {
            failures -= 1;
            Plan::Lose
        }
        _ => Plan::Pass,
    });
    assert_eq!(Guarded::swapped(&guarded.get(&access).await), "at-0-1");
    assert_eq!(app.refresh(&refresh).await.status, 200);
    assert_eq!((app.upstream.refreshes(), app.upstream.reuses()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_of_the_store_is_no_second_renewal() {
    for nth in 0..2 {
        let app = app();
        let guarded = Guarded::new(&app);
        let (refresh, access) = log_in_and_wait(&app).await;
        let mut swaps = 0;
        app.store.hook(move |_, call| {
            swaps += usize::from(call.is_swap());
            match call.is_swap() && swaps == nth + 1 {
                true => Plan::LoseAnswer,
                false => Plan::Pass,
            }
        });
        assert_eq!(Guarded::swapped(&guarded.get(&access).await), "at-0-1");
        assert_eq!(app.refresh(&refresh).await.status, 200);
        assert_eq!((app.upstream.refreshes(), app.upstream.reuses()), (2, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_store_no_upstream_token_is_used_up() {
    let app = app();
    let guarded = Guarded::new(&app);
    let (_, access) = log_in_and_wait(&app).await;
    app.store.hook(|_, call| match call {
        Call::Claim => Plan::Lose,
        _ => Plan::Pass,
    });
    assert_eq!(guarded.status(&access).await, 503);
    assert_eq!(app.upstream.refreshes(), 0);
    app.store.unhook();
    sleep(5 * SECOND).await;
    assert_eq!(guarded.status(&access).await, 200);
}

#[test]
fn an_instance_that_outlives_its_runtime_renews_again() {
    let runtime = || {
        let mut builder = Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().unwrap()
    };
    // The runtime shuts down during a renewal, and during the pause after a failed one.
    for act in [Act::Wait(Arc::default()), Act::Break] {
        let app = app();
        let guarded = Guarded::new(&app);
        let access = runtime().block_on(async {
            let (_, access) = log_in_and_wait(&app).await;
            app.upstream.then(act.clone());
            let request = guarded.status(&access);
            let answered = timeout(Duration::from_millis(50), request).await;
            assert_ne!(answered, Ok(200));
            access
        });
        // The lease of the first renewal expires.
        app.clock.advance(60 * SECOND);
        let status = runtime().block_on(guarded.status(&access));
        assert_eq!(status, 200, "{act:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_whose_client_hangs_up_is_stored() {
    let app = app();
    let guarded = Guarded::new(&app);
    let (refresh, access) = log_in_and_wait(&app).await;
    let gate = Arc::new(Notify::new());
    app.upstream.then(Act::Wait(Arc::clone(&gate)));
    let request = guarded.get(&access);
    let hung_up = timeout(Duration::from_millis(50), request).await;
    assert!(hung_up.is_err());
    let drained = tokio::spawn(app.layer.drain());
    settle().await;
    assert!(!drained.is_finished(), "a shutdown waits for it");
    gate.notify_one();
    drained.await.unwrap();
    assert_eq!(Guarded::swapped(&guarded.get(&access).await), "at-0-1");
    assert_eq!(app.refresh(&refresh).await.status, 200);
    assert_eq!((app.upstream.refreshes(), app.upstream.reuses()), (2, 0));
}
