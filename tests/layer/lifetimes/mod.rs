//! Clients see when their refresh token and their grant end, in the members of
//! draft-ietf-oauth-refresh-token-expiration and in two older ones.

mod stated;

use std::time::Duration;

use axum::Router;
use serde_json::{Value, json};
use test_support::foreign::log_in_before;
use test_support::oauth::post_form;
use test_support::session::infallible;
use test_support::{Act, App, refresh_form};
use tower_oauth_refresh::{Clock as _, EventKind, RotationPolicy};

const IDLE: u64 = 7200;
const CENTURY: u64 = 100 * 365 * 24 * 3600;

const LOG_IN: [(&str, &str); 3] = [
    ("grant_type", "authorization_code"),
    ("code", "c"),
    ("client_id", "app"),
];

/// The members that hold a lifetime of the refresh token.
const TIMEOUTS: [&str; 3] = [
    "refresh_expires_in",
    "refresh_token_expires_in",
    "refresh_token_timeout",
];

/// An instance that adopts for a day, served over HTTP.
struct Served {
    app: App,
    token_endpoint: String,
}

impl Served {
    async fn start(absolute: Option<u64>) -> Self {
        Self::with(absolute, RotationPolicy::EveryUse).await
    }

    async fn with(absolute: Option<u64>, policy: RotationPolicy) -> Self {
        let app = App::with(|builder| {
            let builder = builder
                .rotation_policy(move |_| policy)
                .idle_lifetime(seconds(IDLE))
                .adopt_until(std::time::UNIX_EPOCH + seconds(4_000_000_000))
                .introspection_path("/introspect");
            match absolute {
                Some(lifetime) => builder.absolute_lifetime(seconds(lifetime)),
                None => builder,
            }
        });
        let router = Router::new()
            .fallback_service(infallible::<axum::body::Body>(&app.upstream))
            .layer(app.layer.clone());
        let addr = test_support::http::serve(router).await;
        Self {
            app,
            token_endpoint: format!("http://{addr}/token"),
        }
    }

    fn pass(&self, time: u64) {
        self.app.clock.advance(seconds(time));
    }

    async fn post(&self, form: &[(&str, &str)]) -> (u16, Value) {
        let (status, _, body) = post_form(&self.token_endpoint, form, &[]).await;
        (status.as_u16(), body)
    }

    async fn log_in(&self, members: &'static str) -> Value {
        self.app.upstream.then(Act::With(members));
        self.granted(&LOG_IN).await
    }

    async fn refresh(&self, token: &Value, act: Act) -> Value {
        self.app.upstream.then(act);
        self.again(token).await
    }

    /// Refreshes without a request to the inner service.
    async fn again(&self, token: &Value) -> Value {
        self.granted(&refresh_form("app", token.as_str().unwrap()))
            .await
    }

    async fn granted(&self, form: &[(&str, &str)]) -> Value {
        let (status, body) = self.post(form).await;
        assert_eq!(status, 200, "{body}");
        body
    }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Checks the lifetimes in a response to a request whose answer of the inner service had `members`.
#[track_caller]
fn assert_states(name: &str, answer: &Value, members: &str, timeout: u64, left: Option<u64>) {
    let members: Value = serde_json::from_str(members).unwrap();
    let stated = |name: &str| {
        let value = answer.get(name)?;
        let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
        Some(number.unwrap_or_else(|| panic!("{name} is {value}")))
    };
    for member in TIMEOUTS {
        let is_there = member == "refresh_token_timeout" || members.get(member).is_some();
        assert_eq!(
            stated(member),
            is_there.then_some(timeout),
            "{name}, {member}: {answer}"
        );
    }
    assert_eq!(stated("authorization_expires_in"), left, "{name}: {answer}");
    assert!(
        left.is_none_or(|left| timeout <= left),
        "{name}: the token outlives the authorization: {answer}"
    );
}

#[tokio::test]
async fn an_authorization_ends_however_often_the_token_is_rotated() {
    let server = Served::start(None).await;
    let first = server.log_in(r#"{"authorization_expires_in":5000}"#).await;
    server.pass(2000);
    // A server that keeps its refresh token need not state the lifetime again.
    let second = server
        .refresh(&first["refresh_token"], Act::KeepToken)
        .await;
    assert_states("kept", &second, "{}", 3000, Some(3000));
    server.pass(2999);
    let third = server
        .refresh(&second["refresh_token"], Act::KeepToken)
        .await;
    assert_states("the last second", &third, "{}", 1, Some(1));
    server.app.events();
    server.pass(1);
    let form = refresh_form("app", third["refresh_token"].as_str().unwrap());
    assert_eq!(server.post(&form).await.1["error"], "invalid_grant");
    assert_eq!(server.app.events(), [EventKind::Expired]);
}

#[tokio::test]
async fn an_authorization_can_be_extended_up_to_the_absolute_end() {
    let server = Served::start(Some(20_000)).await;
    let members = r#"{"authorization_expires_in":5000}"#;
    let first = server.log_in(members).await;
    assert_states("log-in", &first, members, 5000, Some(5000));
    server.pass(4000);
    // The user extends the authorization at the inner service (§9 of the draft).
    let members = r#"{"authorization_expires_in":9000}"#;
    let second = server
        .refresh(&first["refresh_token"], Act::With(members))
        .await;
    assert_states("extended", &second, members, IDLE, Some(9000));
    server.pass(5000);
    // The answer has another refresh token, so an authorization with an end would be stated.
    let third = server
        .refresh(&second["refresh_token"], Act::With("{}"))
        .await;
    assert_states("without an end", &third, "{}", IDLE, Some(11_000));
}

#[tokio::test]
async fn a_repeated_lifetime_is_an_invalid_answer() {
    let rows = [
        r#"{"access_token":"a","refresh_token":"up","refresh_token_timeout":60,"refresh_token_timeout":60}"#,
        r#"{"access_token":"a","refresh_token":"up","authorization_expires_in":1,"authorization\u005fexpires_in":1}"#,
    ];
    for body in rows {
        let server = Served::start(None).await;
        let answer = || Act::Answer(200, "application/json", body);
        server.app.upstream.then(answer());
        assert_eq!(server.post(&LOG_IN).await.0, 502, "{body}");
        let issued = server.log_in("{}").await;
        server.app.upstream.then(answer());
        let form = refresh_form("app", issued["refresh_token"].as_str().unwrap());
        assert_eq!(server.post(&form).await.0, 502, "{body}");
        server
            .refresh(&issued["refresh_token"], Act::With("{}"))
            .await;
    }
}
