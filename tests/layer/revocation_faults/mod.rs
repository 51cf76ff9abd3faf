//! A revocation that fails upstream ends the grant here, can be retried until the inner service
//! confirms it, and loses nothing.

mod races;
mod time_limits;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Full};
use test_support::requests::{Whole, send};
use test_support::{Act, App, Call, Plan, post, refresh_form, settle};
use tokio::sync::Notify;
use tokio::time::sleep;
use tower::{Layer as _, service_fn};
use tower_oauth_refresh::store::Change;
use tower_oauth_refresh::{EventKind, RefreshError, RequestBody, StoreError};

const UNSUPPORTED: &str = r#"{"error":"unsupported_token_type"}"#;

fn revocation(token: &str) -> Request<Full<Bytes>> {
    post("/revoke", &[("token", token), ("client_id", "app")])
}

fn revocations(app: &App) -> usize {
    app.upstream
        .seen()
        .iter()
        .filter(|seen| seen.path == "/revoke")
        .count()
}

/// Returns the previous and the current token of a new grant.
async fn grant(app: &App) -> [String; 2] {
    let first = app.log_in("app").await;
    let second = app.refresh(&first).await.token();
    app.events();
    [first, second]
}

async fn assert_ended(name: &str, app: &App, token: &str) {
    let before = app.upstream.refreshes();
    assert_eq!(
        app.refresh(token).await.error(),
        (400, "invalid_grant".into()),
        "{name}"
    );
    assert_eq!(
        app.upstream.refreshes(),
        before,
        "{name}: the inner service saw a refresh"
    );
}

#[tokio::test(start_paused = true)]
async fn a_revocation_ends_the_grant_and_can_be_retried_if_the_inner_service_is_down() {
    let faults = [
        ("unreachable", Act::Break),
        ("500", Act::Answer(500, "text/plain", "oops")),
        ("502", Act::Answer(502, "text/plain", "")),
        (
            "503",
            Act::Answer(
                503,
                "application/json",
                r#"{"error":"temporarily_unavailable"}"#,
            ),
        ),
        ("501", Act::Answer(501, "application/json", UNSUPPORTED)),
    ];
    for (name, fault) in faults {
        for which in [0, 1] {
            let app = App::new();
            let tokens = grant(&app).await;
            for count in 1..=2 {
                app.upstream.then(fault.clone());
                let answer = send(&app, revocation(&tokens[which])).await;
                answer.assert_refused(name, 503, "temporarily_unavailable", false);
                assert_eq!(app.events(), [EventKind::Revoked], "{name}");
                assert_eq!(revocations(&app), count, "{name}");
                assert_ended(name, &app, &tokens[0]).await;
                assert_ended(name, &app, &tokens[1]).await;
                assert_eq!(app.events(), [EventKind::Unknown; 2], "{name}");
                assert_eq!(
                    app.upstream.alive(),
                    1,
                    "{name}: the inner service has not confirmed yet"
                );
            }
            send(&app, revocation(&tokens[which])).await.assert_ok(name);
            assert_eq!(
                app.upstream.seen().pop().unwrap().param("token"),
                Some("upstream-0-1"),
                "{name}"
            );
            assert_eq!(app.upstream.alive(), 0, "{name}");
            send(&app, revocation(&tokens[which])).await.assert_ok(name);
            assert_eq!(
                revocations(&app),
                3,
                "{name}: it is confirmed, and not sent again"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pending_revocation_expires_in_the_end() {
    let app = App::new();
    let [_, token] = grant(&app).await;
    app.upstream.then(Act::Break);
    app.revoke(&token).await;
    app.clock.advance(Duration::from_secs(599));
    assert_ended("a moment before", &app, &token).await;
    app.clock.advance(Duration::from_secs(1));
    assert_ended("then", &app, &token).await;
    assert_eq!(app.revoke(&token).await.status, 200);
    assert_eq!(revocations(&app), 1, "there is nothing left to revoke");
}

#[tokio::test(start_paused = true)]
async fn the_grant_ends_if_the_inner_service_revokes_no_refresh_tokens() {
    let rows = [
        (
            "no such endpoint",
            Act::Answer(404, "text/html", "<h1>Not Found</h1>"),
        ),
        ("no such method", Act::Answer(405, "text/plain", "")),
        (
            "no such kind of token",
            Act::Answer(400, "application/json", UNSUPPORTED),
        ),
        ("no such kind of token, in words", {
            Act::Answer(
                400,
                "application/json",
                r#" {"error_description":"no","error":"unsupported_token\u005ftype"}"#,
            )
        }),
    ];
    for (name, act) in rows {
        for which in [0, 1] {
            let app = App::new();
            let tokens = grant(&app).await;
            app.upstream.then(act.clone());
            let answer = send(&app, revocation(&tokens[which])).await;
            answer.assert_ok(name);
            assert!(
                answer.body.is_empty() && !answer.headers().contains_key("x-upstream"),
                "{name}: {answer:?}"
            );
            assert_eq!(app.events(), [EventKind::Revoked], "{name}");
            assert_ended(name, &app, &tokens[1]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_inner_service_is_passed_on_and_removes_nothing() {
    const CLIENT: &str = r#"{"error":"invalid_client","error_description":"who are you"}"#;
    let rows = [
        (401, "application/json", CLIENT),
        (401, "text/html", "<html>"),
        (400, "application/json", r#"{"error":"invalid_request"}"#),
        (400, "text/plain", "unsupported_token_type"),
        (400, "application/json", ""),
        (403, "application/json", r#"{"error":"access_denied"}"#),
        (429, "application/json", r#"{"error":"slow_down"}"#),
        (302, "text/plain", "elsewhere"),
    ];
    for (status, content_type, body) in rows {
        let name = format!("{status} {body}");
        let app = App::new();
        let tokens = grant(&app).await;
        app.upstream.then(Act::Answer(status, content_type, body));
        app.store.calls();
        let answer = send(&app, revocation(&tokens[1])).await;
        assert_eq!(
            (answer.head.status.as_u16(), &answer.body[..]),
            (status, body.as_bytes()),
            "{name}"
        );
        assert_eq!(answer.headers()["content-type"], content_type, "{name}");
        assert_eq!(answer.headers()["x-upstream"], "yes", "{name}");
        assert!(
            !app.store.calls().iter().any(Call::is_swap),
            "{name}: the store was written to"
        );
        assert_eq!(app.events(), [], "{name}");
        app.refresh(&tokens[1]).await.token();
    }
}

#[tokio::test(start_paused = true)]
async fn no_error_discloses_the_upstream_token() {
    for (status, body) in [
        (
            400,
            r#"{"error":"invalid_request","error_description":"upstream-0-1 is odd"}"#,
        ),
        (401, "upstream-0-1? Who are you?"),
    ] {
        let app = App::new();
        let tokens = grant(&app).await;
        app.upstream
            .then(Act::Answer(status, "application/json", body));
        let answer = send(&app, revocation(&tokens[1])).await;
        answer.assert_refused(body, 502, "server_error", false);
        assert_eq!(app.events(), [EventKind::UpstreamUnreadable]);
        app.refresh(&tokens[1]).await.token();
    }
}

#[tokio::test(start_paused = true)]
async fn a_revocation_can_be_retried_after_a_store_outage() {
    type Fits = fn(&Call) -> bool;
    let read: Fits = |call| matches!(call, Call::Get);
    let removal: Fits = |call| {
        matches!(
            call,
            Call::Swap {
                change: Change::Remove,
                ..
            }
        )
    };
    let mark: Fits = |call| {
        matches!(
            call,
            Call::Swap {
                change: Change::Put { .. },
                ..
            }
        )
    };
    let rows: [(&str, Option<Act>, Fits, Plan, bool); 5] = [
        ("down from the beginning", None, read, Plan::Lose, true),
        ("down before the removal", None, removal, Plan::Lose, false),
        (
            "the answer to the removal lost",
            None,
            removal,
            Plan::LoseAnswer,
            false,
        ),
        (
            "down when the inner service is, too",
            Some(Act::Break),
            mark,
            Plan::Lose,
            true,
        ),
        (
            "the answer to the mark lost",
            Some(Act::Break),
            mark,
            Plan::LoseAnswer,
            false,
        ),
    ];
    for (name, act, fits, plan, lives) in rows {
        for refreshed in [false, true] {
            let app = App::new();
            let [_, token] = grant(&app).await;
            if let Some(act) = &act {
                app.upstream.then(act.clone());
            }
            app.store.once(
                fits,
                match plan {
                    Plan::Lose => Plan::Lose,
                    _ => Plan::LoseAnswer,
                },
            );
            let answer = send(&app, revocation(&token)).await;
            answer.assert_refused(name, 503, "temporarily_unavailable", false);
            assert!(
                matches!(
                    answer.head.extensions.get(),
                    Some(RefreshError::Store(StoreError::Unavailable(_)))
                ),
                "{name}"
            );
            assert_eq!(app.events(), [EventKind::StoreUnavailable], "{name}");
            if refreshed {
                let answer = app.refresh(&token).await;
                assert_eq!(answer.status == 200, lives, "{name}: {answer:?}");
            } else {
                send(&app, revocation(&token)).await.assert_ok(name);
                assert_eq!(
                    app.upstream.alive(),
                    0,
                    "{name}: the same call again completes it"
                );
                assert_ended(name, &app, &token).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_corrupt_record_is_not_treated_as_absent() {
    let app = App::new();
    let [_, token] = grant(&app).await;
    app.store
        .once(|call| matches!(call, Call::Get), Plan::Corrupt);
    send(&app, revocation(&token))
        .await
        .assert_refused("damaged", 500, "server_error", false);
    assert_eq!(app.events(), [EventKind::StoreCorrupt]);
    assert_eq!(revocations(&app), 0);
    app.refresh(&token).await.token();
}
