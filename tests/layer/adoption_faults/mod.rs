//! An adoption that fails either leaves the session as it was or completes.

mod takeover;

use std::sync::Arc;
use std::time::Duration;

use test_support::foreign::{adopting, another};
use test_support::requests::send;
use test_support::{Act, Call, Plan, post, refresh_form, settle};
use tokio::sync::Notify;
use tower_oauth_refresh::EventKind;
use tower_oauth_refresh::store::Change;

#[tokio::test(start_paused = true)]
async fn errors_are_passed_on_and_the_token_can_be_adopted_later() {
    const GRANT: &str = r#"{"error":"invalid_grant"}"#;
    let rows = [
        (
            "invalid_grant",
            400,
            GRANT,
            &[EventKind::UpstreamRejected][..],
        ),
        ("another error", 400, r#"{"error":"invalid_scope"}"#, &[]),
        (
            "a client that is not authenticated",
            401,
            r#"{"error":"invalid_client"}"#,
            &[],
        ),
        ("too many requests", 429, "slow down", &[]),
        (
            "an error of the inner service",
            500,
            "<html>oops</html>",
            &[],
        ),
        ("down", 503, "", &[]),
    ];
    for (name, status, body, events) in rows {
        let (app, foreign) = adopting().await;
        app.upstream
            .then(Act::Answer(status, "application/json", body));
        let answer = app.refresh(&foreign).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body[..]),
            (status, body.as_bytes()),
            "{name}"
        );
        assert_eq!(app.events(), events, "{name}");
        app.refresh(&foreign).await.token();
        assert_eq!(app.upstream.reuses(), 0, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_success_is_withheld() {
    let rows = [
        ("no JSON", 200, "access_token=a&refresh_token=upstream-0-1"),
        (
            "two refresh tokens",
            200,
            r#"{"refresh_token":"upstream-0-1","refresh_token":"upstream-0-2"}"#,
        ),
        (
            "a number for a token",
            200,
            r#"{"access_token":"a","refresh_token":1}"#,
        ),
        (
            "an error that quotes the token",
            400,
            r#"{"error":"invalid_scope","error_description":"upstream-0-0"}"#,
        ),
    ];
    for (name, status, body) in rows {
        let (app, foreign) = adopting().await;
        app.upstream
            .then(Act::Answer(status, "application/json", body));
        let answer = send(&app, post("/token", &refresh_form("app", &foreign))).await;
        answer.assert_refused(name, 502, "server_error", false);
        assert_eq!(app.events(), [EventKind::UpstreamUnreadable], "{name}");
        app.refresh(&foreign).await.token();
    }
}

#[tokio::test(start_paused = true)]
async fn the_token_can_be_adopted_after_the_inner_service_failed() {
    let (app, foreign) = adopting().await;
    app.upstream.then(Act::Break);
    assert!(
        app.send(post("/token", &refresh_form("app", &foreign)))
            .await
            .is_err()
    );
    app.upstream.then(Act::Panic);
    let (panicking, request) = (app.clone(), post("/token", &refresh_form("app", &foreign)));
    assert!(
        tokio::spawn(async move { panicking.send(request).await })
            .await
            .unwrap_err()
            .is_panic()
    );
    app.refresh(&foreign).await.token();
}

#[tokio::test(start_paused = true)]
async fn a_hanging_inner_service_times_out() {
    let (app, foreign) = adopting().await;
    app.upstream.then(Act::Hang);
    let answer = send(&app, post("/token", &refresh_form("app", &foreign))).await;
    answer.assert_refused("it hangs", 503, "temporarily_unavailable", false);
    app.layer.drain().await;
    app.refresh(&foreign).await;
    assert_eq!(
        app.upstream.refreshes(),
        2,
        "no client holds the token any more"
    );
}

/// A fault in one store call, and the expected result of the adoption.
struct Fault {
    name: &'static str,
    fits: fn(&Call) -> bool,
    plan: fn() -> Plan,
    /// The status of the first response.
    status: u16,
    /// The number of refreshes that the inner service sees before the second request.
    refreshes: usize,
}

fn placeholder(call: &Call) -> bool {
    matches!(call, Call::Swap { expected: None, change: Change::Put { entry, .. }, .. } if entry.value.is_empty())
}

fn insert(call: &Call) -> bool {
    matches!(call, Call::Swap { expected: None, change: Change::Put { entry, .. }, .. } if !entry.value.is_empty())
}

fn done(call: &Call) -> bool {
    matches!(
        call,
        Call::Swap {
            expected: Some(_),
            change: Change::Put { .. },
            ..
        }
    )
}

#[tokio::test(start_paused = true)]
async fn one_store_failure_loses_no_session() {
    let fault = |name, fits, plan, status, refreshes| Fault {
        name,
        fits,
        plan,
        status,
        refreshes,
    };
    let rows = [
        fault("no placeholder", placeholder, || Plan::Lose, 503, 0),
        fault(
            "the answer to the placeholder lost",
            placeholder,
            || Plan::LoseAnswer,
            503,
            0,
        ),
        fault("the grant not stored", insert, || Plan::Lose, 503, 1),
        fault(
            "the answer to the grant lost",
            insert,
            || Plan::LoseAnswer,
            503,
            1,
        ),
        fault("the replay not stored", done, || Plan::Lose, 200, 1),
        fault(
            "the answer to the replay lost",
            done,
            || Plan::LoseAnswer,
            200,
            1,
        ),
    ];
    for Fault {
        name,
        fits,
        plan,
        status,
        refreshes,
    } in rows
    {
        let (app, foreign) = adopting().await;
        app.store.once(fits, plan());
        let first = send(&app, post("/token", &refresh_form("app", &foreign))).await;
        assert_eq!(first.head.status, status, "{name}: {first:?}");
        if status == 503 {
            first.assert_refused(name, 503, "temporarily_unavailable", false);
        }
        assert_eq!(app.upstream.refreshes(), refreshes, "{name}");
        let again = app.refresh(&foreign).await;
        if status == 200 {
            assert_eq!(again.body, first.body, "{name}");
        }
        let next = app.refresh(&again.token()).await.token();
        app.refresh(&next).await.token();
        assert_eq!(
            (app.upstream.refreshes(), app.upstream.reuses()),
            (3, 0),
            "{name}"
        );
        app.layer.drain().await;
        let events = app.events();
        assert!(
            events.contains(&EventKind::StoreUnavailable),
            "{name}: {events:?}"
        );
        assert_eq!(
            events
                .iter()
                .filter(|kind| **kind == EventKind::Adopted)
                .count(),
            1,
            "{name}: {events:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_longer_than_the_lease_loses_no_session() {
    let (app, foreign) = adopting().await;
    let mut reserved = false;
    app.store.hook(move |_, call| {
        let lost = reserved;
        reserved |= *call == Call::Claim;
        if lost { Plan::Lose } else { Plan::Pass }
    });
    let first = send(&app, post("/token", &refresh_form("app", &foreign))).await;
    first.assert_refused("down", 503, "temporarily_unavailable", false);
    app.clock.advance(Duration::from_secs(40));
    tokio::time::sleep(Duration::from_secs(40)).await;
    app.store.unhook();
    app.layer.drain().await;
    let token = app.refresh(&foreign).await.token();
    app.refresh(&token).await.token();
    assert_eq!((app.upstream.refreshes(), app.upstream.reuses()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_commit_emits_an_event() {
    let (app, foreign) = adopting().await;
    app.store
        .hook(|_, call| if insert(call) { Plan::Lose } else { Plan::Pass });
    assert_eq!(app.refresh(&foreign).await.status, 503);
    app.layer.drain().await;
    let events = app.events();
    assert_eq!(events.last(), Some(&EventKind::CommitLost), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn an_adoption_completes_after_its_client_hangs_up() {
    let (app, foreign) = adopting().await;
    let gate = Arc::new(Notify::new());
    app.upstream.then(Act::Wait(Arc::clone(&gate)));
    let (hanging, request) = (app.clone(), post("/token", &refresh_form("app", &foreign)));
    let client = tokio::spawn(async move { hanging.send(request).await });
    settle().await;
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    gate.notify_one();
    app.layer.drain().await;
    assert_eq!(app.events(), [EventKind::Adopted], "draining waits for it");
    let token = another(&app, 3600).refresh(&foreign).await.token();
    app.refresh(&token).await.token();
    assert_eq!((app.upstream.refreshes(), app.upstream.reuses()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_too_long_is_told_to_retry() {
    let (app, foreign) = adopting().await;
    let gate = Arc::new(Notify::new());
    app.upstream.then(Act::Wait(Arc::clone(&gate)));
    let other = another(&app, 3600);
    for (name, app) in [
        ("the adopting request", &app),
        ("a waiting request", &other),
    ] {
        let answer = send(app, post("/token", &refresh_form("app", &foreign))).await;
        answer.assert_refused(name, 503, "temporarily_unavailable", false);
    }
    // Twenty seconds have passed: a response now is too late.
    gate.notify_one();
    app.layer.drain().await;
    assert_eq!(app.upstream.refreshes(), 1);
}
