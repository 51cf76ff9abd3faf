//! With reference access tokens enabled, no response contains the upstream access token, and the
//! token that clients get instead is valid for as long as the response states.

mod lifetime;
mod withheld;

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use test_support::access::{Guarded, LOG_IN, access_token, pair, referencing};
use test_support::tokens::retyped;
use test_support::{Act, Answer, App, Call, Plan, foreign, post, refresh_form, settle};
use tower_oauth_refresh::EventKind;
use tower_oauth_refresh::store::{Change, Ttl};

const HOUR: Duration = Duration::from_secs(3600);

/// Panics if the response contains an upstream access token. Those begin with `at-`, which is
/// nowhere else, except by chance in a token of the layer.
#[track_caller]
fn assert_withheld(name: &str, answer: &Answer) {
    let mut text = format!(
        "{:?} {}",
        answer.headers,
        String::from_utf8_lossy(&answer.body)
    );
    for own in ["access_token", "refresh_token"].map(|member| answer.get(member)) {
        let own = own.filter(|token| token.starts_with("at_") || token.starts_with("rt_"));
        text = text.replace(&own.unwrap_or_else(|| "no token".into()), "");
    }
    assert!(!text.contains("at-"), "{name}: {text}");
}

/// Sends a request whose response must contain an access token of the layer and none of the
/// upstream.
async fn granted(name: &str, app: &App, request: Request<Full<Bytes>>) -> Answer {
    let answer = app.send(request).await.unwrap();
    access_token(&answer);
    assert_withheld(name, &answer);
    answer
}

fn refresh(token: &str) -> Request<Full<Bytes>> {
    post("/token", &refresh_form("app", token))
}

#[tokio::test]
async fn every_response_has_an_access_token_of_the_layer_that_maps_to_the_upstream_token() {
    let app = referencing();
    let guarded = Guarded::new(&app);
    let swapped =
        async |answer: &Answer| Guarded::swapped(&guarded.get(&access_token(answer)).await);

    let first = granted("a log-in", &app, post("/token", &LOG_IN)).await;
    assert_eq!(swapped(&first).await, "at-0-0");
    assert_eq!(first.json()["token_type"], "Bearer");
    assert_eq!(first.json()["expires_in"], 3600);

    let second = granted("a refresh", &app, refresh(&first.token())).await;
    assert_eq!(swapped(&second).await, "at-0-1");
    assert_eq!(
        swapped(&first).await,
        "at-0-0",
        "the earlier token stays valid"
    );

    let again = granted("a replay", &app, refresh(&first.token())).await;
    assert_eq!(again.body, second.body);

    app.clock.advance(Duration::from_secs(61));
    let recovered = granted("a recovery", &app, refresh(&first.token())).await;
    assert_eq!(swapped(&recovered).await, "at-0-2");
    assert_eq!(app.upstream.reuses(), 0);

    let own = granted(
        "client credentials",
        &app,
        post(
            "/token",
            &[("grant_type", "client_credentials"), ("client_id", "m")],
        ),
    );
    let own = own.await;
    assert_eq!(swapped(&own).await, "at-cc");
    assert_eq!(own.get("refresh_token"), None);

    app.upstream.then(Act::KeepToken);
    let kept = granted(
        "a response without a refresh token",
        &app,
        refresh(&recovered.token()),
    )
    .await;
    assert_eq!(swapped(&kept).await, "at-0-2-kept");
    kept.token();
}

#[tokio::test]
async fn an_adoption_returns_an_access_token_of_the_layer_too() {
    let app = referencing();
    let until = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(10_000_000_000);
    let adopting = App::over(
        app.clock.clone(),
        app.store.clone(),
        app.upstream.clone(),
        |builder| builder.reference_access_tokens(true).adopt_until(until),
    );
    let guarded = Guarded::new(&adopting);
    let before = foreign::log_in_before(&adopting, "app").await;
    let adopted = granted("an adoption", &adopting, refresh(&before)).await;
    assert_eq!(
        Guarded::swapped(&guarded.get(&access_token(&adopted)).await),
        "at-0-1"
    );
    assert_eq!(
        granted("its replay", &adopting, refresh(&before))
            .await
            .body,
        adopted.body
    );
    let next = granted("a refresh", &adopting, refresh(&adopted.token())).await;
    adopting.revoke(&next.token()).await;
    settle().await;
    assert_eq!(
        guarded.status(&access_token(&adopted)).await,
        401,
        "it ends with its grant"
    );
}

#[tokio::test]
async fn a_request_without_a_client_is_rejected_before_forwarding() {
    let app = referencing();
    for grant in ["authorization_code", "client_credentials", "refresh_token"] {
        let answer = app
            .post(
                "/token",
                &[("grant_type", grant), ("code", "c"), ("refresh_token", "x")],
            )
            .await;
        assert_eq!(answer.error(), (401, "invalid_client".into()), "{grant}");
    }
    assert!(app.upstream.seen().is_empty());
}

#[tokio::test]
async fn an_access_token_keeps_its_scope_and_resources() {
    let (one, two) = ("https://one.example", "https://two.example");
    let app = App::with(|builder| {
        builder
            .reference_access_tokens(true)
            .allowed_resources([one, two])
    });
    let guarded = Guarded::new(&app);
    let scope_and_resources = async |answer: &Answer| {
        let claims = guarded.get(&access_token(answer)).await.json();
        (claims["scopes"].clone(), claims["resources"].clone())
    };
    let bare = [
        ("grant_type", "password"),
        ("client_id", "app"),
        ("scope", "a b"),
        ("resource", one),
        ("resource", two),
    ];
    let first = granted("stated by the server", &app, post("/token", &bare)).await;
    assert_eq!(
        scope_and_resources(&first).await,
        (
            serde_json::json!(["read", "write"]),
            serde_json::json!([one, two])
        )
    );

    app.upstream.then(Act::With(r#"{"scope":null}"#));
    let token = first.token();
    let less = [
        &refresh_form("app", &token)[..],
        &[("scope", "read"), ("resource", two)],
    ]
    .concat();
    let second = granted("requested by the client", &app, post("/token", &less)).await;
    assert_eq!(
        scope_and_resources(&second).await,
        (serde_json::json!(["read"]), serde_json::json!([two]))
    );

    app.upstream.then(Act::With(r#"{"scope":null}"#));
    let third = granted("granted before", &app, refresh(&second.token())).await;
    assert_eq!(
        scope_and_resources(&third).await,
        (
            serde_json::json!(["read", "write"]),
            serde_json::json!([one, two])
        )
    );

    app.upstream.then(Act::With(r#"{"scope":null}"#));
    let nothing = granted("nothing is known", &app, post("/token", &LOG_IN)).await;
    assert_eq!(
        scope_and_resources(&nothing).await,
        (serde_json::json!([]), serde_json::json!([]))
    );
    let answer = guarded.get(&access_token(&nothing)).await.json();
    assert_eq!(answer["client"], "app");
    assert!(answer["expires_at"].as_u64().unwrap() > 1_800_000_000_000);
}

#[tokio::test]
async fn access_and_refresh_tokens_are_not_interchangeable() {
    let app = referencing();
    let guarded = Guarded::new(&app);
    let (refresh_token, access) = pair(&app.post("/token", &LOG_IN).await);
    let (_, later) = pair(&app.refresh(&refresh_token).await);
    app.clock.advance(Duration::from_secs(120));
    app.events();
    for token in [&access, &later] {
        let disguised = retyped(token);
        assert_eq!(
            app.refresh(&disguised).await.error(),
            (400, "invalid_grant".into())
        );
        assert_eq!(
            app.events(),
            [EventKind::Unknown],
            "it belongs to no grant that could be ended"
        );
    }
    assert_eq!(guarded.status(&refresh_token).await, 401);
    assert_eq!(guarded.status(&retyped(&refresh_token)).await, 401);
    assert_eq!(guarded.status(&access).await, 200);
}

#[tokio::test]
async fn access_tokens_are_not_replaced_by_default() {
    let app = App::new();
    app.upstream
        .then(Act::With(r#"{"id_token":"a.b.c","note":"at-0-0"}"#));
    let answer = app.post("/token", &LOG_IN).await;
    let json = answer.json();
    assert_eq!(
        (&json["access_token"], &json["id_token"], &json["note"]),
        (&"at-0-0".into(), &"a.b.c".into(), &"at-0-0".into())
    );
    app.store.hook(|_, call| {
        if matches!(call, Call::Announce) {
            panic!("issued to no client")
        } else {
            Plan::Pass
        }
    });
    app.revoke(&answer.token()).await;
}

#[tokio::test]
async fn an_id_token_is_kept_if_configured() {
    let app = App::with(|builder| builder.reference_access_tokens(true).keep_id_token(true));
    app.upstream.then(Act::With(r#"{"id_token":"a.b.c"}"#));
    let answer = granted("kept", &app, post("/token", &LOG_IN)).await;
    assert_eq!(answer.json()["id_token"], "a.b.c");
    app.upstream.then(Act::With(r#"{"id_token":"a.at-0-1.c"}"#));
    let answer = granted("it holds the access token", &app, refresh(&answer.token())).await;
    assert_eq!(answer.get("id_token"), None);
}
