//! A rejected refresh tells the client no more than the OAuth error, and takes nothing from the
//! rightful client.

mod another_client;
mod beyond_the_grant;

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use test_support::requests::{assert_untouched, basic, forged, form, generation, patched, send};
use test_support::{App, post, refresh_form};
use tower_oauth_refresh::{EventKind, RefreshError};

const API: &str = "https://api.example.com/v1";
const HOUR: Duration = Duration::from_secs(3600);

/// Two grants of `read write` and one resource, to the clients `app` and `other`.
struct Fixture {
    app: App,
    token: String,
    others: String,
}

impl Fixture {
    async fn new(app: App) -> Self {
        let token = log_in(&app, "app").await;
        let others = log_in(&app, "other").await;
        app.events();
        Self { app, token, others }
    }

    fn asking(&self, more: &[(&str, &str)]) -> Request<Full<Bytes>> {
        post(
            "/token",
            &[&refresh_form("app", &self.token), more].concat(),
        )
    }

    fn scope(&self, scope: &str) -> Request<Full<Bytes>> {
        self.asking(&[("scope", scope)])
    }

    fn resource(&self, resource: &str) -> Request<Full<Bytes>> {
        self.asking(&[("resource", resource)])
    }
}

fn present(token: impl AsRef<str>) -> Request<Full<Bytes>> {
    post("/token", &refresh_form("app", token.as_ref()))
}

async fn log_in(app: &App, client: &str) -> String {
    let form = [
        ("grant_type", "password"),
        ("username", "u"),
        ("password", "p"),
        ("client_id", client),
        ("resource", API),
    ];
    app.post("/token", &form).await.token()
}

type Row = (
    &'static str,
    fn(&Fixture) -> Request<Full<Bytes>>,
    &'static str,
    Option<EventKind>,
);

const GRANT: &str = "invalid_grant";

async fn refuse_all(rows: &[Row]) {
    for (name, request, error, event) in rows {
        let fixture = Fixture::new(App::new()).await;
        let app = &fixture.app;
        let answer = send(app, request(&fixture)).await;
        answer.assert_refused(name, 400, error, false);
        assert_eq!(app.events(), event.as_slice(), "{name}");
        assert_untouched(name, app, 2);
        let next = app.refresh(&fixture.token).await.token();
        app.refresh_as("other", &fixture.others).await.token();
        assert_eq!(
            (generation(&next), app.upstream.refreshes()),
            (1, 2),
            "{name}"
        );
        assert_eq!(app.events(), [EventKind::Rotated; 2], "{name}");
    }
}

fn by_basic(token: &str, joined: &str) -> Request<Full<Bytes>> {
    let body = format!("grant_type=refresh_token&refresh_token={token}");
    form("/token")
        .header("authorization", basic(joined))
        .body(body.into())
        .unwrap()
}

/// Each row begins with a grant that was rotated from the first token to the second.
#[tokio::test(start_paused = true)]
async fn an_outdated_token_is_rejected() {
    let rows: [(&str, Duration, fn(&[String; 2]) -> String, EventKind, bool); 8] = [
        (
            "older, in the window, with a made-up secret",
            Duration::ZERO,
            |t| forged(&t[0], 0),
            EventKind::Forged,
            true,
        ),
        (
            "this generation, with a made-up secret",
            Duration::ZERO,
            |t| forged(&t[0], 1),
            EventKind::Forged,
            true,
        ),
        (
            "the next generation, with a made-up secret",
            Duration::ZERO,
            |t| forged(&t[0], 2),
            EventKind::Ahead,
            true,
        ),
        (
            "previous, after its recovery",
            25 * HOUR,
            |t| t[0].clone(),
            EventKind::ReuseDetected,
            false,
        ),
        (
            "current, a moment before the end of an idle grant",
            48 * HOUR - SECOND,
            |t| forged(&t[1], 1),
            { EventKind::Forged },
            true,
        ),
        (
            "current, at the end of an idle grant",
            48 * HOUR,
            |t| t[1].clone(),
            EventKind::Expired,
            false,
        ),
        (
            "previous, at the end of an idle grant",
            48 * HOUR,
            |t| t[0].clone(),
            EventKind::Expired,
            false,
        ),
        (
            "current, long after",
            1000 * HOUR,
            |t| t[1].clone(),
            EventKind::Unknown,
            false,
        ),
    ];
    for (name, passed, presented, event, lives) in rows {
        let app = App::with(|builder| builder.idle_lifetime(48 * HOUR).recovery_window(24 * HOUR));
        let first = app.log_in("app").await;
        let second = app.refresh(&first).await.token();
        app.events();
        app.clock.advance(passed);
        let answer = send(
            &app,
            post(
                "/token",
                &refresh_form("app", &presented(&[first, second.clone()])),
            ),
        )
        .await;
        answer.assert_refused(name, 400, "invalid_grant", false);
        assert_eq!(app.events(), [event], "{name}");
        let after = app.refresh(&second).await;
        assert_eq!(after.status == 200, lives, "{name}: {after:?}");
        assert_eq!(
            app.upstream.refreshes(),
            if lives { 2 } else { 1 },
            "{name}"
        );
        assert_eq!(app.upstream.reuses(), 0, "{name}");
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn an_option_changes_only_invalid_grant_to_401() {
    let rows: [(&str, fn(&Fixture) -> Request<Full<Bytes>>, u16, &str); 5] = [
        ("an unknown token", |_| present("rt_x"), 401, GRANT),
        ("another client's token", |f| present(&f.others), 401, GRANT),
        (
            "a forged token",
            |f| present(forged(&f.token, 0)),
            401,
            GRANT,
        ),
        ("too much scope", |f| f.scope("admin"), 400, "invalid_scope"),
        ("no token", |_| present(""), 400, "invalid_request"),
    ];
    for (name, request, status, error) in rows {
        let fixture = Fixture::new(App::with(|builder| {
            builder.unauthorized_on_invalid_grant(true)
        }))
        .await;
        let answer = send(&fixture.app, request(&fixture)).await;
        answer.assert_refused(name, status, error, false);
        assert_untouched(name, &fixture.app, 2);
        fixture.app.refresh(&fixture.token).await.token();
    }
}

#[tokio::test(start_paused = true)]
async fn an_outer_service_sees_the_cause_but_the_client_does_not() {
    let app = App::new();
    let token = app.log_in("app").await;
    let mut answers = Vec::new();
    for presented in [forged(&token, 0), forged(&token, 9), "rt_x".to_owned()] {
        let answer = send(&app, post("/token", &refresh_form("app", &presented))).await;
        assert!(matches!(
            answer.head.extensions.get(),
            Some(RefreshError::InvalidGrant)
        ));
        answers.push((answer.head.status, answer.head.headers, answer.body));
    }
    let mismatch = send(&app, post("/token", &refresh_form("other", &token))).await;
    answers.push((mismatch.head.status, mismatch.head.headers, mismatch.body));
    assert!(
        answers.windows(2).all(|pair| pair[0] == pair[1]),
        "refusals differ: {answers:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_expired_grant_that_is_still_stored_is_rejected() {
    let store = test_support::Hooked::new(tower_oauth_refresh::MemoryStore::with_clock(
        test_support::ManualClock::new(),
    ));
    let clock = test_support::ManualClock::new();
    let app = App::over(clock, store, test_support::Upstream::new(), |builder| {
        builder.idle_lifetime(HOUR)
    });
    let token = app.log_in("app").await;
    app.events();
    app.clock.advance(HOUR);
    let answer = send(&app, post("/token", &refresh_form("app", &token))).await;
    answer.assert_refused("an expired grant", 400, "invalid_grant", false);
    assert_eq!(app.events(), [EventKind::Expired]);
    assert_untouched("an expired grant", &app, 1);
}
