//! An `AccessLayer` in front of a resource server: what its routes receive, and the errors for
//! requests that are rejected.

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

/// An inner service without scopes ignores the parameter and omits it from the response, which
/// grants nothing.
#[tokio::test]
async fn a_requested_scope_is_ignored_if_the_inner_service_knows_no_scopes() {
    let app = referencing();
    let asking = || {
        LOG_IN
            .iter()
            .copied()
            .chain([("scope", "orders")])
            .collect::<Vec<_>>()
    };
    app.upstream.then(Act::With(r#"{"scope":null}"#));
    let log_in = app.send(post("/token", &asking())).await.unwrap();
    app.upstream.then(Act::With(r#"{"scope":null}"#));
    let refresh = [
        ("scope", "orders"),
        ("client_id", "app"),
        ("grant_type", "refresh_token"),
    ];
    let refresh_token = log_in.token();
    let refreshed = app
        .post(
            "/token",
            &[&refresh[..], &[("refresh_token", &refresh_token)]].concat(),
        )
        .await;
    let guarded = Guarded::with(&app, |builder| builder.require_scope("orders"));
    for (name, answer) in [
        ("a code with a scope", log_in),
        ("a refresh with a scope", refreshed),
    ] {
        let refused = guarded
            .send(&[&format!("Bearer {}", access_token(&answer))])
            .await
            .0;
        assert_eq!(refused.status, 403, "{name}");
    }
}

#[tokio::test]
async fn the_requested_scope_applies_if_the_response_omits_scope() {
    let omitted = r#"{"scope":null}"#;
    let rows = [
        ("password", "orders", omitted, true),
        ("client_credentials", "x orders", omitted, true),
        (
            "urn:ietf:params:oauth:grant-type:token-exchange",
            "orders",
            omitted,
            true,
        ),
        ("password", "orders", r#"{"scope":""}"#, false),
        ("password", "orders", r#"{"scope":["x"]}"#, false),
        ("password", "orders", r#"{"scope":7}"#, false),
        ("password", "orders", r#"{"scope":"x"}"#, false),
        ("password", "orders  x", omitted, false),
        ("password", " orders", omitted, false),
        ("authorization_code", "orders", omitted, false),
        ("authorization_code ", "orders", omitted, false),
        (" authorization_code", "orders", omitted, false),
        ("Authorization_Code", "orders", omitted, false),
        ("authorization_code\t", "orders", omitted, false),
        ("PASSWORD", "orders", omitted, false),
        ("password ", "orders", omitted, false),
        (
            "urn:ietf:params:oauth:grant-type:device_code",
            "orders",
            omitted,
            false,
        ),
        (
            "URN:IETF:params:oauth:grant-type:token-exchange",
            "orders",
            omitted,
            false,
        ),
        ("of their own", "orders", omitted, false),
        ("REFRESH_TOKEN", "orders", omitted, false),
    ];
    for (grant_type, asked, members, granted) in rows {
        let app = referencing();
        app.upstream.then(Act::With(members));
        let form = [
            ("grant_type", grant_type),
            ("client_id", "app"),
            ("code", "c"),
            ("scope", asked),
        ];
        let first = app.post("/token", &form).await;
        let mut answers = vec![access_token(&first)];
        if let Some(token) = first.get("refresh_token") {
            app.upstream.then(Act::With(omitted));
            answers.push(access_token(&app.refresh(&token).await));
        }
        let guarded = Guarded::with(&app, |builder| builder.require_scope("orders"));
        for token in answers {
            assert_eq!(
                guarded.status(&token).await,
                if granted { 200 } else { 403 },
                "{grant_type:?} {members}"
            );
        }
    }
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
async fn every_error_has_its_own_challenge() {
    let app = allowing();
    let good = issued(&app, r#"{"scope":"read"}"#, &[ONE]).await;
    let other = issued(&app, r#"{"scope":"read write"}"#, &[TWO]).await;
    let anywhere = issued(&app, r#"{"scope":"read write"}"#, &[]).await;
    let unknown = issued(&app, r#"{"scope":null}"#, &[ONE]).await;
    let full = Guarded::with(&app, |builder| {
        let builder = builder
            .require_scope("read")
            .require_scope("write")
            .resource(ONE);
        builder.realm(r#"a "realm" \"#).resource_metadata(METADATA)
    });
    let plain = Guarded::new(&app);
    let bearer = |token: &str| format!("Bearer {token}");
    let made_up = bearer(&made_up("at_"));
    let realm = r#"Bearer realm="a \"realm\" \\""#;
    let metadata = format!(r#", resource_metadata="{METADATA}""#);
    let invalid = r#", error="invalid_token", error_description="the access token is invalid, expired or revoked""#;
    let malformed = r#", error="invalid_request", error_description="the Authorization header is repeated or malformed""#;
    let scope = r#", error="insufficient_scope", error_description="the access token does not have the required scope", scope="read write""#;
    type Row<'a> = (&'a str, Vec<String>, u16, &'a str, String, String);
    let all = |middle: &str| format!("{realm}{middle}{metadata}");
    let short = |middle: &str| format!(r#"Bearer realm="oauth"{middle}"#);
    let rows: [Row<'_>; 11] = [
        (
            "nothing",
            vec![],
            401,
            "unauthorized",
            all(r#", scope="read write""#),
            short(""),
        ),
        (
            "another scheme",
            vec!["Basic YTpi".into()],
            401,
            "unauthorized",
            all(r#", scope="read write""#),
            short(""),
        ),
        (
            "not in the token format",
            vec![bearer("abc")],
            401,
            "invalid_token",
            all(invalid),
            short(invalid),
        ),
        (
            "an upstream token",
            vec![bearer("at-0-0")],
            401,
            "invalid_token",
            all(invalid),
            short(invalid),
        ),
        (
            "never issued",
            vec![made_up],
            401,
            "invalid_token",
            all(invalid),
            short(invalid),
        ),
        (
            "no token",
            vec!["Bearer".into()],
            400,
            "invalid_request",
            all(malformed),
            short(malformed),
        ),
        (
            "twice",
            vec![bearer(&good), bearer(&good)],
            400,
            "invalid_request",
            all(malformed),
            short(malformed),
        ),
        (
            "for another resource",
            vec![bearer(&other)],
            401,
            "invalid_token",
            all(invalid),
            String::new(),
        ),
        (
            "for unknown resources",
            vec![bearer(&anywhere)],
            401,
            "invalid_token",
            all(invalid),
            String::new(),
        ),
        (
            "a scope is missing",
            vec![bearer(&good)],
            403,
            "insufficient_scope",
            all(scope),
            String::new(),
        ),
        (
            "no scope is known",
            vec![bearer(&unknown)],
            403,
            "insufficient_scope",
            all(scope),
            String::new(),
        ),
    ];
    for (name, values, status, error, of_full, of_plain) in rows {
        let values: Vec<_> = values.iter().map(String::as_str).collect();
        for time in 1..=2 {
            for (guarded, challenge) in [(&full, &of_full), (&plain, &of_plain)] {
                let (answer, cause) = guarded.send(&values).await;
                if challenge.is_empty() {
                    assert_eq!(answer.status, 200, "{name}: no scope is required");
                    continue;
                }
                assert_eq!(
                    answer.error(),
                    (status, error.into()),
                    "{name}, time {time}"
                );
                assert_eq!(
                    header(&answer, "www-authenticate"),
                    [challenge.as_str()],
                    "{name}, time {time}"
                );
                assert_eq!(
                    header(&answer, "content-type"),
                    ["application/json"],
                    "{name}"
                );
                assert_eq!(header(&answer, "cache-control"), ["no-store"], "{name}");
                assert_eq!(
                    header(&answer, "content-length"),
                    [answer.body.len().to_string()],
                    "{name}"
                );
                let cause = cause.unwrap();
                assert_eq!(
                    (cause.status().as_u16(), cause.code()),
                    (status, error),
                    "{name}"
                );
                assert_eq!(
                    answer.get("error_description"),
                    Some(cause.to_string()),
                    "{name}"
                );
                assert!(
                    cause.source().is_none() && !matches!(cause, AccessError::Store(_)),
                    "{name}"
                );
            }
        }
    }
    assert!(full.resource.seen().is_empty(), "no request got through");
}

#[tokio::test]
async fn layers_with_additional_scopes_share_a_cache() {
    let app = referencing();
    let token = issued(&app, r#"{"scope":"read write"}"#, &[]).await;
    let read = Guarded::with(&app, |builder| builder.require_scope("read"));
    let write = Guarded::of(read.layer.and_scope("write").unwrap());
    let admin = Guarded::of(write.layer.and_scope("admin").unwrap());
    assert_eq!(read.status(&token).await, 200);
    app.store.calls();
    assert_eq!(
        (write.status(&token).await, admin.status(&token).await),
        (200, 403)
    );
    assert_eq!(app.store.calls(), []);
    let challenge = header(&admin.get(&token).await, "www-authenticate").remove(0);
    assert!(
        challenge.contains(r#"scope="read write admin""#),
        "{challenge}"
    );
    assert_eq!(
        read.layer.and_scope("a b").unwrap_err(),
        ConfigError::Scope("a b".into())
    );
}

#[tokio::test]
async fn layers_of_several_resources_share_a_cache() {
    let app = App::with(|builder| {
        builder
            .reference_access_tokens(true)
            .allowed_resources(["https://one"])
    });
    let token = issued(&app, r#"{"scope":"read"}"#, &["https://one"]).await;
    let one = Guarded::with(&app, |builder| {
        builder.resource("https://one").require_scope("read")
    });
    let two = Guarded::of(one.layer.with_resource("https://two").unwrap());
    let told = Guarded::of(
        two.layer
            .with_resource_metadata("https://two/meta")
            .unwrap(),
    );
    assert_eq!(one.status(&token).await, 200);
    app.store.calls();
    assert_eq!(
        (two.status(&token).await, told.status(&token).await),
        (401, 401)
    );
    assert_eq!(app.store.calls(), []);
    let challenges = [&one, &two, &told].map(async |guarded: &Guarded| guarded.send(&[]).await.0);
    let [one_says, two_says, told_says] = challenges;
    assert_eq!(
        header(&one_says.await, "www-authenticate"),
        header(&two_says.await, "www-authenticate")
    );
    let challenge = header(&told_says.await, "www-authenticate").remove(0);
    assert_eq!(
        challenge,
        r#"Bearer realm="oauth", scope="read", resource_metadata="https://two/meta""#
    );
    let uri = |setting: &'static str| ConfigError::Uri {
        setting,
        uri: "two".into(),
    };
    assert_eq!(one.layer.with_resource("two").unwrap_err(), uri("resource"));
    assert_eq!(
        one.layer.with_resource_metadata("two").unwrap_err(),
        uri("resource_metadata")
    );
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

#[test]
fn invalid_settings_are_rejected() {
    type Builder = AccessLayerBuilder<MemoryStore>;
    let scope = |scope: &str| ConfigError::Scope(scope.into());
    let realm = |realm: &str| ConfigError::Realm(realm.into());
    let uri = |setting: &'static str, uri: &str| ConfigError::Uri {
        setting,
        uri: uri.into(),
    };
    let prefix = |prefix: &str| ConfigError::Prefix {
        setting: "access_token_prefix",
        prefix: prefix.into(),
    };
    let rows: [(&str, fn(Builder) -> Builder, ConfigError); 10] = [
        ("no scope", |b| b.require_scope(""), scope("")),
        (
            "two scopes in one",
            |b| b.require_scope("a b"),
            scope("a b"),
        ),
        (
            "a scope with a quote",
            |b| b.require_scope("a\""),
            scope("a\""),
        ),
        ("no realm", |b| b.realm(""), realm("")),
        (
            "a realm with a line end",
            |b| b.realm("a\r\nb"),
            realm("a\r\nb"),
        ),
        (
            "a realm that is not ASCII",
            |b| b.realm("r\u{e4}"),
            realm("r\u{e4}"),
        ),
        (
            "a resource without a scheme",
            |b| b.resource("/api"),
            uri("resource", "/api"),
        ),
        (
            "metadata with a fragment",
            |b| b.resource_metadata("https://a/#b"),
            uri("resource_metadata", "https://a/#b"),
        ),
        (
            "a prefix with a space",
            |b| b.access_token_prefix("a t"),
            prefix("a t"),
        ),
        (
            "a cache for weeks",
            |b| b.cache_ttl(Duration::from_secs(24 * 3600 + 1)),
            ConfigError::CacheTtl,
        ),
    ];
    for (name, set, error) in rows {
        assert_eq!(
            set(AccessLayer::builder(MemoryStore::new()))
                .build()
                .unwrap_err(),
            error,
            "{name}"
        );
    }
    assert!(
        AccessLayer::builder(MemoryStore::new())
            .cache_ttl(Duration::ZERO)
            .cache_size(0)
            .build()
            .is_ok()
    );
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
