//! Matching of the path and the method of a request.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use test_support::requests::{AnyBody, form, full, send};
use test_support::{App, Upstream, post};
use tower::{BoxError, Layer as _, ServiceExt as _, service_fn};
use tower_oauth_refresh::{MemoryStore, RefreshLayer};

const LOG_IN: &str = "grant_type=authorization_code&code=c&client_id=app";

fn normalized() -> App {
    App::with(|builder| {
        builder
            .match_normalized_paths(true)
            .introspection_path("/oauth/introspect")
    })
}

fn request(method: &str, target: &str, body: &'static str) -> Request<AnyBody> {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = form("/").body(full(body)).unwrap();
    *request.method_mut() = method;
    *request.uri_mut() = target.parse().unwrap();
    request
}

/// Returns the methods and URIs of the requests that reach the inner service, which returns a token
/// for every request.
async fn forwarded(
    layer: &RefreshLayer<MemoryStore>,
    requests: Vec<Request<AnyBody>>,
) -> Vec<(Method, Uri)> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let inner = service_fn(
        move |request: Request<tower_oauth_refresh::RequestBody<AnyBody>>| {
            record
                .lock()
                .unwrap()
                .push((request.method().clone(), request.uri().clone()));
            let answer = r#"{"access_token":"a","token_type":"Bearer","refresh_token":"upstream"}"#;
            std::future::ready(Ok::<_, BoxError>(Response::new(Full::from(answer))))
        },
    );
    for request in requests {
        let name = format!("{} {}", request.method(), request.uri());
        let answer = layer.layer(inner.clone()).oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{name}");
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(
            !String::from_utf8_lossy(&body).contains("upstream"),
            "{name}: {body:?}"
        );
    }
    Arc::try_unwrap(seen)
        .map(|seen| seen.into_inner().unwrap())
        .unwrap_or_else(|seen| seen.lock().unwrap().clone())
}

#[tokio::test(start_paused = true)]
async fn an_intercepted_request_is_forwarded_under_the_configured_path() {
    let layer = RefreshLayer::builder(MemoryStore::new())
        .token_path("/OAuth/token")
        .match_normalized_paths(true);
    let layer = layer.build().unwrap();
    let rows = [
        ("/OAuth/token", "/OAuth/token"),
        ("/oauth/TOKEN/", "/OAuth/token"),
        (
            "//oauth//%74oken?tenant=a%2f..&x",
            "/OAuth/token?tenant=a%2f..&x",
        ),
        ("/oauth;a/token;b", "/OAuth/token"),
        ("/oauth/token.json?", "/OAuth/token?"),
        ("/oauth/token/x/y", "/OAuth/token"),
        ("/oauth/token%20", "/OAuth/token"),
        ("/oauth/token%3fa=b", "/OAuth/token"),
        ("/oauth/to%e2%84%aaen", "/OAuth/token"),
        (
            "http://as.example:8080/oauth/Token?a",
            "http://as.example:8080/OAuth/token?a",
        ),
    ];
    let requests = rows
        .iter()
        .map(|(target, _)| request("POST", target, LOG_IN))
        .collect();
    let seen = forwarded(&layer, requests).await;
    for ((target, expected), (method, uri)) in rows.iter().zip(seen) {
        assert_eq!(
            (uri.to_string().as_str(), method),
            (*expected, Method::POST),
            "{target}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_method_is_matched_without_case_and_forwarded_as_post() {
    let rows = [
        ("post", "/token"),
        ("Post", "/token"),
        ("pOST", "/token"),
        ("POST", "/token"),
    ];
    for normalized in [false, true] {
        let builder = RefreshLayer::builder(MemoryStore::new());
        let layer = builder.match_normalized_paths(normalized).build().unwrap();
        let requests = rows
            .iter()
            .map(|(method, path)| request(method, path, LOG_IN))
            .collect();
        for (method, uri) in forwarded(&layer, requests).await {
            assert_eq!((method, uri.path()), (Method::POST, "/token"));
        }
    }
    for path in ["/revoke", "/oauth/introspect"] {
        let app = App::with(|builder| builder.introspection_path("/oauth/introspect"));
        let token = app.log_in("app").await;
        let mut request = post(path, &[("token", &token), ("client_id", "app")]);
        *request.method_mut() = Method::from_bytes(b"pOst").unwrap();
        app.send(request).await.unwrap();
        let seen = app.upstream.seen().pop().unwrap();
        assert_eq!(
            (
                seen.method.as_str(),
                seen.path.as_str(),
                seen.param("token")
            ),
            ("POST", path, Some("upstream-0-0"))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_with_an_ambiguous_path_is_rejected() {
    let targets = [
        "/a%5cb/../token",
        "/a\\b/../token",
        "/a%2fb/../token",
        "/oauth//../token",
        "/oauth/;/../token",
        "/x/..;a/y",
        "/x/%2E%2e/y",
        "/x%2fy",
        "/x%5Cy",
        "/100%25",
        "/x%zz",
        "/x%",
        "/x%00y",
        "/x%0d%0ay",
        "/x%7f",
        "/x%c0%af",
        "/x%u002f",
        "/x%ef%bc%8f",
        "/x\u{ff0e}",
        "//x/token",
        "/index.php/token",
        "/x/app.fcgi/oauth/introspect",
        "/token\u{b2}",
        "/\u{3231}login",
        "/(S(x))/token",
        "/(S(x))/y",
        "*",
        "as.example:443",
    ];
    let app = normalized();
    for target in targets {
        for method in ["POST", "post", "PoSt"] {
            let name = format!("{method} {target}");
            send(&app, request(method, target, LOG_IN))
                .await
                .assert_refused(&name, 400, "invalid_request", false);
        }
    }
    assert!(app.upstream.seen().is_empty() && app.store.calls().is_empty());
    for target in targets {
        send(&app, request("GET", target, "")).await;
        assert_eq!(
            app.upstream.seen().pop().unwrap().path,
            target.parse::<Uri>().unwrap().path()
        );
    }
    let plain = App::new();
    for target in targets {
        send(&plain, request("POST", target, LOG_IN)).await;
    }
    assert_eq!(
        plain.upstream.seen().len(),
        targets.len(),
        "without match_normalized_paths no other path is intercepted"
    );
}

/// Keycloak serves introspection below the token endpoint.
#[tokio::test(start_paused = true)]
async fn an_endpoint_below_another_gets_its_own_requests() {
    for normalized in [false, true] {
        let app = App::with(|builder| {
            let builder = builder
                .token_path("/token")
                .introspection_path("/token/introspect");
            builder.match_normalized_paths(normalized)
        });
        let token = app.log_in("app").await;
        let introspected = [
            "/token/introspect",
            "/TOKEN//introspect/",
            "/token/%69ntrospect/x",
        ];
        for path in if normalized {
            &introspected[..]
        } else {
            &introspected[..1]
        } {
            send(&app, post(path, &[("token", &token), ("client_id", "app")])).await;
            let seen = app.upstream.seen().pop().unwrap();
            assert_eq!(
                (seen.path.as_str(), seen.param("token")),
                ("/token/introspect", Some("upstream-0-0")),
                "{path}"
            );
        }
        let app = if normalized { app } else { continue };
        for path in ["/token/x", "/token/introspects", "/token.json/introspect"] {
            send(&app, request("POST", path, LOG_IN)).await;
            assert_eq!(app.upstream.seen().pop().unwrap().path, "/token", "{path}");
        }
        send(&app, request("POST", "/token/index.php/introspect", LOG_IN))
            .await
            .assert_refused("a script", 400, "invalid_request", false);
    }
}

#[tokio::test(start_paused = true)]
async fn other_paths_pass_through_unchanged() {
    let app = normalized();
    let targets = [
        "/",
        "/tokens",
        "/x/token",
        "//x//y/",
        "/m%C3%BCnchen/caf\u{e9}",
        "/%E6%97%A5%E6%9C%AC%E8%AA%9E",
        "/a%20b/c+d;e=f",
        "/x?a=%2f..%5c%00&b=/../token",
        "/.well-known/openid-configuration",
        "http://as.example/x",
    ];
    for target in targets {
        send(&app, request("POST", target, "client_id=a&client_id=b")).await;
        let seen = app.upstream.seen().pop().unwrap();
        assert_eq!(seen.path, target.parse::<Uri>().unwrap().path());
        assert_eq!(seen.raw, Bytes::from("client_id=a&client_id=b"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_exception_covers_only_its_prefix_and_no_intercepted_path() {
    let app = App::with(|builder| {
        let builder = builder
            .match_normalized_paths(true)
            .token_path("/oauth/token");
        builder
            .allow_ambiguous_paths("/api/v4/projects")
            .allow_ambiguous_paths("/oauth")
    });
    for target in [
        "/api/v4/projects/group%2Fname",
        "/api/v4/projects/a%5cb%25c",
        "/oauth/clients/a%2fb",
    ] {
        send(&app, request("POST", target, "")).await;
        assert_eq!(app.upstream.seen().pop().unwrap().path, target);
    }
    let count = app.upstream.seen().len();
    let refused = [
        "/api/v4/groups/a%2Fb",
        "/api/v4/projects/..%2f..%2f..%2foauth%2ftoken",
        "/api/v4/projects/a%2f%252e%252e",
        "/api/v4/projects/a%2f%00",
        "/oauth/%2ftoken",
        "/oauth/%2574oken",
        "/oauth/x%2f..%2ftoken",
    ];
    for target in refused {
        send(&app, request("POST", target, LOG_IN))
            .await
            .assert_refused(target, 400, "invalid_request", false);
    }
    assert_eq!(app.upstream.seen().len(), count);
}

/// The inner service has a revocation endpoint under one spelling, and returns 404 for every other
/// one.
#[tokio::test(start_paused = true)]
async fn another_spelling_does_not_bypass_client_authentication() {
    let upstream = Upstream::new();
    let inner = upstream.clone();
    let inner = service_fn(
        move |request: Request<tower_oauth_refresh::RequestBody<Full<Bytes>>>| {
            let inner = inner.clone();
            async move {
                if ["/token", "/revoke"].contains(&request.uri().path())
                    && *request.method() == Method::POST
                {
                    return inner.oneshot(request).await;
                }
                let mut response = Response::new(Full::default());
                *response.status_mut() = StatusCode::NOT_FOUND;
                Ok(response)
            }
        },
    );
    let layer = RefreshLayer::builder(MemoryStore::new())
        .match_normalized_paths(true)
        .build()
        .unwrap();
    let service = layer.layer(inner);
    let call = async |path: &str, form: &[(&str, &str)]| {
        let answer = service.clone().oneshot(post(path, form)).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (
            status,
            serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default(),
        )
    };
    let client = [
        ("client_id", "confidential"),
        ("client_secret", "secret of confidential"),
    ];
    let log_in = [
        &client[..],
        &[("grant_type", "authorization_code"), ("code", "c")],
    ]
    .concat();
    let (_, answer) = call("/token", &log_in).await;
    let token = answer["refresh_token"].as_str().unwrap();
    for path in [
        "/REVOKE",
        "/revoke/",
        "//revoke",
        "/%72evoke",
        "/revoke.json",
        "/revoke/x",
        "/revoke;a",
        "/revoke%20",
    ] {
        let (status, answer) = call(path, &[("client_id", "confidential"), ("token", token)]).await;
        assert_eq!(
            (status, &answer["error"]),
            (401, &"invalid_client".into()),
            "{path}"
        );
        assert_eq!(upstream.alive(), 1, "{path}");
    }
    let refresh = [
        &client[..],
        &[("grant_type", "refresh_token"), ("refresh_token", token)],
    ]
    .concat();
    let (status, answer) = call("/token/", &refresh).await;
    assert_eq!(status, 200, "the session is still valid: {answer}");
    let token = answer["refresh_token"].as_str().unwrap();
    assert_eq!(
        call("/REVOKE", &[&client[..], &[("token", token)]].concat())
            .await
            .0,
        200
    );
    assert_eq!(
        upstream.alive(),
        0,
        "with its secret the client ends it by any spelling"
    );
}
