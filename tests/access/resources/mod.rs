//! One `AccessLayer` in front of several resources, each below a path.

mod invalid;

use std::net::SocketAddr;

use axum::Router;
use axum::extract::Request;
use http::StatusCode;
use serde_json::{Value, json};
use test_support::access::{LOG_IN, access_token};
use test_support::http::{raw, serve};
use test_support::{Act, App, TestStore, post};
use tower::Layer as _;
use tower_oauth_refresh::access::Requirements;
use tower_oauth_refresh::{AccessGrant, AccessLayerBuilder};

const ONE: &str = "https://api.example/one";
const TWO: &str = "https://api.example/two";
const API: &str = "https://api.example/";

type Builder = AccessLayerBuilder<TestStore>;

fn issuing() -> App {
    App::with(|builder| {
        builder
            .reference_access_tokens(true)
            .allowed_resources([ONE, TWO, API])
    })
}

async fn issued(app: &App, members: &'static str, resources: &[&str]) -> String {
    app.upstream.then(Act::With(members));
    let mut form = LOG_IN.to_vec();
    form.extend(resources.iter().map(|resource| ("resource", *resource)));
    access_token(&app.send(post("/token", &form)).await.unwrap())
}

/// Responds with what has reached the inner service, in the content and in a header.
async fn echo(request: Request) -> ([(&'static str, String); 1], axum::Json<Value>) {
    let headers = request.headers().get_all("authorization").iter();
    let grant = request.extensions().get::<AccessGrant>();
    let seen = json!({
        "path": request.uri().to_string(),
        "authorization": headers.map(|value| value.to_str().unwrap()).collect::<Vec<_>>(),
        "client": grant.map(AccessGrant::client_id),
    });
    ([("seen", seen.to_string())], axum::Json(seen))
}

/// A guarded server.
struct Server(SocketAddr);

struct Reply {
    status: StatusCode,
    challenge: String,
    seen: Value,
    body: Value,
}

impl Server {
    async fn start(app: &App, settings: impl FnOnce(Builder) -> Builder) -> Self {
        let layer = settings(app.layer.access()).build().unwrap();
        let guarded = layer.layer(Router::new().fallback(echo));
        Self(serve(Router::new().fallback_service(guarded)).await)
    }

    async fn send(&self, method: &str, path: &str, headers: &[&str]) -> Reply {
        let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{headers}Connection: close\r\n\r\n");
        let answer = raw(self.0, &request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let header = |name| head.lines().find_map(|line| line.strip_prefix(name));
        Reply {
            status,
            challenge: header("www-authenticate: ").unwrap_or_default().to_owned(),
            seen: serde_json::from_str(header("seen: ").unwrap_or_default()).unwrap_or_default(),
            body: serde_json::from_str(body).unwrap_or_default(),
        }
    }

    async fn get(&self, path: &str, token: &str) -> Reply {
        let header = format!("Authorization: Bearer {token}");
        self.send("GET", path, &[&header]).await
    }

    async fn status(&self, path: &str, token: &str) -> u16 {
        self.get(path, token).await.status.as_u16()
    }
}

fn table(builder: Builder) -> Builder {
    let one = Requirements::new()
        .resource(ONE)
        .resource_metadata("https://api.example/meta/one")
        .require_scope("one");
    let two = Requirements::new().resource(TWO);
    builder
        .require_scope("use")
        .resource(API)
        .resource_metadata("https://api.example/meta")
        .resource_for("/one", one)
        .resource_for(
            "/one/admin",
            Requirements::new().require_any_scope(["admin", "root"]),
        )
        .resource_for("/two/", two)
}

/// A server that answers these methods sends the request back, with the upstream access token.
#[tokio::test]
async fn methods_that_echo_the_request_are_refused_on_guarded_routes() {
    let app = issuing();
    let token = issued(&app, r#"{"scope":"use one admin"}"#, &[API, ONE, TWO]).await;
    let header = format!("Authorization: Bearer {token}");
    let everywhere = Server::start(&app, |builder| builder).await;
    let anonymous = Server::start(&app, |builder| builder.allow_anonymous(true)).await;
    let below = Server::start(&app, |builder| {
        let builder = builder.open_elsewhere(true).pass_preflights(true);
        builder.resource_for("/one", Requirements::new())
    })
    .await;
    for method in ["TRACE", "TRACK", "trace", "Trace", "tRaCk"] {
        for (server, path) in [
            (&everywhere, "/x"),
            (&anonymous, "/x"),
            (&below, "/one"),
            (&below, "/one/"),
            (&below, "//ONE/x?y"),
        ] {
            for headers in [&[&*header][..], &[]] {
                let reply = server.send(method, path, headers).await;
                assert_eq!(reply.status, StatusCode::NOT_IMPLEMENTED, "{method} {path}");
                assert_eq!(reply.body["error"], "invalid_request", "{method} {path}");
                assert_eq!(reply.challenge, "", "{method} {path}");
            }
        }
        let reply = below.send(method, "/open", &[&header]).await;
        assert_eq!(reply.status, StatusCode::OK, "{method}");
    }
    for method in ["GET", "POST", "PATCH", "REPORT"] {
        let reply = below.send(method, "/one", &[&header]).await;
        assert_eq!(reply.status, StatusCode::OK, "{method}");
    }
}

#[tokio::test]
async fn each_path_has_the_requirements_of_its_resource() {
    let app = issuing();
    let server = Server::start(&app, table).await;
    let use_api = issued(&app, r#"{"scope":"use"}"#, &[API]).await;
    let use_one = issued(&app, r#"{"scope":"use one"}"#, &[ONE]).await;
    let only_one = issued(&app, r#"{"scope":"one"}"#, &[ONE]).await;
    let root_one = issued(&app, r#"{"scope":"root use one"}"#, &[ONE]).await;
    let use_two = issued(&app, r#"{"scope":"use one admin"}"#, &[TWO]).await;
    let paths = [
        "/",
        "/one",
        "/one/x",
        "/ones",
        "/one/admin",
        "/one/admins",
        "/two/x",
    ];
    for (name, token, expected) in [
        ("api", &use_api, [200, 401, 401, 200, 401, 401, 401]),
        ("one", &use_one, [401, 200, 200, 401, 403, 200, 401]),
        (
            "no layer scope",
            &only_one,
            [401, 403, 403, 401, 403, 403, 401],
        ),
        ("one, root", &root_one, [401, 200, 200, 401, 200, 200, 401]),
        ("two", &use_two, [401, 401, 401, 401, 401, 401, 200]),
    ] {
        for (path, expected) in paths.into_iter().zip(expected) {
            assert_eq!(server.status(path, token).await, expected, "{name}: {path}");
        }
    }
    let challenge = |scope: &str, metadata: &str| {
        let base = "https://api.example/meta";
        format!(r#"Bearer realm="oauth", scope="{scope}", resource_metadata="{base}{metadata}""#)
    };
    for (path, expected) in [
        ("/x", challenge("use", "")),
        ("/one/x", challenge("use one", "/one")),
        ("/one/admin/x", challenge("use one admin", "/one")),
        ("/two", challenge("use", "")),
    ] {
        let reply = server.send("GET", path, &[]).await;
        assert_eq!(
            (reply.status.as_u16(), reply.challenge),
            (401, expected),
            "{path}"
        );
    }
    app.store.calls();
    assert_eq!(server.status("/one/y", &root_one).await, 200);
    assert_eq!(app.store.calls(), [], "the resources share a cache");
}

#[tokio::test]
async fn no_spelling_of_a_path_has_other_requirements() {
    let app = issuing();
    let server = Server::start(&app, table).await;
    let api = issued(&app, r#"{"scope":"use"}"#, &[API]).await;
    let one = issued(&app, r#"{"scope":"use one"}"#, &[ONE]).await;
    for (path, forwarded) in [
        ("/one", "/one"),
        ("/one/?a=/../b", "/one/?a=/../b"),
        ("//one/x", "/one/x"),
        ("/ONE//x/", "/one/x/"),
        ("/%6fne/%78", "/one/x"),
        ("/one;a=b/x;c", "/one/x;c"),
        ("/one+/x", "/one/x"),
    ] {
        assert_eq!(server.status(path, &api).await, 401, "{path}");
        let reply = server.get(path, &one).await;
        assert_eq!(reply.status, 200, "{path}");
        assert_eq!(reply.body["path"], forwarded, "{path}");
        assert_eq!(
            reply.body["authorization"],
            json!(["Bearer at-1-0"]),
            "{path}"
        );
    }
    for path in [
        "/one.json",
        "/one:get",
        "/index.php/one",
        "/one%2Fx",
        "/./one",
        "/x/../one",
        "/one/../x",
        "/x/..;/one",
        "/x%5cone",
        "//x/one",
        "/100%25",
    ] {
        for headers in [&[][..], &[&*format!("Authorization: Bearer {one}")]] {
            let reply = server.send("GET", path, headers).await;
            assert_eq!(reply.status, 400, "{path}");
            assert_eq!(reply.body["error"], "invalid_request", "{path}");
            assert_eq!(
                reply.challenge, "",
                "{path}: the credentials are not the reason"
            );
        }
    }
    for path in ["/X//y;z", "/%61?b"] {
        let reply = server.get(path, &api).await;
        assert_eq!(reply.body["path"], path, "other paths are unchanged");
    }
    assert_eq!(server.send("OPTIONS", "*", &[]).await.status, 401);
}

#[tokio::test]
async fn without_resources_paths_are_not_compared() {
    let app = issuing();
    let server = Server::start(&app, |builder| builder).await;
    let token = issued(&app, r#"{"scope":"use"}"#, &[]).await;
    for path in ["/x/../one", "/a%2Fb", "//x;y/../z"] {
        let reply = server.get(path, &token).await;
        assert_eq!(reply.body["path"], path);
        assert_eq!(server.send("GET", path, &[]).await.status, 401);
    }
}

#[tokio::test]
async fn an_allowed_ambiguous_path_has_the_requirements_of_other_paths() {
    let app = issuing();
    let server = Server::start(&app, |builder| {
        table(builder).allow_ambiguous_paths("/projects")
    })
    .await;
    let api = issued(&app, r#"{"scope":"use"}"#, &[API]).await;
    let one = issued(&app, r#"{"scope":"use one"}"#, &[ONE]).await;
    let path = "/projects/group%2Fname";
    assert_eq!(server.get(path, &api).await.body["path"], path);
    assert_eq!(server.status(path, &one).await, 401);
    for path in ["/projects/..%2fone", "/others/a%2Fb"] {
        assert_eq!(server.status(path, &one).await, 400, "{path}");
    }
}

#[tokio::test]
async fn paths_without_a_resource_can_be_open() {
    let app = issuing();
    let server = Server::start(&app, |builder| table(builder).open_elsewhere(true)).await;
    let one = issued(&app, r#"{"scope":"use one"}"#, &[ONE]).await;
    for path in ["/", "/ones", "/X//y"] {
        for token in ["anything", &*one] {
            let reply = server.get(path, token).await;
            let authorization = [format!("Bearer {token}")];
            let expected = json!({"path": path, "authorization": authorization, "client": null});
            assert_eq!(reply.body, expected, "{path}");
        }
        assert_eq!(server.send("GET", path, &[]).await.status, 200, "{path}");
    }
    assert_eq!(server.send("OPTIONS", "*", &[]).await.status, 200);
    for path in ["/one", "//ONE/x", "/two"] {
        assert_eq!(server.send("GET", path, &[]).await.status, 401, "{path}");
    }
    assert_eq!(server.status("/one", &one).await, 200);
    assert_eq!(server.status("/x/../one", &one).await, 400);
}

#[tokio::test]
async fn preflights_pass_without_credentials() {
    const ORIGIN: &str = "Origin: https://app.example";
    const METHOD: &str = "Access-Control-Request-Method: GET";
    let app = issuing();
    let passing = Server::start(&app, |builder| table(builder).pass_preflights(true)).await;
    let strict = Server::start(&app, table).await;
    let credentials = "Authorization: Bearer anything";
    for (path, forwarded) in [("/x", "/x"), ("/ONE/x", "/one/x")] {
        let headers = [ORIGIN, METHOD, credentials];
        let reply = passing.send("OPTIONS", path, &headers).await;
        assert_eq!(reply.status, 200, "{path}");
        let expected = json!({"path": forwarded, "authorization": [], "client": null});
        assert_eq!(reply.seen, expected, "{path}");
        assert_eq!(
            reply.body,
            Value::Null,
            "a handler of any method discloses nothing"
        );
        for content in [
            "Content-Length: 2",
            "Content-Type: application/json",
            "Transfer-Encoding: chunked",
        ] {
            let headers = [ORIGIN, METHOD, content];
            let reply = passing.send("OPTIONS", path, &headers).await;
            assert_eq!(reply.status, 401, "{content}");
        }
        let refused = strict.send("OPTIONS", path, &headers).await;
        assert_eq!(refused.status, 401, "{path}");
        for (method, headers) in [
            ("OPTIONS", &[METHOD, credentials][..]),
            ("OPTIONS", &[ORIGIN, credentials]),
            ("GET", &[ORIGIN, METHOD, credentials]),
        ] {
            let reply = passing.send(method, path, headers).await;
            assert_eq!(reply.status, 401, "{method} {headers:?}");
        }
    }
    let reply = passing
        .send("OPTIONS", "/x/../one", &[ORIGIN, METHOD])
        .await;
    assert_eq!(reply.status, 400);
}

#[tokio::test]
async fn requests_without_a_token_pass_if_allowed() {
    let app = issuing();
    let server = Server::start(&app, |builder| table(builder).allow_anonymous(true)).await;
    let one = issued(&app, r#"{"scope":"use one"}"#, &[ONE]).await;
    for path in ["/", "/one/admin"] {
        for headers in [&[][..], &["Authorization: Basic YTpi"]] {
            let reply = server.send("GET", path, headers).await;
            assert_eq!(reply.status, 200, "{path}");
            assert_eq!(reply.body["client"], Value::Null, "{path}");
        }
    }
    assert_eq!(server.get("/one", &one).await.body["client"], "app");
    assert_eq!(server.status("/one/admin", &one).await, 403);
    assert_eq!(server.status("/one", "anything").await, 401);
    let twice = ["Authorization: Bearer a", "Authorization: Basic YTpi"];
    assert_eq!(server.send("GET", "/one", &twice).await.status, 400);
}
