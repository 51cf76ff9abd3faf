//! A resource server that introspects (RFC 7662) gets what the layer knows about a valid token, and
//! nothing about any other token.

mod inactive;

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use test_support::requests::form;
use test_support::tokens::{made_up, retyped};
use test_support::{Act, Answer, App, Call, Plan, post};
use tower_oauth_refresh::EventKind;

const INACTIVE: &[u8] = br#"{"active":false}"#;
const HOUR: Duration = Duration::from_secs(3600);

fn introspecting() -> App {
    App::with(|builder| {
        builder
            .reference_access_tokens(true)
            .introspection_path("/introspect")
    })
}

/// Logs in, and returns the response.
async fn log_in(app: &App) -> Answer {
    app.post(
        "/token",
        &[
            ("grant_type", "authorization_code"),
            ("code", "c"),
            ("client_id", "app"),
        ],
    )
    .await
}

fn access(answer: &Answer) -> String {
    answer.get("access_token").unwrap()
}

/// Introspects as a resource server, with its secret.
async fn introspect(app: &App, token: &str) -> Answer {
    let form = [
        ("token", token),
        ("client_id", "confidential-rs"),
        ("client_secret", "secret of confidential-rs"),
    ];
    app.post("/introspect", &form).await
}

/// Returns the token of the last introspection request that reached the inner service.
fn asked(app: &App) -> String {
    app.upstream
        .seen()
        .pop()
        .unwrap()
        .param("token")
        .unwrap()
        .to_owned()
}

#[track_caller]
fn assert_inactive(name: &str, answer: &Answer) {
    assert_eq!(
        (answer.status.as_u16(), &answer.body[..]),
        (200, INACTIVE),
        "{name}: {answer:?}"
    );
    assert_eq!(answer.headers["content-type"], "application/json", "{name}");
    assert_eq!(answer.headers["cache-control"], "no-store", "{name}");
    assert_eq!(
        answer.headers["content-length"],
        INACTIVE.len().to_string(),
        "{name}"
    );
}

#[tokio::test]
async fn an_active_token_has_the_layers_members_and_those_of_the_inner_service() {
    let app = introspecting();
    let first = log_in(&app).await;
    let common = json!({"active": true, "sub": "user-7", "act": {"n": 1.0}, "client_id": "app", "scope": "read write"});
    let with = |more: Value| {
        let mut all = common.clone();
        all.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        all
    };
    let answer = introspect(&app, &access(&first)).await;
    let expected =
        with(json!({"exp": 1_800_003_600, "iat": 1_800_000_000, "token_type": "Bearer"}));
    assert_eq!(
        (answer.json(), asked(&app)),
        (expected, "at-0-0".into()),
        "an access token"
    );
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.headers["x-upstream"], "yes");
    assert!(
        answer.body.windows(3).any(|text| text == b"1.0"),
        "numbers stay as they are: {answer:?}"
    );

    let answer = introspect(&app, &first.token()).await;
    let expected = with(
        json!({"exp": 1_802_592_000, "iat": 1_800_000_000, "refresh_token_timeout": 2_592_000}),
    );
    assert_eq!(
        (answer.json(), asked(&app)),
        (expected, "upstream-0-0".into()),
        "a first refresh token"
    );

    app.clock.advance(Duration::from_secs(10));
    let second = app.refresh(&first.token()).await;
    let answer = introspect(&app, &second.token()).await;
    let expected = with(json!({"exp": 1_802_592_010, "refresh_token_timeout": 2_592_000}));
    assert_eq!(
        (answer.json(), asked(&app)),
        (expected, "upstream-0-1".into()),
        "a later one"
    );

    app.clock.advance(Duration::from_secs(3600));
    let answer = introspect(&app, &first.token()).await;
    let expected = with(
        json!({"exp": 1_802_592_010, "iat": 1_800_000_000, "refresh_token_timeout": 2_588_400}),
    );
    assert_eq!(
        (answer.json(), asked(&app)),
        (expected, "upstream-0-1".into()),
        "one that can be recovered"
    );
    assert_eq!(
        app.refresh(&second.token()).await.status,
        200,
        "the grant is unchanged"
    );
}

#[tokio::test]
async fn an_old_token_is_active_while_it_leads_to_the_current_one() {
    let app = introspecting();
    let first = log_in(&app).await.token();
    let mut newest = first.clone();
    for _ in 0..3 {
        newest = app.refresh(&newest).await.token();
    }
    assert_eq!(introspect(&app, &first).await.json()["active"], true);
    assert_eq!(asked(&app), "upstream-0-3");
    app.clock.advance(Duration::from_secs(60));
    assert_inactive("after its window", &introspect(&app, &first).await);
    app.refresh(&newest).await.token();
}

#[tokio::test]
async fn unknown_members_are_omitted() {
    let app = introspecting();
    app.upstream.then(Act::With(r#"{"scope":null}"#));
    let answer = introspect(&app, &access(&log_in(&app).await)).await.json();
    assert_eq!(answer.get("scope"), None, "{answer}");
    assert_eq!(
        (&answer["active"], &answer["client_id"]),
        (&json!(true), &json!("app"))
    );
}

#[tokio::test]
async fn members_that_disclose_the_upstream_token_are_dropped() {
    let app = introspecting();
    let first = log_in(&app).await;
    for token in [access(&first), first.token()] {
        let answer = introspect(&app, &token).await;
        let inside = asked(&app);
        let text = format!(
            "{:?} {}",
            answer.headers,
            String::from_utf8_lossy(&answer.body)
        );
        assert!(!text.contains(&inside), "{text}");
        let json = answer.json();
        assert_eq!(
            (json.get("jti"), json.get("aud"), &json["sub"]),
            (None, None, &json!("user-7"))
        );
    }
}

#[tokio::test]
async fn the_rest_of_the_request_is_kept() {
    let app = introspecting();
    let token = access(&log_in(&app).await);
    let body = format!("x=%7e&token={token}&token_type_hint=access_token&");
    let request = form("/introspect")
        .header("authorization", "Bearer of-the-resource-server")
        .header("accept", "x/y");
    app.send(request.body(Full::<Bytes>::from(body)).unwrap())
        .await
        .unwrap();
    let seen = app.upstream.seen().pop().unwrap();
    assert_eq!(seen.raw, "x=%7e&token=at-0-0&token_type_hint=access_token&");
    assert_eq!(
        seen.headers["authorization"],
        "Bearer of-the-resource-server"
    );
    assert_eq!(seen.headers["accept"], "application/json");
}

#[tokio::test]
async fn foreign_tokens_are_forwarded_byte_for_byte() {
    let app = introspecting();
    app.store.calls();
    for (status, text) in [
        (200, r#"{"active":true,"exp":1}"#),
        (401, ""),
        (500, "oops"),
    ] {
        app.upstream.then(Act::Answer(status, "text/x-odd", text));
        let body = "token=abc%2e&x=%7E+&client_id=app";
        let request = form("/introspect").header("accept", "application/token-introspection+jwt");
        let answer = app
            .send(request.body(Full::<Bytes>::from(body)).unwrap())
            .await
            .unwrap();
        assert_eq!(
            (answer.status.as_u16(), &answer.body[..]),
            (status, text.as_bytes())
        );
        assert_eq!(answer.headers["content-type"], "text/x-odd");
        let seen = app.upstream.seen().pop().unwrap();
        assert_eq!(
            (&seen.raw[..], &seen.headers["accept"]),
            (
                body.as_bytes(),
                &"application/token-introspection+jwt".parse().unwrap()
            )
        );
    }
    assert!(app.store.calls().is_empty());
    let answer = app.post("/introspect", &[("client_id", "app")]).await;
    assert_eq!(answer.error(), (400, "invalid_request".into()), "no token");
}

#[tokio::test]
async fn without_the_setting_the_path_is_not_intercepted() {
    let app = App::with(|builder| builder.reference_access_tokens(true));
    let token = access(&log_in(&app).await);
    introspect(&app, &token).await;
    assert_eq!(asked(&app), token);

    let refresh_only = App::with(|builder| builder.introspection_path("/introspect"));
    let refresh = refresh_only.log_in("app").await;
    assert_eq!(
        introspect(&refresh_only, &refresh).await.json()["client_id"],
        "app",
        "refresh tokens are still answered by the layer"
    );
    introspect(&refresh_only, &token).await;
    assert_eq!(asked(&refresh_only), token, "access tokens are not");
    let get = Request::get("/introspect?tenant=x")
        .body(Full::<Bytes>::default())
        .unwrap();
    refresh_only.send(get).await.unwrap();
    assert_eq!(
        refresh_only.upstream.seen().pop().unwrap().method,
        "GET",
        "nor are other methods"
    );
}

#[tokio::test]
async fn a_store_failure_is_an_error() {
    for (plan, status, error) in [
        (
            (|| Plan::Lose) as fn() -> Plan,
            503,
            "temporarily_unavailable",
        ),
        (|| Plan::Corrupt, 500, "server_error"),
    ] {
        let app = introspecting();
        let first = log_in(&app).await;
        app.store.hook(move |_, call| {
            if *call == Call::Get {
                plan()
            } else {
                Plan::Pass
            }
        });
        for token in [access(&first), first.token()] {
            assert_eq!(
                introspect(&app, &token).await.error(),
                (status, error.into())
            );
        }
    }
}
