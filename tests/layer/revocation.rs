//! A client can end its session with any token that it may hold (RFC 7009), and no session of
//! another client.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use test_support::requests::{Whole, basic, forged, form, patched, send};
use test_support::{App, post, refresh_form};
use tower_oauth_refresh::EventKind;

const HOUR: Duration = Duration::from_secs(3600);

fn revocation(client: &str, token: &str) -> Request<Full<Bytes>> {
    post("/revoke", &[("token", token), ("client_id", client)])
}

#[track_caller]
fn assert_revoked(name: &str, answer: &Whole) {
    answer.assert_ok(name);
    assert!(answer.body.is_empty(), "{name}: {answer:?}");
}

/// Panics unless the response is the layer's own, without an upstream response behind it.
#[track_caller]
fn assert_revoked_here(name: &str, answer: &Whole) {
    assert_revoked(name, answer);
    assert_eq!(answer.headers()["content-length"], "0", "{name}");
    assert_eq!(answer.headers()["cache-control"], "no-store", "{name}");
}

/// Returns the tokens that the inner service was asked to revoke.
fn revoked_inside(app: &App) -> Vec<String> {
    let seen = app
        .upstream
        .seen()
        .into_iter()
        .filter(|seen| seen.path == "/revoke");
    seen.map(|seen| seen.param("token").unwrap().to_owned())
        .collect()
}

/// Returns the tokens of a new grant in order; the last one is the current token.
async fn grant(app: &App, rotations: usize) -> Vec<String> {
    let mut tokens = vec![app.log_in("app").await];
    for _ in 0..rotations {
        let next = app.refresh(tokens.last().unwrap()).await.token();
        tokens.push(next);
    }
    app.events();
    tokens
}

#[tokio::test(start_paused = true)]
async fn every_accepted_token_revokes_the_grant_and_the_upstream_token() {
    let rows: [(&str, usize, usize, Duration, &str); 6] = [
        ("the first token", 0, 0, Duration::ZERO, "upstream-0-0"),
        ("the current token", 3, 3, Duration::ZERO, "upstream-0-3"),
        (
            "the current token after weeks",
            1,
            1,
            600 * HOUR,
            "upstream-0-1",
        ),
        (
            "the previous token in its retry window",
            1,
            0,
            Duration::from_secs(59),
            "upstream-0-1",
        ),
        (
            "the previous token of several",
            3,
            2,
            Duration::from_secs(59),
            "upstream-0-3",
        ),
        (
            "the previous token in its recovery",
            2,
            1,
            23 * HOUR,
            "upstream-0-2",
        ),
    ];
    for (name, rotations, presented, passed, inside) in rows {
        let app = App::new();
        let tokens = grant(&app, rotations).await;
        app.clock.advance(passed);
        assert_revoked(
            name,
            &send(&app, revocation("app", &tokens[presented])).await,
        );
        assert_eq!(app.events(), [EventKind::Revoked], "{name}");
        assert_eq!(revoked_inside(&app), [inside], "{name}");
        assert_eq!(app.upstream.alive(), 0, "{name}");
        for token in &tokens {
            let answer = send(&app, post("/token", &refresh_form("app", token))).await;
            answer.assert_refused(name, 400, "invalid_grant", false);
            assert_revoked_here(name, &send(&app, revocation("app", token)).await);
        }
        assert_eq!(
            revoked_inside(&app).len(),
            1,
            "{name}: an ended grant is not revoked again"
        );
        assert_eq!(app.upstream.refreshes(), rotations, "{name}");
        assert!(
            app.events().iter().all(|kind| *kind == EventKind::Unknown),
            "{name}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_not_accepted_revokes_nothing() {
    type Presented = fn(&[String]) -> String;
    let rows: [(&str, &str, Presented, Duration, EventKind); 9] = [
        (
            "of no grant",
            "app",
            |t| patched(&t[2], |bytes| bytes[..12].fill(9)),
            Duration::ZERO,
            EventKind::Unknown,
        ),
        (
            "of another client",
            "other",
            |t| t[2].clone(),
            Duration::ZERO,
            EventKind::ClientMismatch,
        ),
        (
            "previous, of another client",
            "other",
            |t| t[1].clone(),
            2 * HOUR,
            EventKind::ClientMismatch,
        ),
        (
            "old, of another client",
            "other",
            |t| t[0].clone(),
            2 * HOUR,
            EventKind::ClientMismatch,
        ),
        (
            "with a made-up secret",
            "app",
            |t| forged(&t[2], 2),
            Duration::ZERO,
            EventKind::Forged,
        ),
        (
            "with a made-up previous secret",
            "app",
            |t| forged(&t[2], 1),
            2 * HOUR,
            EventKind::Forged,
        ),
        (
            "ahead of the grant",
            "app",
            |t| forged(&t[2], 3),
            Duration::ZERO,
            EventKind::Ahead,
        ),
        (
            "far ahead of the grant",
            "app",
            |t| forged(&t[2], u32::MAX),
            2 * HOUR,
            EventKind::Ahead,
        ),
        (
            "old, of another client, in the retry window",
            "other",
            |t| t[0].clone(),
            Duration::ZERO,
            EventKind::ClientMismatch,
        ),
    ];
    for (name, client, presented, passed, event) in rows {
        let app = App::new();
        let tokens = grant(&app, 2).await;
        app.clock.advance(passed);
        app.store.calls();
        assert_revoked_here(
            name,
            &send(&app, revocation(client, &presented(&tokens))).await,
        );
        assert_eq!(app.events(), [event], "{name}");
        assert!(
            !app.store.calls().iter().any(test_support::Call::is_swap),
            "{name}: the store was written to"
        );
        assert_eq!(revoked_inside(&app), [""; 0], "{name}");
        app.refresh(&tokens[2]).await.token();
    }
}

#[tokio::test(start_paused = true)]
async fn a_reused_token_ends_the_grant() {
    let rows: [(&str, bool, usize, Duration); 4] = [
        (
            "older than the previous one",
            false,
            0,
            Duration::from_secs(61),
        ),
        ("the previous one after its recovery", false, 1, 25 * HOUR),
        ("strict: the previous one", true, 1, Duration::ZERO),
        ("strict: an older one", true, 0, Duration::ZERO),
    ];
    for (name, strict, presented, passed) in rows {
        let app = App::with(|builder| {
            if strict {
                builder.strict(true)
            } else {
                builder.recovery_window(24 * HOUR)
            }
        });
        let tokens = grant(&app, 2).await;
        app.clock.advance(passed);
        assert_revoked_here(
            name,
            &send(&app, revocation("app", &tokens[presented])).await,
        );
        assert_eq!(app.events(), [EventKind::ReuseDetected], "{name}");
        assert_eq!(
            revoked_inside(&app),
            [""; 0],
            "{name}: the old token does not unseal the upstream token"
        );
        assert_eq!(
            app.refresh(&tokens[2]).await.error(),
            (400, "invalid_grant".into()),
            "{name}"
        );
        assert_eq!(app.upstream.refreshes(), 2, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_previous_token_revokes_at_the_inner_service_only_in_its_windows() {
    for (passed, event) in [
        (Duration::ZERO, EventKind::Revoked),
        (2 * HOUR, EventKind::ReuseDetected),
    ] {
        let app = App::new();
        let tokens = grant(&app, 1).await;
        app.upstream
            .then(test_support::Act::Answer(500, "text/plain", "down"));
        assert_eq!(app.refresh(&tokens[1]).await.status, 500);
        app.clock.advance(passed);
        let answer = send(&app, revocation("app", &tokens[0])).await;
        assert_eq!(answer.head.status, 200, "after {passed:?}");
        assert_eq!(app.events(), [event], "after {passed:?}");
        let inside = usize::from(event == EventKind::Revoked);
        assert_eq!(revoked_inside(&app).len(), inside, "after {passed:?}");
        assert_eq!(
            app.refresh(&tokens[1]).await.error(),
            (400, "invalid_grant".into()),
            "after {passed:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn any_older_token_revokes_the_grant_within_the_retry_window() {
    for (rotations, presented) in [(2, 0), (3, 0), (3, 1), (7, 0), (7, 5)] {
        for passed in [Duration::ZERO, Duration::from_secs(59)] {
            let name = format!("token {presented} after {rotations} rotations and {passed:?}");
            let app = App::with(|builder| builder.shared_token_window(Duration::ZERO));
            let tokens = grant(&app, rotations).await;
            app.clock.advance(passed);
            let refresh = app.refresh(&tokens[presented]).await;
            assert_eq!(refresh.error(), (400, "invalid_grant".into()), "{name}");
            assert_eq!(
                app.events(),
                [EventKind::Late],
                "{name}: a refresh with it ends nothing"
            );
            assert_revoked_here(
                &name,
                &send(&app, revocation("app", &tokens[presented])).await,
            );
            assert_eq!(app.events(), [EventKind::Revoked], "{name}");
            assert_eq!(
                revoked_inside(&app),
                [""; 0],
                "{name}: the older token does not unseal the upstream token"
            );
            for token in &tokens {
                assert_eq!(
                    app.refresh(token).await.error(),
                    (400, "invalid_grant".into()),
                    "{name}"
                );
                assert_revoked_here(&name, &send(&app, revocation("app", token)).await);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn revoking_an_expired_grant_has_no_effect() {
    let store = test_support::Hooked::new(tower_oauth_refresh::MemoryStore::with_clock(
        test_support::ManualClock::new(),
    ));
    let clock = test_support::ManualClock::new();
    let slow_store = App::over(clock, store, test_support::Upstream::new(), |builder| {
        builder
    });
    for (name, app, late, event) in [
        ("gone from the store", App::new(), HOUR, EventKind::Unknown),
        (
            "kept for a while",
            App::new(),
            Duration::ZERO,
            EventKind::Expired,
        ),
        ("still in the store", slow_store, HOUR, EventKind::Expired),
    ] {
        let tokens = grant(&app, 1).await;
        app.clock.advance(30 * 24 * HOUR + late);
        for token in &tokens {
            assert_revoked_here(name, &send(&app, revocation("app", token)).await);
            assert_eq!(app.events(), [event], "{name}");
        }
        assert_eq!(revoked_inside(&app), [""; 0], "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_the_request_is_forwarded_unchanged() {
    let app = App::new();
    let token = app.log_in("confidential").await;
    let body = format!(
        "x=%7e&token_type_hint=refresh_token&token={token}&resource=a&resource=b&audience=+&"
    );
    let request = form("/revoke")
        .header(
            "authorization",
            basic("confidential:secret+of+confidential"),
        )
        .header("accept-encoding", "gzip")
        .header("x-trace", "7");
    assert_revoked(
        "a confidential client",
        &send(&app, request.body(Full::<Bytes>::from(body)).unwrap()).await,
    );
    let seen = app.upstream.seen().pop().unwrap();
    let expected =
        "x=%7e&token_type_hint=refresh_token&token=upstream-0-0&resource=a&resource=b&audience=+&";
    assert_eq!(seen.raw, expected);
    assert_eq!(seen.headers["content-length"], expected.len().to_string());
    assert_eq!(seen.headers["x-trace"], "7");
    assert!(
        !seen.headers.contains_key("accept-encoding"),
        "an error that is compressed could not be read"
    );
    assert_eq!(app.upstream.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_token_type_hint_is_harmless() {
    for hint in ["access_token", "refresh_token", "at+jwt", ""] {
        let app = App::new();
        let token = app.log_in("app").await;
        let form = [
            ("token_type_hint", hint),
            ("token", &token),
            ("client_id", "app"),
        ];
        assert_revoked(hint, &send(&app, post("/revoke", &form)).await);
        assert_eq!(
            app.upstream.seen().pop().unwrap().param("token_type_hint"),
            Some(hint)
        );
        assert_eq!(app.upstream.alive(), 0, "{hint}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_fails_authentication_revokes_nothing() {
    let app = App::new();
    let token = app.log_in("confidential").await;
    for secret in [None, Some("wrong")] {
        let mut pairs = vec![("token", token.as_str()), ("client_id", "confidential")];
        pairs.extend(secret.map(|secret| ("client_secret", secret)));
        let answer = send(&app, post("/revoke", &pairs)).await;
        assert_eq!(
            (answer.head.status.as_u16(), &answer.body[..]),
            (401, &br#"{"error":"invalid_client"}"#[..])
        );
        assert_eq!(
            answer.headers()["x-upstream"],
            "yes",
            "the response of the inner service is passed on"
        );
    }
    assert_eq!(app.upstream.alive(), 1);
    let secret = ("client_secret", "secret of confidential");
    app.post(
        "/token",
        &[&refresh_form("confidential", &token)[..], &[secret]].concat(),
    )
    .await
    .token();
}

#[tokio::test(start_paused = true)]
async fn a_foreign_token_is_forwarded_byte_for_byte() {
    let app = App::new();
    let token = app.log_in("app").await;
    app.store.calls();
    let rows = [
        (
            "an access token",
            "token=at-0-0&client_id=app&token_type_hint=access_token".to_owned(),
        ),
        ("nobody's", "&token=abc%2e&x=%7E+&resource=a&&".to_owned()),
        (
            "one of the layer, truncated",
            format!("client_id=app&token={}", &token[..60]),
        ),
        (
            "of another prefix",
            format!("client_id=app&token={}", token.replacen("rt_", "at_", 1)),
        ),
    ];
    for (name, body) in rows {
        for (status, text) in [
            (200, ""),
            (400, r#"{"error":"unsupported_token_type"}"#),
            (500, "oops"),
            (404, "<html>"),
        ] {
            app.upstream
                .then(test_support::Act::Answer(status, "text/x-odd", text));
            let answer = send(
                &app,
                form("/revoke")
                    .body(Full::<Bytes>::from(body.clone()))
                    .unwrap(),
            )
            .await;
            assert_eq!(
                (answer.head.status.as_u16(), &answer.body[..]),
                (status, text.as_bytes()),
                "{name}"
            );
            assert_eq!(answer.headers()["content-type"], "text/x-odd", "{name}");
            assert_eq!(app.upstream.seen().pop().unwrap().raw, body, "{name}");
        }
    }
    app.upstream.then(test_support::Act::Break);
    assert!(
        app.send(revocation("app", "abc")).await.is_err(),
        "an error of the inner service is passed on"
    );
    assert!(app.store.calls().is_empty(), "the store is not called");
    app.refresh(&token).await.token();
}
