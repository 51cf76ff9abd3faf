//! Token requests with another method than POST reach no inner service that would accept them.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use test_support::requests::{AnyBody, FORM, full, pieces};
use tower::{BoxError, Layer as _, ServiceExt as _, service_fn};
use tower_oauth_refresh::{MemoryStore, RefreshError, RefreshLayer, RequestBody};

const TOKENS: &str =
    r#"{"access_token":"upstream-a","token_type":"Bearer","refresh_token":"upstream-r"}"#;

const LOG_IN: &str = "grant_type=authorization_code&code=c&client_id=app";

/// The response of the layer, and how often the inner service was called.
struct Outcome {
    response: http::response::Parts,
    body: Bytes,
    calls: usize,
    /// The content that the inner service received last.
    content: Bytes,
}

fn request(
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &'static str,
) -> Request<AnyBody> {
    let builder = Request::builder()
        .method(Method::from_bytes(method.as_bytes()).unwrap())
        .uri(target);
    headers
        .iter()
        .fold(builder, |builder, (name, value)| {
            builder.header(*name, *value)
        })
        .body(full(body))
        .unwrap()
}

/// Sends the request to an inner service that answers every request with tokens.
async fn send(normalized: bool, request: Request<AnyBody>) -> Outcome {
    let layer = RefreshLayer::builder(MemoryStore::new())
        .introspection_path("/introspect")
        .reference_access_tokens(true)
        .match_normalized_paths(normalized)
        .build()
        .unwrap();
    let calls = Arc::new(Mutex::new((0, Bytes::new())));
    let seen = Arc::clone(&calls);
    let inner = service_fn(move |request: Request<RequestBody<AnyBody>>| {
        let seen = Arc::clone(&seen);
        async move {
            let content = request.into_body().collect().await?.to_bytes();
            let mut seen = seen.lock().unwrap();
            *seen = (seen.0 + 1, content);
            Ok::<_, BoxError>(Response::new(Full::from(TOKENS)))
        }
    });
    let (response, body) = layer
        .layer(inner)
        .oneshot(request)
        .await
        .unwrap()
        .into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let (calls, content) = calls.lock().unwrap().clone();
    Outcome {
        response,
        body,
        calls,
        content,
    }
}

impl Outcome {
    fn assert_refused(&self, name: &str, status: u16) {
        assert_eq!(self.response.status.as_u16(), status, "{name}");
        assert_eq!(self.calls, 0, "{name}");
        assert!(
            self.body.starts_with(br#"{"error":"invalid_request""#),
            "{name}"
        );
    }
}

const METHODS: [&str; 12] = [
    "PUT", "PATCH", "DELETE", "QUERY", "TRACE", "TRACK", "PROPFIND", "LINK", "put", "get", "Head",
    "POST2",
];

#[tokio::test(start_paused = true)]
async fn other_methods_are_rejected_at_guarded_paths() {
    for method in METHODS {
        for path in ["/token", "/token?x=1", "/revoke", "/introspect"] {
            let name = format!("{method} {path}");
            for headers in [&[("content-type", FORM)][..], &[]] {
                let outcome = send(false, request(method, path, headers, LOG_IN)).await;
                outcome.assert_refused(&name, 405);
                assert_eq!(
                    outcome.response.headers[header::ALLOW],
                    "GET, HEAD, OPTIONS, POST"
                );
                assert!(matches!(
                    outcome.response.extensions.get(),
                    Some(RefreshError::MethodNotAllowed)
                ));
            }
        }
        for path in [
            "/TOKEN",
            "//token",
            "/%74oken",
            "/token/x",
            "/revoke.json",
            "/introspect;a",
        ] {
            let name = format!("{method} {path}");
            let outcome = send(true, request(method, path, &[], LOG_IN)).await;
            outcome.assert_refused(&name, 405);
        }
        for path in [
            "/x/../token",
            "/x%2f..%2ftoken",
            "/x%2ftoken",
            "/x%5ctoken",
            "/%2574oken",
            "/index.php/token",
            "/token%zz",
        ] {
            let name = format!("{method} {path}");
            let outcome = send(true, request(method, path, &[], LOG_IN)).await;
            outcome.assert_refused(&name, 400);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_safe_method_with_parameters_or_content_is_rejected_at_guarded_paths() {
    let long = [("content-length", "52")];
    let rows: [(&str, &str, &[(&str, &str)], &'static str); 8] = [
        (
            "a grant type",
            "/token?grant_type=password&username=a",
            &[],
            "",
        ),
        (
            "another spelling",
            "/token?x=1&Grant%5FType]=password",
            &[],
            "",
        ),
        (
            "a name that cannot be decoded",
            "/token?grant_type%00=password",
            &[],
            "",
        ),
        ("a name after a semicolon", "/revoke?x;token=a", &[], ""),
        ("a form", "/token", &[("content-type", FORM)], LOG_IN),
        ("content without a type", "/token", &[], LOG_IN),
        ("a length", "/token", &long, ""),
        ("chunks", "/token", &[("transfer-encoding", "chunked")], ""),
    ];
    for method in ["GET", "HEAD", "OPTIONS"] {
        for (name, target, headers, body) in rows {
            let name = format!("{method}: {name}");
            send(false, request(method, target, headers, body))
                .await
                .assert_refused(&name, 400);
            for prefix in ["/", "/x/..", "/index.php"] {
                let target = format!("{prefix}{target}");
                send(true, request(method, &target, headers, body))
                    .await
                    .assert_refused(&format!("{name}, {target}"), 400);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_safe_method_passes_without_content_that_nothing_announces() {
    // As over HTTP/2, where a request without `content-length` may have content.
    for method in ["GET", "HEAD", "OPTIONS"] {
        for target in ["/token", "/token/x", "/revoke?x=1"] {
            let name = format!("{method} {target}");
            let request = request(method, target, &[], "")
                .map(|_| pieces([Ok(Bytes::new()), Ok(Bytes::from_static(LOG_IN.as_bytes()))]));
            let outcome = send(true, request).await;
            assert_eq!(
                (outcome.calls, outcome.content),
                (1, Bytes::new()),
                "{name}"
            );
        }
    }
    let other = request("GET", "/other", &[], "").map(|_| pieces([Ok(Bytes::from_static(b"x"))]));
    assert_eq!(send(true, other).await.content, "x", "not guarded");
}

#[tokio::test(start_paused = true)]
async fn other_requests_with_other_methods_pass() {
    let form = [("content-type", FORM)];
    let empty = [
        ("content-length", "0"),
        ("content-type", "application/json"),
    ];
    let rows: [(&str, &str, &[(&str, &str)], &'static str); 14] = [
        ("GET", "/token", &[], ""),
        ("HEAD", "/token?tenant=a&x[]=1", &[], ""),
        (
            "OPTIONS",
            "/revoke",
            &[("access-control-request-method", "POST")],
            "",
        ),
        ("GET", "/introspect", &empty, ""),
        ("GET", "/x/../y?page=2", &[], ""),
        ("GET", "/search?scope=x&token=y", &[], ""),
        ("GET", "/files/a%2Fb?token=x", &[], "content"),
        ("PUT", "/files/a%2Fb", &form, LOG_IN),
        ("PUT", "/files/100%25.txt", &form, LOG_IN),
        ("PATCH", "/tokens", &form, LOG_IN),
        ("DELETE", "/files/token", &[], ""),
        ("PROPFIND", "/dav/caf%C3%A9", &[], ""),
        ("OPTIONS", "*", &[], ""),
        ("QUERY", "/search?grant_type=x", &form, LOG_IN),
    ];
    for (method, target, headers, body) in rows {
        let outcome = send(true, request(method, target, headers, body)).await;
        let name = format!("{method} {target}");
        assert_eq!(
            (outcome.response.status, outcome.calls),
            (StatusCode::OK, 1),
            "{name}"
        );
        assert_eq!(outcome.body, TOKENS, "{name}");
    }
}
