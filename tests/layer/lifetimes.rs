//! Clients see when their refresh token and their grant end, in the members of
//! draft-ietf-oauth-refresh-token-expiration and in two older ones.

use std::time::Duration;

use axum::Router;
use serde_json::{Value, json};
use test_support::foreign::log_in_before;
use test_support::oauth::post_form;
use test_support::session::infallible;
use test_support::{Act, App, refresh_form};
use tower_oauth_refresh::{Clock as _, EventKind};

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
        let app = App::with(|builder| {
            let builder = builder
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

/// A name, the members of the inner service's answers, the absolute lifetime, the lifetimes that a
/// client sees: of its refresh token, and of its grant at the log-in and after a rotation 100 s
/// later.
type Row = (
    &'static str,
    &'static str,
    Option<u64>,
    u64,
    Option<(u64, u64)>,
);

const ROWS: [Row; 22] = [
    ("none", "{}", None, IDLE, None),
    (
        "none, with an absolute end",
        "{}",
        Some(10_000),
        IDLE,
        Some((10_000, 9900)),
    ),
    (
        "of Keycloak",
        r#"{"refresh_expires_in":1000}"#,
        None,
        1000,
        None,
    ),
    (
        "of others, in a string",
        r#"{"refresh_token_expires_in":"1000"}"#,
        None,
        1000,
        None,
    ),
    (
        "of the draft",
        r#"{"refresh_token_timeout":1000}"#,
        None,
        1000,
        None,
    ),
    (
        "longer than the idle lifetime",
        r#"{"refresh_token_timeout":100000}"#,
        None,
        IDLE,
        None,
    ),
    (
        "the authorization",
        r#"{"authorization_expires_in":5000}"#,
        None,
        5000,
        Some((5000, 5000)),
    ),
    (
        "the authorization, longer than the idle lifetime",
        r#"{"authorization_expires_in":"9000"}"#,
        None,
        IDLE,
        Some((9000, 9000)),
    ),
    (
        "the authorization, longer than the absolute lifetime",
        r#"{"authorization_expires_in":20000}"#,
        Some(10_000),
        IDLE,
        Some((10_000, 9900)),
    ),
    (
        "the authorization, shorter than the absolute lifetime",
        r#"{"authorization_expires_in":8000}"#,
        Some(10_000),
        IDLE,
        Some((8000, 8000)),
    ),
    (
        "all four",
        r#"{"refresh_expires_in":4000,"refresh_token_expires_in":3000,"refresh_token_timeout":2000,"authorization_expires_in":5000}"#,
        None,
        2000,
        Some((5000, 5000)),
    ),
    (
        "a token that outlives the authorization",
        r#"{"refresh_token_timeout":5000,"authorization_expires_in":1000}"#,
        None,
        1000,
        Some((1000, 1000)),
    ),
    (
        "zero",
        r#"{"refresh_expires_in":0,"refresh_token_timeout":0,"authorization_expires_in":0}"#,
        None,
        IDLE,
        None,
    ),
    (
        "zero, with an absolute end",
        r#"{"refresh_expires_in":0,"refresh_token_timeout":0,"authorization_expires_in":0}"#,
        Some(10_000),
        IDLE,
        Some((10_000, 9900)),
    ),
    (
        "negative numbers",
        r#"{"refresh_token_expires_in":-1,"refresh_token_timeout":-1,"authorization_expires_in":-1}"#,
        None,
        IDLE,
        None,
    ),
    (
        "fractions",
        r#"{"refresh_token_timeout":1000.9,"authorization_expires_in":2000.9}"#,
        None,
        1000,
        Some((2000, 2000)),
    ),
    (
        "words",
        r#"{"refresh_token_timeout":"soon","authorization_expires_in":"never"}"#,
        None,
        IDLE,
        None,
    ),
    (
        "signs and spaces in strings",
        r#"{"refresh_token_timeout":"+60","authorization_expires_in":" 60"}"#,
        None,
        IDLE,
        None,
    ),
    (
        "null",
        r#"{"refresh_token_timeout":null,"authorization_expires_in":null}"#,
        None,
        IDLE,
        None,
    ),
    (
        "other types",
        r#"{"refresh_expires_in":true,"refresh_token_timeout":[60],"authorization_expires_in":{"a":60}}"#,
        None,
        IDLE,
        None,
    ),
    (
        "beyond 64 bits",
        r#"{"refresh_token_timeout":1e40,"authorization_expires_in":"99999999999999999999"}"#,
        None,
        IDLE,
        Some((CENTURY, CENTURY)),
    ),
    (
        "beyond 64 bits, with an absolute end",
        r#"{"authorization_expires_in":1e40}"#,
        Some(10_000),
        IDLE,
        Some((10_000, 9900)),
    ),
];

#[tokio::test]
async fn every_response_states_the_ends_of_the_layer() {
    for (name, members, absolute, timeout, ends) in ROWS {
        let server = Served::start(absolute).await;
        let begun = ends.map(|(begun, _)| begun);
        let later = ends.map(|(_, later)| later);

        let issued = server.log_in(members).await;
        assert_states(name, &issued, members, timeout, begun);
        server.pass(100);
        let token = &issued["refresh_token"];
        let rotated = server.refresh(token, Act::With(members)).await;
        assert_states(name, &rotated, members, timeout, later);
        server.pass(30);
        let replayed = server.again(token).await;
        let left = later.map(|left| left - 30);
        assert_states(name, &replayed, members, timeout - 30, left);
        assert_eq!(replayed["refresh_token"], rotated["refresh_token"]);

        let foreign = json!(log_in_before(&server.app, "app").await);
        let adopted = server.refresh(&foreign, Act::With(members)).await;
        assert_states(name, &adopted, members, timeout, begun);
        server.pass(30);
        let replayed = server.again(&foreign).await;
        let left = begun.map(|left| left - 30);
        assert_states(name, &replayed, members, timeout - 30, left);
        assert_eq!(replayed["refresh_token"], adopted["refresh_token"]);
        assert_eq!(
            server.app.events(),
            [
                EventKind::Issued,
                EventKind::Rotated,
                EventKind::Replayed,
                EventKind::Adopted,
                EventKind::Replayed
            ],
            "{name}"
        );
    }
}

#[tokio::test]
async fn the_stated_ends_are_the_real_ones() {
    for (name, members, absolute, timeout, _) in ROWS {
        for (passed, status) in [(timeout - 1, 200), (timeout, 400)] {
            let server = Served::start(absolute).await;
            let issued = server.log_in(members).await;
            server.pass(passed);
            let form = refresh_form("app", issued["refresh_token"].as_str().unwrap());
            assert_eq!(server.post(&form).await.0, status, "{name}: {passed} s");
        }
    }
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

#[tokio::test]
async fn a_response_without_a_refresh_token_states_no_lifetime() {
    let server = Served::start(Some(10_000)).await;
    server.app.upstream.then(Act::With(
        r#"{"refresh_expires_in":60,"refresh_token_timeout":60,"authorization_expires_in":60}"#,
    ));
    let answer = server
        .granted(&[("grant_type", "authorization_code")])
        .await;
    assert_eq!(server.app.events(), [EventKind::Unbound]);
    for member in ["refresh_token", "authorization_expires_in"]
        .iter()
        .chain(&TIMEOUTS)
    {
        assert_eq!(answer.get(member), None, "{answer}");
    }
    // A response that begins no grant is that of the inner service.
    let body = r#"{"access_token":"a","refresh_expires_in":0,"authorization_expires_in":60}"#;
    server
        .app
        .upstream
        .then(Act::Answer(200, "application/json", body));
    let form = [("grant_type", "client_credentials"), ("client_id", "app")];
    let answer = server.granted(&form).await;
    assert_eq!(answer, serde_json::from_str::<Value>(body).unwrap());
}

#[tokio::test]
async fn introspection_states_the_ends_of_a_refresh_token() {
    let rows = [
        ("{}", None, IDLE, None),
        ("{}", Some(10_000), IDLE, Some(9900)),
        (
            r#"{"authorization_expires_in":2000}"#,
            None,
            1900,
            Some(1900),
        ),
    ];
    for (members, absolute, timeout, left) in rows {
        let server = Served::start(absolute).await;
        let issued = server.log_in(members).await;
        server.pass(100);
        let lies = r#"{"refresh_token_timeout":9,"authorization_expires_in":"9"}"#;
        let introspect = async |token: &str| {
            server.app.upstream.then(Act::With(lies));
            let form = [("token", token), ("client_id", "app")];
            server.app.post("/introspect", &form).await.json()
        };
        let token = issued["refresh_token"].as_str().unwrap();
        let answer = introspect(token).await;
        let timeout = timeout.min(IDLE - 100);
        assert_eq!(answer["refresh_token_timeout"], timeout, "{answer}");
        assert_eq!(
            answer.get("authorization_expires_in"),
            left.map(|left: u64| json!(left)).as_ref(),
            "{answer}"
        );
        let now = server.app.clock.now().as_millis() / 1000;
        assert_eq!(answer["exp"], now + timeout, "{answer}");
    }
}
