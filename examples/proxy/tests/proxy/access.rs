//! The example proxy issues its own access tokens, and replaces them with the upstream's in
//! requests for guarded resources.

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::routing::{get as on_get, post as on_post, put as on_put};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::channel::Channel;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use test_support::PATIENCE;
use test_support::access::LOG_IN;
use test_support::http::{Answer, Recorder, post, raw, send, serve, serve_upstream};
use test_support::process::Example;
use test_support::tokens::made_up;
use test_support::{Act, Upstream, refresh_form};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::proxy;

const GUARDED: [&str; 3] = ["--reference-access-tokens", "--resource-prefix", "/api"];
const ID_TOKEN: &str = r#"{"id_token":"e30.e30.e30"}"#;

const MISSING: &str = r#"Bearer realm="oauth""#;
const MALFORMED: &str = concat!(
    r#"Bearer realm="oauth", error="invalid_request", "#,
    r#"error_description="the Authorization header is repeated or malformed""#
);
const INVALID: &str = concat!(
    r#"Bearer realm="oauth", error="invalid_token", "#,
    r#"error_description="the access token is invalid, expired or revoked""#
);

/// A proxy in front of the strict upstream.
struct Setup {
    upstream: Upstream,
    proxy: Example,
}

impl Setup {
    async fn start(flags: &[&str]) -> Self {
        let upstream = Upstream::new();
        let addr = serve_upstream(upstream.clone()).await;
        let flags = [&GUARDED[..], flags].concat();
        Self {
            proxy: proxy::start(&format!("http://{addr}"), &flags).await,
            upstream,
        }
    }

    async fn log_in(&self) -> Answer {
        post(&self.proxy.url("/token"), &LOG_IN).await
    }

    async fn refresh(&self, token: &str) -> Answer {
        post(&self.proxy.url("/token"), &refresh_form("app", token)).await
    }

    async fn revoke(&self, token: &str) {
        let answer = post(
            &self.proxy.url("/revoke"),
            &[("token", token), ("client_id", "app")],
        )
        .await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }

    async fn introspect(&self, path: &str, token: &str) -> Answer {
        let form = format!("token={token}&client_id=app");
        parse(&proxy::form(&self.proxy, path, &form).await)
    }

    /// Requests a resource with this token. Returns the `Authorization` headers that the upstream
    /// received.
    async fn reached(&self, path: &str, token: &str) -> Vec<String> {
        let before = self.upstream.seen().len();
        self.upstream.then(Act::Answer(200, "text/plain", "orders"));
        let answer = request(&self.proxy, path, &[&format!("Bearer {token}")]).await;
        assert_eq!(
            (answer.status, answer.text()),
            (StatusCode::OK, "orders"),
            "{path}"
        );
        let seen = self.upstream.seen();
        assert_eq!(seen.len(), before + 1, "{path}: {seen:?}");
        let values = seen[before].headers.get_all("authorization").iter();
        values
            .map(|value| value.to_str().unwrap().to_owned())
            .collect()
    }

    /// Sends a request that must not reach the upstream. Returns its status and challenge.
    async fn refused(&self, path: &str, values: &[&str]) -> (StatusCode, String) {
        let before = self.upstream.seen().len();
        let answer = request(&self.proxy, path, values).await;
        assert_eq!(
            self.upstream.seen().len(),
            before,
            "{path} {values:?} reached the upstream: {answer:?}"
        );
        let challenge = answer
            .headers
            .get("www-authenticate")
            .map(|value| value.to_str().unwrap());
        (answer.status, challenge.unwrap_or_default().to_owned())
    }

    /// Waits until the token is rejected: the access layer learns of ended grants in a background
    /// task.
    async fn is_dead(&self, token: &str) {
        let (bearer, end) = (format!("Bearer {token}"), Instant::now() + PATIENCE);
        while request(&self.proxy, "/api/orders", &[&bearer]).await.status
            != StatusCode::UNAUTHORIZED
        {
            assert!(Instant::now() < end, "the token is still accepted");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let refused = self.refused("/api/orders", &[&bearer]).await;
        assert_eq!(refused, (StatusCode::UNAUTHORIZED, INVALID.into()));
    }
}

/// Sends a request with this exact path, which HTTP clients would normalize.
async fn request(proxy: &Example, path: &str, authorization: &[&str]) -> Answer {
    request_by(proxy, "GET", path, authorization).await
}

async fn request_by(proxy: &Example, method: &str, path: &str, authorization: &[&str]) -> Answer {
    let headers: String = authorization
        .iter()
        .map(|value| format!("Authorization: {value}\r\n"))
        .collect();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{headers}Connection: close\r\n\r\n");
    parse(&raw(proxy.addr(), &request).await)
}

/// Parses a complete response.
fn parse(answer: &str) -> Answer {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let (status, headers) = head.split_once("\r\n").unwrap();
    let headers = headers.split("\r\n").map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.parse().unwrap(), value.parse().unwrap())
    });
    let status = status.split(' ').nth(1).unwrap().parse().unwrap();
    Answer {
        status,
        headers: headers.collect(),
        body: body.to_owned().into(),
    }
}

/// Returns the access token of a response, which must not contain a token of the upstream.
#[track_caller]
fn access_token(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let token = answer.string("access_token");
    assert!(token.starts_with("at_"), "{token}");
    let mut members = answer.json();
    // The tokens of the proxy are random, and may contain any text by chance.
    members["access_token"].take();
    if let Some(refresh) = members["refresh_token"].take().as_str() {
        assert!(refresh.starts_with("rt_"), "{refresh}");
    }
    let rest = format!("{:?} {members}", answer.headers);
    for secret in ["at-", "upstream-", "id_token"] {
        assert!(!rest.contains(secret), "{secret} in {answer:?}");
    }
    token
}

#[tokio::test]
async fn clients_never_receive_access_tokens_of_the_upstream() {
    let setup = Setup::start(&[]).await;
    setup.upstream.then(Act::With(ID_TOKEN));
    let first = setup.log_in().await;
    let refresh_token = first.string("refresh_token");
    setup.upstream.then(Act::With(ID_TOKEN));
    let second = setup.refresh(&refresh_token).await;
    let again = setup.refresh(&refresh_token).await;
    assert_eq!(
        access_token(&again),
        access_token(&second),
        "a retry gets the same answer"
    );
    let (first, last) = (access_token(&first), access_token(&second));
    for _ in 0..2 {
        assert_eq!(
            setup.reached("/api/orders?page=2", &first).await,
            ["Bearer at-0-0"]
        );
        assert_eq!(setup.reached("/api", &last).await, ["Bearer at-0-1"]);
    }
    setup.revoke(&second.string("refresh_token")).await;
    setup.is_dead(&first).await;
    setup.is_dead(&last).await;
}

#[tokio::test]
async fn revoking_an_access_token_keeps_the_other_tokens_of_the_grant() {
    let setup = Setup::start(&[]).await;
    let first = setup.log_in().await;
    let second = setup.refresh(&first.string("refresh_token")).await;
    assert_eq!(
        setup.reached("/api", &access_token(&first)).await,
        ["Bearer at-0-0"]
    );
    setup.revoke(&access_token(&first)).await;
    setup.is_dead(&access_token(&first)).await;
    assert_eq!(
        setup.reached("/api", &access_token(&second)).await,
        ["Bearer at-0-1"]
    );
}

#[tokio::test]
async fn requests_without_a_valid_access_token_are_challenged() {
    let setup = Setup::start(&[]).await;
    let answer = setup.log_in().await;
    let (token, refresh_token) = (access_token(&answer), answer.string("refresh_token"));
    let damaged = format!("Bearer {}A", token.split_at(token.len() - 1).0);
    let damaged = if damaged.ends_with(&token) {
        damaged.replace("at_", "at_A")
    } else {
        damaged
    };
    let good = format!("Bearer {token}");
    let (unauthorized, bad) = (StatusCode::UNAUTHORIZED, StatusCode::BAD_REQUEST);
    let rows: [(&str, &[&str], StatusCode, &str); 7] = [
        ("none", &[], unauthorized, MISSING),
        ("another scheme", &["Basic YTpi"], unauthorized, MISSING),
        (
            "the upstream's own",
            &["Bearer at-0-0"],
            unauthorized,
            INVALID,
        ),
        (
            "a refresh token",
            &[&format!("Bearer {refresh_token}")],
            unauthorized,
            INVALID,
        ),
        (
            "one that was never issued",
            &[&damaged],
            unauthorized,
            INVALID,
        ),
        ("a scheme without a token", &["Bearer"], bad, MALFORMED),
        ("two", &[&good, &good], bad, MALFORMED),
    ];
    for (name, values, status, challenge) in rows {
        assert_eq!(
            setup.refused("/api/orders", values).await,
            (status, challenge.to_owned()),
            "{name}"
        );
    }
    assert_eq!(
        setup.reached("/api/orders", &token).await,
        ["Bearer at-0-0"]
    );
}

/// Servers answer these methods with the request that they received.
#[tokio::test]
async fn methods_that_echo_the_request_are_refused_on_every_path() {
    let setup = Setup::start(&[]).await;
    let bearer = format!("Bearer {}", access_token(&setup.log_in().await));
    let before = setup.upstream.seen().len();
    for method in ["TRACE", "TRACK", "trace", "Trace", "tRACK"] {
        for path in [
            "/api",
            "/api/",
            "//API/x",
            "/api/..%2fx",
            "/",
            "/token",
            "*",
        ] {
            for values in [&[&*bearer][..], &[]] {
                let answer = request_by(&setup.proxy, method, path, values).await;
                let status = match method {
                    "TRACE" | "TRACK" => StatusCode::NOT_IMPLEMENTED,
                    _ => StatusCode::BAD_REQUEST,
                };
                assert_eq!(answer.status, status, "{method} {path}");
                assert_eq!(answer.string("error"), "invalid_request", "{method} {path}");
                assert!(!answer.text().contains("at-"), "{method} {path}");
            }
        }
    }
    assert_eq!(setup.upstream.seen().len(), before);
}

#[tokio::test]
async fn every_spelling_of_a_resource_path_is_guarded_and_no_other_path() {
    let setup = Setup::start(&["--resource-prefix", "/v2/items/"]).await;
    let token = access_token(&setup.log_in().await);
    let spellings = [
        ("/api", "/api"),
        ("/api/", "/api/"),
        ("//api/x", "/api/x"),
        ("/API//x/", "/api/x/"),
        ("/%61pi/%78", "/api/x"),
        ("/api;a=b/x;c", "/api/x;c"),
        ("/api%20/caf%c3%a9", "/api/caf%C3%A9"),
        ("http://a/api/x", "/api/x"),
        ("/v2/items", "/v2/items"),
        ("/v2//Items/7", "/v2/items/7"),
    ];
    for (path, way) in spellings {
        assert_eq!(
            setup.refused(path, &[]).await,
            (StatusCode::UNAUTHORIZED, MISSING.into()),
            "{path}"
        );
        assert_eq!(
            setup.reached(path, &token).await,
            ["Bearer at-0-0"],
            "{path}"
        );
        assert_eq!(
            setup.upstream.seen().pop().unwrap().path,
            way,
            "{path} is forwarded in the configured spelling"
        );
    }
    let ambiguous = [
        "/api.json",
        "/api:x",
        "/index.php/api/x",
        "/api%2Fx",
        "/./api/x",
        "/x/../api",
        "/debug/..%2fapi",
        "/x/%2e%2e/api/x",
        "/x/..;/api",
        "/api/../x",
        "/api/a%5cb",
        "/a%2fb",
        "//x/api",
        "/100%25",
    ];
    for path in ambiguous {
        let bearer = format!("Bearer {token}");
        assert_eq!(
            setup.refused(path, &[&bearer]).await,
            (StatusCode::BAD_REQUEST, String::new()),
            "{path}"
        );
    }
    for path in [
        "/",
        "/apis",
        "/x/api",
        "/v2",
        "/v2/x/items",
        "/userinfo",
        "/caf%C3%A9//x?a=%2f..",
    ] {
        assert_eq!(
            setup.reached(path, "at-0-0").await,
            ["Bearer at-0-0"],
            "{path} is not guarded"
        );
        assert_eq!(
            setup.reached(path, &token).await,
            [format!("Bearer {token}")],
            "{path} is not guarded"
        );
    }
    setup
        .upstream
        .then(Act::Answer(200, "text/plain", "of the server"));
    assert_eq!(
        request_by(&setup.proxy, "OPTIONS", "*", &[]).await.text(),
        "of the server"
    );
}

#[tokio::test]
async fn an_allowed_ambiguous_path_is_forwarded_unless_it_may_be_a_resource() {
    let setup = Setup::start(&[
        "--allow-ambiguous-path",
        "/projects,/v4",
        "--resource-prefix",
        "/v4/users",
    ])
    .await;
    let token = access_token(&setup.log_in().await);
    for path in ["/projects/group%2Fname/issues", "/v4/projects/a%2Fb%25c"] {
        assert_eq!(
            setup.reached(path, &token).await,
            [format!("Bearer {token}")],
            "{path}"
        );
        assert_eq!(setup.upstream.seen().pop().unwrap().path, path);
    }
    for path in [
        "/v4/%2fusers",
        "/v4/%2575sers",
        "/projects/..%2fapi",
        "/projects/a%2f..%252f..%252fapi",
        "/other/a%2Fb",
    ] {
        let bearer = format!("Bearer {token}");
        assert_eq!(
            setup.refused(path, &[&bearer]).await.0,
            StatusCode::BAD_REQUEST,
            "{path}"
        );
    }
}

/// Logs in with these resources. Returns the access token, whose scope is `read write`.
async fn token_for(setup: &Setup, resources: &[&str]) -> String {
    let form: Vec<_> = LOG_IN
        .into_iter()
        .chain(resources.iter().map(|resource| ("resource", *resource)))
        .collect();
    access_token(&post(&setup.proxy.url("/token"), &form).await)
}

#[tokio::test]
async fn each_prefix_has_its_own_rules() {
    let setup = Setup::start(&[
        "--resource-prefix=/api/admin,/v2,/v3",
        "--resource-scope=read",
        "--resource-scope=/api/admin=write admin",
        "--resource-scope=/v3=write",
        "--resource=/v2=https://v2.example",
        "--allowed-resource=https://v2.example",
        "--resource-metadata=https://a.example/meta",
        "--resource-metadata=/v2=https://v2.example/meta",
    ])
    .await;
    let (anywhere, second) = (
        token_for(&setup, &[]).await,
        token_for(&setup, &["https://v2.example"]).await,
    );
    for (path, token) in [
        ("/api/x", &anywhere),
        ("/api", &second),
        ("/v2/x", &second),
        ("/v3", &anywhere),
    ] {
        assert_eq!(setup.reached(path, token).await.len(), 1, "{path}");
    }
    let invalid = |metadata: &str| format!(r#"{INVALID}, resource_metadata="{metadata}""#);
    let insufficient = r#"Bearer realm="oauth", error="insufficient_scope", error_description="the access token does not have the required scope", scope="read write admin", resource_metadata="https://a.example/meta""#;
    let missing =
        r#"Bearer realm="oauth", scope="read write", resource_metadata="https://a.example/meta""#;
    let not_allowed = token_for(&setup, &["https://v3.example", "https://v2.example/"]).await;
    let refused = [
        (
            "/v2",
            Some(&not_allowed),
            401,
            invalid("https://v2.example/meta"),
        ),
        ("/api/admin", Some(&anywhere), 403, insufficient.to_owned()),
        ("/API/Admin/x", Some(&second), 403, insufficient.to_owned()),
        (
            "/v2",
            Some(&anywhere),
            401,
            invalid("https://v2.example/meta"),
        ),
        ("/v3/x", None, 401, missing.to_owned()),
    ];
    for (path, token, status, challenge) in refused {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let values: Vec<_> = bearer.iter().map(String::as_str).collect();
        let answer = setup.refused(path, &values).await;
        assert_eq!(
            answer,
            (StatusCode::from_u16(status).unwrap(), challenge),
            "{path}"
        );
    }
}

/// Different servers may resolve such a path to different resources.
#[tokio::test]
async fn a_path_below_several_prefixes_needs_the_rights_of_the_innermost_or_is_refused() {
    let setup = Setup::start(&[
        "--resource-prefix=/api/admin,/v2,/v3",
        "--resource-scope=/api/admin=admin",
        "--resource=/v2=https://v2.example,/v3=https://v3.example",
        "--allowed-resource=https://v2.example,https://v3.example",
    ])
    .await;
    let both = token_for(&setup, &["https://v2.example", "https://v3.example"]).await;
    let bearer = format!("Bearer {both}");
    let rows = [
        ("/api//Admin", 403),
        ("/api;a/%61dmin", 403),
        ("/api/admin.json", 400),
        ("/api/index.php/admin", 400),
        ("/api/;a/admin/x", 403),
        ("/api.json/admin", 400),
        ("/api:x/admin", 400),
        ("/api/admin/../x", 400),
        ("/api%2Fadmin", 400),
        ("/v2/../v3", 400),
        ("/v3/..;/v2", 400),
    ];
    for (path, status) in rows {
        let (refused, _) = setup.refused(path, &[&bearer]).await;
        assert_eq!(refused, status, "{path}");
    }
    let answer = request(&setup.proxy, "/v2/../v3", &[&bearer]).await;
    assert_eq!(answer.json()["error"], "invalid_request", "{answer:?}");
    for path in ["/V2/x", "/v3", "/api/administrators"] {
        assert_eq!(
            setup.reached(path, &both).await,
            ["Bearer at-0-0"],
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_cors_preflight_is_forwarded_without_credentials() {
    const ORIGIN: &str = "Origin: https://app.example\r\n";
    const METHOD: &str = "Access-Control-Request-Method: GET\r\n";
    let both = [ORIGIN, METHOD].concat();
    let setup = Setup::start(&[
        "--resource-prefix=/v2,/v3",
        "--resource=/v2=https://v2,/v3=https://v3",
        "--allowed-resource=https://v2,https://v3",
    ])
    .await;
    let token = access_token(&setup.log_in().await);
    let call = async |method: &str, path: &str, headers: &str| {
        let before = setup.upstream.seen().len();
        let bearer = format!("Authorization: Bearer {token}\r\nAuthorization: Basic YTpi\r\n");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: a\r\n{headers}{bearer}Connection: close\r\n\r\n"
        );
        let answer = parse(&raw(setup.proxy.addr(), &head).await);
        (answer, setup.upstream.seen().get(before).cloned())
    };
    for (path, way) in [
        ("/api", "/api"),
        ("/api/orders", "/api/orders"),
        ("/%61PI/x", "/api/x"),
    ] {
        setup
            .upstream
            .then(Act::Answer(200, "text/plain", "of upstream"));
        let (answer, seen) = call("OPTIONS", path, &both).await;
        assert_eq!(
            (answer.status, answer.text()),
            (StatusCode::OK, "of upstream"),
            "{path}"
        );
        let seen = seen.unwrap();
        assert_eq!((seen.method.as_str(), seen.path.as_str()), ("OPTIONS", way));
        assert_eq!(
            seen.headers["access-control-request-method"], "GET",
            "{path}"
        );
        assert_eq!(seen.headers.get("authorization"), None, "{path}");
    }
    let (answer, seen) = call("OPTIONS", "/v2/../v3", &both).await;
    assert_eq!(
        (answer.status, seen.is_none()),
        (StatusCode::BAD_REQUEST, true),
        "the path is ambiguous"
    );
    for (name, method, headers) in [
        ("no origin", "OPTIONS", METHOD),
        ("no requested method", "OPTIONS", ORIGIN),
        ("not a preflight", "GET", &both),
    ] {
        let (answer, seen) = call(method, "/api", headers).await;
        assert_eq!(
            (answer.status, seen.is_none()),
            (StatusCode::BAD_REQUEST, true),
            "{name}: the request has two tokens"
        );
    }
    setup
        .upstream
        .then(Act::Answer(200, "text/plain", "of upstream"));
    let (_, seen) = call("OPTIONS", "/open", &both).await;
    assert_eq!(
        seen.unwrap()
            .headers
            .get_all("authorization")
            .iter()
            .count(),
        2,
        "headers of unguarded requests are unchanged"
    );
}

#[tokio::test]
async fn tokens_of_the_proxy_are_introspected_in_every_spelling_of_the_path() {
    let setup = Setup::start(&["--introspection-path", "/introspect"]).await;
    let answer = setup.log_in().await;
    let (token, refresh_token) = (access_token(&answer), answer.string("refresh_token"));
    for (path, token) in [
        ("/introspect", &token),
        ("/introspect", &refresh_token),
        ("//introspect", &token),
        ("/%69ntrospect/", &token),
        ("/introspect/x.json", &token),
    ] {
        setup.upstream.then(Act::Answer(
            200,
            "application/json",
            r#"{"active":true,"sub":"user-7","client_id":"x"}"#,
        ));
        let answer = setup.introspect(path, token).await;
        let said = answer.json();
        assert_eq!(
            (&said["active"], &said["client_id"]),
            (&json!(true), &json!("app")),
            "{path}"
        );
        assert_eq!(
            (&said["scope"], &said["sub"]),
            (&json!("read write"), &json!("user-7")),
            "{path}"
        );
        let asked = setup.upstream.seen().pop().unwrap();
        assert!(
            ["at-0-0", "upstream-0-0"].contains(&asked.param("token").unwrap()),
            "{path}: {asked:?}"
        );
    }
    let unknown = made_up("at_");
    assert_eq!(
        setup.introspect("/introspect", &unknown).await.text(),
        r#"{"active":false}"#
    );
    setup.revoke(&refresh_token).await;
    for token in [&token, &refresh_token] {
        assert_eq!(
            setup.introspect("/introspect", token).await.text(),
            r#"{"active":false}"#
        );
    }
    let without = Setup::start(&[]).await;
    without.introspect("/introspect", &unknown).await;
    assert_eq!(
        without.upstream.seen().pop().unwrap().param("token"),
        Some(&*unknown),
        "the token is forwarded unchanged"
    );
}

#[tokio::test]
async fn keep_id_token_passes_the_id_token_on() {
    let setup = Setup::start(&["--keep-id-token"]).await;
    setup.upstream.then(Act::With(ID_TOKEN));
    let answer = setup.log_in().await;
    assert_eq!(answer.string("id_token"), "e30.e30.e30");
    assert!(
        answer.string("access_token").starts_with("at_"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_guarded_request_has_the_same_headers_as_an_unguarded_one() {
    let upstream = Recorder::start(|_| {
        let body = r#"{"access_token":"own","token_type":"Bearer","expires_in":60}"#;
        (
            [
                ("content-type", "application/json"),
                ("connection", "x-hop"),
                ("x-hop", "1"),
                ("x-end", "1"),
            ],
            body,
        )
    })
    .await;
    let proxy = proxy::start(&upstream.url(), &GUARDED).await;
    let token = post(&proxy.url("/token"), &LOG_IN)
        .await
        .string("access_token");
    let bearer = format!("Bearer {token}");
    let headers = [
        ("authorization", &*bearer),
        ("connection", "x-hop, keep-alive"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-end", "1"),
    ];
    let guarded = send("POST", &proxy.url("/api/x"), &headers, "body").await;
    let open = send("POST", &proxy.url("/open/x"), &headers, "body").await;
    for answer in [&guarded, &open] {
        assert_eq!(
            (answer.status, answer.headers.get("x-hop")),
            (StatusCode::OK, None),
            "{answer:?}"
        );
        assert_eq!(answer.headers["x-end"], "1");
    }
    let (mut guarded, mut open) = (upstream.last("/api/x"), upstream.last("/open/x"));
    assert_eq!(
        guarded.headers.remove("authorization").unwrap(),
        "Bearer own"
    );
    assert_eq!(open.headers.remove("authorization").unwrap(), *bearer);
    assert_eq!(
        (&guarded.headers, &guarded.body),
        (&open.headers, &open.body)
    );
    assert!(
        !guarded.headers.contains_key("x-hop") && guarded.headers.contains_key("x-end"),
        "{guarded:?}"
    );
}

#[tokio::test]
async fn guarded_requests_and_responses_are_streamed() {
    let (started, mut senders) = mpsc::unbounded_channel();
    let trickle = async move || {
        let (sender, body) = Channel::<Bytes>::new(1);
        started.send(sender).unwrap();
        Body::new(body)
    };
    let (arrived, mut pieces) = mpsc::unbounded_channel();
    let upload = async move |request: Request| {
        let mut body = request.into_body();
        while let Some(frame) = body.frame().await {
            arrived.send(frame.unwrap().into_data().unwrap()).unwrap();
        }
        "done"
    };
    let tokens = async || {
        axum::Json(json!({ "access_token": "own", "token_type": "Bearer", "expires_in": 60 }))
    };
    let router = Router::new()
        .route("/token", on_post(tokens))
        .route("/api/trickle", on_get(trickle))
        .route("/api/upload", on_put(upload));
    let proxy = proxy::start(&format!("http://{}", serve(router).await), &GUARDED).await;
    let bearer = format!(
        "Bearer {}",
        post(&proxy.url("/token"), &LOG_IN)
            .await
            .string("access_token")
    );
    let client = Client::builder(TokioExecutor::new()).build_http();

    // The upload is forwarded only after the store lookup of its token, the download uses the
    // cache.
    let (mut sender, body) = Channel::<Bytes>::new(1);
    let request = hyper::Request::put(proxy.url("/api/upload")).header("authorization", &bearer);
    let response = tokio::spawn(client.request(request.body(body).unwrap()));
    for piece in ["one", "two", "three"] {
        sender.send_data(Bytes::from(piece)).await.unwrap();
        assert_eq!(
            timeout(PATIENCE, pieces.recv())
                .await
                .expect("the proxy holds the data back")
                .unwrap(),
            piece
        );
    }
    drop(sender);
    assert_eq!(
        response
            .await
            .unwrap()
            .unwrap()
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes(),
        "done"
    );

    let request = hyper::Request::get(proxy.url("/api/trickle")).header("authorization", &bearer);
    let (_, body) = Channel::<Bytes>::new(1);
    let mut response = client.request(request.body(body).unwrap()).await.unwrap();
    let mut sender = senders.recv().await.unwrap();
    for piece in ["one", "two", "three"] {
        sender.send_data(Bytes::from(piece)).await.unwrap();
        let frame = timeout(PATIENCE, response.body_mut().frame())
            .await
            .expect("the proxy holds the data back")
            .unwrap()
            .unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    drop(sender);
    assert!(
        timeout(PATIENCE, response.body_mut().frame())
            .await
            .unwrap()
            .is_none()
    );
}
