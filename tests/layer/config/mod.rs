//! Invalid settings are rejected when the layer is built, and valid ones take effect.

mod invalid;

use std::error::Error as _;
use std::time::Duration;

use test_support::requests::{form, full, send};
use test_support::{Act, App, post, refresh_form};
use tower_oauth_refresh::{ConfigError, MemoryStore, RefreshLayer, RefreshLayerBuilder};

type Builder = RefreshLayerBuilder<MemoryStore>;
const HOUR: Duration = Duration::from_secs(3600);
const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
const MICROSECOND: Duration = Duration::from_micros(1);
const MILLISECOND: Duration = Duration::from_millis(1);

fn build(set: fn(Builder) -> Builder) -> Result<RefreshLayer<MemoryStore>, ConfigError> {
    set(RefreshLayer::builder(MemoryStore::new())).build()
}

#[test]
fn valid_settings_are_accepted() {
    let rows: [(&str, fn(Builder) -> Builder); 20] = [
        ("the defaults", |b| b),
        ("the root", |b| b.token_path("/")),
        ("paths that differ in case", |b| {
            b.token_path("/a").revocation_path("/A")
        }),
        ("a path below another, byte for byte", |b| {
            b.token_path("/a").revocation_path("/a/b")
        }),
        ("a path below another, in every spelling", |b| {
            b.token_path("/a/b")
                .introspection_path("/a/b/c")
                .revocation_path("/a")
                .match_normalized_paths(true)
        }),
        ("a colon in a path", |b| {
            b.token_path("/v1/token:issue")
                .match_normalized_paths(true)
                .allow_ambiguous_paths("/")
        }),
        ("an escape in a path", |b| b.token_path("/%74oken")),
        ("no prefix", |b| b.token_prefix("")),
        ("every character that needs no escape", |b| {
            b.token_prefix("aZ09-._~")
        }),
        ("the longest prefix", |b| b.token_prefix("r".repeat(32))),
        ("a century", |b| {
            b.idle_lifetime(CENTURY)
                .absolute_lifetime(CENTURY)
                .reference_access_tokens(true)
                .access_token_lifetime(CENTURY)
        }),
        ("a millisecond", |b| {
            b.idle_lifetime(MILLISECOND)
                .absolute_lifetime(MILLISECOND)
                .rotation_timeout(MILLISECOND)
        }),
        ("the longest time-out", |b| b.rotation_timeout(HOUR)),
        ("the longest time for a log-in", |b| b.issue_timeout(HOUR)),
        ("the longest time for a body", |b| {
            b.request_body_timeout(HOUR)
        }),
        ("a retry window longer than the default recovery", |b| {
            b.retry_window(48 * HOUR)
        }),
        ("a retry window of a century", |b| {
            b.retry_window(CENTURY / 2)
        }),
        ("neither retry nor recovery", |b| {
            b.retry_window(Duration::ZERO)
                .recovery_window(Duration::ZERO)
        }),
        ("strict, with zero windows", |b| {
            b.strict(true)
                .retry_window(Duration::ZERO)
                .recovery_window(Duration::ZERO)
        }),
        ("the widest limits", |b| {
            b.max_request_body(16 << 20).max_response_body(16 << 20)
        }),
    ];
    for (name, set) in rows {
        if let Err(error) = build(set) {
            panic!("{name}: {error}");
        }
    }
}

#[test]
fn debug_shows_the_settings() {
    let builder = RefreshLayer::builder(MemoryStore::new())
        .token_path("/oauth/token")
        .token_prefix("acme_");
    assert!(
        format!("{builder:?}").contains("/oauth/token"),
        "{builder:?}"
    );
    let layer = builder.build().unwrap();
    for said in [
        "RefreshLayer",
        "/oauth/token",
        "/revoke",
        "acme_",
        "idle_lifetime",
    ] {
        assert!(format!("{layer:?}").contains(said), "{layer:?}");
    }
    assert_eq!(format!("{layer:?}"), format!("{:?}", layer.clone()));
    let defaults = [
        RefreshLayer::new(MemoryStore::new()),
        build(|builder| builder).unwrap(),
    ];
    assert_eq!(
        format!("{:?}", defaults[0]),
        format!("{:?}", defaults[1]),
        "new() has the defaults of the builder"
    );
}

#[tokio::test(start_paused = true)]
async fn the_configured_paths_and_prefix_apply() {
    let app = App::with(|builder| {
        builder
            .token_path("/oauth/token")
            .revocation_path("/oauth/revoke")
            .token_prefix("acme_")
    });
    let log_in = [("grant_type", "password"), ("client_id", "app")];
    let then = |body| {
        app.upstream
            .then(Act::Answer(200, "application/json", body))
    };
    then(r#"{"access_token":"a","refresh_token":"up"}"#);
    let answer = app.post("/oauth/token", &log_in).await;
    let token = answer.token();
    assert!(token.starts_with("acme_"), "{token}");
    assert_eq!(
        app.post("/token", &log_in).await.token(),
        "upstream-0-0",
        "the default path is not intercepted any more"
    );
    then(r#"{"access_token":"b"}"#);
    let next = app
        .post("/oauth/token", &refresh_form("app", &token))
        .await
        .token();
    assert!(next.starts_with("acme_") && next != token, "{next}");
    then("");
    assert_eq!(
        send(
            &app,
            post("/oauth/revoke", &[("token", &next), ("client_id", "app")])
        )
        .await
        .head
        .status,
        200
    );
    assert_eq!(
        app.upstream.seen().pop().unwrap().param("token"),
        Some("up")
    );
}

#[tokio::test(start_paused = true)]
async fn normalized_paths_match_only_if_enabled() {
    for path in [
        "/token/",
        "//token",
        "/%74oken",
        "/x/../token",
        "/TOKEN",
        "/token;a=b",
        "/token/x",
        "/token%2f",
    ] {
        let malformed = || form(path).body(full("client_id=a&client_id=b")).unwrap();
        let app = App::new();
        send(&app, malformed()).await;
        assert_eq!(app.upstream.seen().len(), 1, "{path}");
        let app = App::with(|builder| builder.match_normalized_paths(true));
        send(&app, malformed())
            .await
            .assert_refused(path, 400, "invalid_request", false);
        assert_eq!(app.upstream.seen().len(), 0, "{path}");
    }
}
