//! A client can end its session with any token that it may hold (RFC 7009), and no session of
//! another client.

mod tokens;

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
