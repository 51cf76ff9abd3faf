//! An `AccessLayer` in front of a resource server: what its routes receive, and the errors for
//! requests that are rejected.

mod challenges;
mod scope;
mod settings;
mod shared_cache;

use std::error::Error as _;
use std::time::Duration;

use http::Request;
use test_support::access::{Guarded, LOG_IN, access_token, referencing};
use test_support::tokens::{made_up, payload};
use test_support::{Act, Answer, App, foreign, post, refresh_form};
use tower_oauth_refresh::{AccessError, AccessLayer, AccessLayerBuilder, ConfigError, MemoryStore};

const ONE: &str = "https://one.example/api";
const TWO: &str = "https://two.example/";
const METADATA: &str = "https://one.example/.well-known/oauth-protected-resource";

/// Returns an app that allows its access tokens the two resources, and no others.
fn allowing() -> App {
    App::with(|builder| {
        builder
            .reference_access_tokens(true)
            .allowed_resources([ONE, TWO])
    })
}

/// Returns an access token with this scope and these resources.
async fn issued(app: &App, scope: &'static str, resources: &[&str]) -> String {
    app.upstream.then(Act::With(scope));
    let mut form = LOG_IN.to_vec();
    form.extend(resources.iter().map(|resource| ("resource", *resource)));
    access_token(&app.send(post("/token", &form)).await.unwrap())
}

fn header(answer: &Answer, name: &str) -> Vec<String> {
    answer
        .headers
        .get_all(name)
        .iter()
        .map(|value| value.to_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn the_inner_service_gets_the_grant_and_the_upstream_token_or_none() {
    let app = allowing();
    let token = issued(&app, r#"{"scope":"read write"}"#, &[ONE, TWO]).await;
    let expected = |authorization: &[&str]| {
        serde_json::json!({
            "authorization": authorization,
            "client": "app",
            "scopes": ["read", "write"],
            "resources": [ONE, TWO],
            "expires_at": 1_800_003_600_000_u64,
        })
    };
    let (swapping, stripping) = (
        Guarded::new(&app),
        Guarded::with(&app, |builder| builder.strip(true)),
    );
    for time in ["loaded", "remembered"] {
        for scheme in ["Bearer", "bearer", "BEARER"] {
            let header = format!("{scheme} {token}");
            let swapped = swapping.send(&[&header]).await.0;
            assert_eq!(
                swapped.json(),
                expected(&["Bearer at-0-0"]),
                "{time}, {scheme}"
            );
            assert_eq!(
                stripping.send(&[&header]).await.0.json(),
                expected(&[]),
                "{time}, {scheme}"
            );
        }
    }
    assert!(
        swapping
            .resource
            .seen()
            .iter()
            .all(|headers| headers["authorization"].is_sensitive())
    );
}

#[tokio::test]
async fn a_resource_must_be_allowed_or_named_in_the_response() {
    const NAMED: &str = r#"{"resource":"https://one.example/api"}"#;
    const LISTED: &str = r#"{"resource":["urn:x",7,"https://one.example/api"]}"#;
    const ANOTHER: &str = r#"{"resource":"https://two.example/"}"#;
    let rows: [(&str, &str, &[&str], &str, bool); 14] = [
        (
            "not allowed, and not in the response",
            "",
            &[ONE],
            "{}",
            false,
        ),
        (
            "not allowed, and null in the response",
            "",
            &[ONE],
            r#"{"resource":null}"#,
            false,
        ),
        ("named in the response", "", &[ONE], NAMED, true),
        ("listed in the response", "", &[ONE, TWO], LISTED, true),
        ("named in the response, not requested", "", &[], NAMED, true),
        ("allowed and requested", ONE, &[TWO, ONE], "{}", true),
        ("allowed, but not requested", ONE, &[], "{}", false),
        (
            "allowed, but the response names another",
            ONE,
            &[ONE],
            ANOTHER,
            false,
        ),
        (
            "allowed, but the response lists none",
            ONE,
            &[ONE],
            r#"{"resource":[]}"#,
            false,
        ),
        (
            "allowed, but the response is malformed",
            ONE,
            &[ONE],
            r#"{"resource":{"x":1}}"#,
            false,
        ),
        (
            "another case of the host",
            ONE,
            &["https://ONE.example/api"],
            "{}",
            false,
        ),
        (
            "with the default port",
            ONE,
            &["https://one.example:443/api"],
            "{}",
            false,
        ),
        (
            "an escape",
            ONE,
            &["https://one.example/%61pi"],
            "{}",
            false,
        ),
        (
            "a trailing slash",
            ONE,
            &["https://one.example/api/"],
            "{}",
            false,
        ),
    ];
    for (name, allowed, asked, members, granted) in rows {
        let app = App::with(|builder| {
            let until = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(10_000_000_000);
            let allowed = Some(allowed).filter(|allowed| !allowed.is_empty());
            builder
                .reference_access_tokens(true)
                .adopt_until(until)
                .allowed_resources(allowed)
        });
        let guarded = Guarded::with(&app, |builder| builder.resource(ONE));
        let asked: Vec<_> = asked
            .iter()
            .map(|resource| ("resource", *resource))
            .collect();
        let foreign = foreign::log_in_before(&app, "app").await;
        for grant_type in ["authorization_code", "password", "client_credentials"] {
            app.upstream.then(Act::With(members));
            let form = [
                ("grant_type", grant_type),
                ("client_id", "app"),
                ("code", "c"),
            ];
            let answer = app.post("/token", &[&form[..], &asked].concat()).await;
            let expected = if granted { 200 } else { 401 };
            assert_eq!(
                guarded.status(&access_token(&answer)).await,
                expected,
                "{name}: {grant_type}"
            );
            let Some(token) = answer.get("refresh_token") else {
                continue;
            };
            app.upstream.then(Act::With(members));
            let answer = app
                .post(
                    "/token",
                    &[&refresh_form("app", &token)[..], &asked].concat(),
                )
                .await;
            if answer.status == 200 {
                assert_eq!(
                    guarded.status(&access_token(&answer)).await,
                    expected,
                    "{name}: a refresh"
                );
            }
        }
        app.upstream.then(Act::With(members));
        let adopted = app
            .post(
                "/token",
                &[&refresh_form("app", &foreign)[..], &asked].concat(),
            )
            .await;
        assert_eq!(
            guarded.status(&access_token(&adopted)).await,
            if granted { 200 } else { 401 },
            "{name}: adopted"
        );
    }
}

#[tokio::test]
async fn a_wrong_checksum_is_rejected_without_a_store_call() {
    let app = referencing();
    let token = issued(&app, r#"{"scope":"read"}"#, &[]).await;
    let guarded = Guarded::with(&app, |builder| builder.cache_ttl(Duration::ZERO));
    assert!(
        payload("at_", &token).is_some(),
        "the format is the documented one: {token}"
    );
    app.store.calls();
    for (name, text) in [
        ("no checksum", token[..67].to_owned()),
        ("another checksum", format!("{}AAAAAAAA", &token[..67])),
        (
            "a character changed",
            token.replacen("at_", "at_A", 1)[..75].to_owned(),
        ),
        (
            "the checksum of another prefix",
            made_up("rt_").replacen("rt_", "at_", 1),
        ),
    ] {
        assert_eq!(guarded.status(&text).await, 401, "{name}");
        assert_eq!(app.store.calls(), [], "{name}");
    }
    assert_eq!(guarded.status(&made_up("at_")).await, 401);
    assert_ne!(app.store.calls(), [], "a well-formed token is looked up");
}

#[tokio::test]
async fn a_separate_access_layer_needs_the_same_prefix() {
    let app = App::with(|builder| {
        builder
            .reference_access_tokens(true)
            .access_token_prefix("acme-at_")
    });
    let answer = app.post("/token", &LOG_IN).await;
    let token = answer.get("access_token").unwrap();
    assert!(token.starts_with("acme-at_"), "{token}");
    assert_eq!(Guarded::new(&app).status(&token).await, 200);
    let elsewhere = |prefix: &str| {
        let builder = AccessLayer::builder(app.store.clone()).clock(app.clock.clone());
        Guarded::of(builder.access_token_prefix(prefix).build().unwrap())
    };
    assert_eq!(elsewhere("acme-at_").status(&token).await, 200);
    assert_eq!(elsewhere("at_").status(&token).await, 401);
}

#[tokio::test]
async fn the_ready_service_is_called_and_no_permit_is_held_during_the_lookup() {
    use tower::{Layer as _, Service as _, ServiceExt, limit::ConcurrencyLimitLayer};
    let app = referencing();
    let token = access_token(&app.post("/token", &LOG_IN).await);
    let resource = test_support::access::Resource::default();
    let limited = ConcurrencyLimitLayer::new(1).layer(resource);
    let mut service = app.layer.access().build().unwrap().layer(limited);
    let request = || {
        Request::get("/")
            .header("authorization", format!("Bearer {token}"))
            .body(())
            .unwrap()
    };
    let gate = std::sync::Arc::new(tokio::sync::Notify::new());
    let opened = std::sync::Arc::clone(&gate);
    app.store.once(
        |call| *call == test_support::Call::Get,
        test_support::Plan::after(async move { opened.notified().await }),
    );
    let loading = ServiceExt::<Request<()>>::ready(&mut service)
        .await
        .unwrap()
        .call(request());
    let loading = tokio::spawn(loading);
    test_support::settle().await;
    let other = access_token(&app.post("/token", &LOG_IN).await);
    let through = Request::get("/")
        .header("authorization", format!("Bearer {other}"))
        .body(())
        .unwrap();
    assert_eq!(
        ServiceExt::<Request<()>>::ready(&mut service)
            .await
            .unwrap()
            .call(through)
            .await
            .unwrap()
            .status(),
        200,
        "the permit was released"
    );
    gate.notify_one();
    assert_eq!(loading.await.unwrap().unwrap().status(), 200);
    assert_eq!(
        ServiceExt::<Request<()>>::ready(&mut service)
            .await
            .unwrap()
            .call(request())
            .await
            .unwrap()
            .status(),
        200,
        "remembered"
    );
}
