//! `--mcp-upstream` of the example `mcp`: the proxy to another MCP server.

use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{AppendHeaders, IntoResponse as _, Response};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Channel};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use test_support::PATIENCE;
use test_support::http::{Recorder, raw, send, serve};
use test_support::process::Example;
use test_support::tokens::made_up;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::PROGRAM;
use crate::support::identity::Identity;
use crate::support::mcp::{self, Browser, one, query, request};
use crate::support::mcp_client::{McpClient, REDIRECT, assert_error};

struct Fixture {
    identity: Identity,
    server: Example,
    client: McpClient,
    access: String,
}

impl Fixture {
    async fn start(upstream: &str, more: &[&str]) -> Self {
        let identity = Identity::start().await;
        let mut flags = identity.flags();
        flags.extend(
            ["--mcp-upstream", upstream]
                .into_iter()
                .chain(more.iter().copied())
                .map(str::to_owned),
        );
        let server = mcp::start(&flags).await;
        let client = McpClient::register(&server).await;
        let access = client.log_in(&server).await.string("access_token");
        Self {
            identity,
            server,
            client,
            access,
        }
    }
}

#[tokio::test]
async fn the_upstream_gets_the_providers_token_and_no_credential_of_the_client() {
    for (name, flags, swapped) in [
        ("by default", &[][..], true),
        ("strip", &["--mcp-token", "strip"], false),
    ] {
        let upstream =
            Recorder::start(|_| (StatusCode::ACCEPTED, [("mcp-session-id", "s1")], "taken")).await;
        let fixture = Fixture::start(&format!("{}/some/mcp", upstream.url()), flags).await;
        let authorization = format!("Bearer {}", fixture.access);
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
            ("mcp-session-id", "s1"),
            ("cookie", "__Host-browser=secret"),
            (
                "connection",
                "x-hop, Authorization,content-type , x-forwarded-for,mcp-session-id",
            ),
            ("x-hop", "1"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x_forwarded_host", "forged.example"),
            ("forwarded", "for=192.0.2.1"),
            ("x-http-method-override", "DELETE"),
            ("x-original-url", "/admin"),
        ];
        let answer = send(
            "POST",
            &fixture.server.url("/mcp?a=b"),
            &headers,
            r#"{"jsonrpc":"2.0"}"#,
        )
        .await;
        assert_eq!(
            (answer.status, answer.text()),
            (StatusCode::ACCEPTED, "taken"),
            "{name}"
        );
        assert_eq!(answer.headers["mcp-session-id"], "s1", "{name}");

        let seen = upstream.last("/some/mcp");
        assert_eq!(
            (seen.method.as_str(), seen.target.as_str()),
            ("POST", "/some/mcp?a=b"),
            "{name}"
        );
        assert_eq!(&seen.body[..], br#"{"jsonrpc":"2.0"}"#, "{name}");
        assert_eq!(seen.header("mcp-session-id"), Some("s1"), "{name}");
        assert_eq!(
            seen.header("host"),
            Some(upstream.addr.to_string().as_str()),
            "{name}"
        );
        for gone in [
            "cookie",
            "x-hop",
            "connection",
            "x_forwarded_host",
            "x-http-method-override",
            "x-original-url",
        ] {
            assert_eq!(seen.header(gone), None, "{name}: {gone}");
        }
        assert_eq!(
            seen.header("content-type"),
            Some("application/json"),
            "{name}"
        );
        let here = fixture.server.addr().to_string();
        assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"), "{name}");
        assert_eq!(seen.header("x-forwarded-host"), Some(&*here), "{name}");
        assert_eq!(
            seen.header("forwarded"),
            Some(&*format!("for=127.0.0.1;proto=http;host=\"{here}\"")),
            "{name}"
        );
        let token = seen.header("authorization");
        let providers = fixture
            .identity
            .secrets()
            .into_iter()
            .find(|secret| secret.starts_with("identity-access-"));
        let expected = providers
            .filter(|_| swapped)
            .map(|token| format!("Bearer {token}"));
        assert_eq!(token, expected.as_deref(), "{name}");
        for method in ["GET", "DELETE"] {
            let answer = send(method, &fixture.server.url("/mcp"), &headers[..1], "").await;
            assert_eq!(answer.status, StatusCode::ACCEPTED, "{name}: {method}");
            assert_eq!(upstream.last("/some/mcp").method.as_str(), method, "{name}");
        }
    }
}

/// Servers answer these methods with the request that they received.
#[tokio::test]
async fn methods_that_echo_the_request_do_not_reach_the_upstream() {
    let upstream = Recorder::start(|seen| format!("{:?}", seen.headers)).await;
    let flags = ["--identity-headers"];
    let fixture = Fixture::start(&format!("{}/mcp", upstream.url()), &flags).await;
    let authorization = format!("Bearer {}", fixture.access);
    for method in ["TRACE", "TRACK"] {
        for path in ["/mcp", "/mcp/", "/token", "/"] {
            let headers = [("authorization", &*authorization)];
            let answer = send(method, &fixture.server.url(path), &headers, "").await;
            assert_eq!(
                answer.status,
                StatusCode::NOT_IMPLEMENTED,
                "{method} {path}"
            );
            assert!(
                !answer.text().contains("identity-access-"),
                "{method} {path}"
            );
        }
    }
    assert!(upstream.all().is_empty(), "{:?}", upstream.all());
}

#[tokio::test]
async fn the_upstream_gets_forwarded_headers_of_trusted_networks() {
    let upstream = Recorder::start(|_| "ok").await;
    let fixture = Fixture::start(
        &upstream.url(),
        &["--trust-forwarded", "10.0.0.0/8,127.0.0.0/8"],
    )
    .await;
    let authorization = format!("Bearer {}", fixture.access);
    let headers = [
        ("authorization", &*authorization),
        ("x-forwarded-for", "192.0.2.1"),
        ("forwarded", "for=192.0.2.1"),
    ];
    send("POST", &fixture.server.url("/mcp"), &headers, "{}").await;
    let seen = upstream.last("/");
    assert_eq!(seen.header("x-forwarded-for"), Some("192.0.2.1, 127.0.0.1"));
    assert_eq!(seen.header("x-real-ip"), Some("192.0.2.1"));
    assert!(
        seen.header("forwarded")
            .unwrap()
            .starts_with("for=192.0.2.1, for=127.0.0.1;"),
        "{seen:?}"
    );
}

#[tokio::test]
async fn requests_without_an_access_token_do_not_reach_the_upstream() {
    let upstream = Recorder::start(|_| "reached").await;
    let fixture = Fixture::start(
        &format!("{}/mcp", upstream.url()),
        &["--require-scope", "openid"],
    )
    .await;
    let metadata = fixture
        .server
        .url("/.well-known/oauth-protected-resource/mcp");
    for (name, authorization) in [
        ("none", None),
        ("another scheme", Some("Basic eDp5".to_owned())),
        (
            "an unknown token",
            Some(format!("Bearer {}", made_up("at_"))),
        ),
        (
            "the provider's token",
            Some(format!(
                "Bearer {}",
                fixture.identity.secrets().pop().unwrap()
            )),
        ),
    ] {
        let headers: Vec<_> = authorization
            .iter()
            .map(|value| ("authorization", value.as_str()))
            .collect();
        for method in ["POST", "GET", "DELETE"] {
            let answer = send(method, &fixture.server.url("/mcp"), &headers, "").await;
            assert_eq!(answer.status, 401, "{name}: {}", answer.text());
            let challenge = answer.headers["www-authenticate"].to_str().unwrap();
            assert!(
                challenge.contains(&format!("resource_metadata=\"{metadata}\"")),
                "{name}: {challenge}"
            );
        }
    }
    for path in ["/mcp/../mcp", "//mcp", "/%6dcp", "/mcp/x", "/MCP"] {
        let authorization = format!("Bearer {}", fixture.access);
        let answer = send(
            "POST",
            &fixture.server.url(path),
            &[("authorization", &authorization)],
            "",
        )
        .await;
        assert_ne!(answer.text(), "reached", "{path}");
    }
    assert!(upstream.all().is_empty(), "{:?}", upstream.all());

    let strict = Fixture::start(
        &format!("{}/mcp", upstream.url()),
        &[
            "--scope",
            "openid profile admin",
            "--require-scope",
            "admin",
        ],
    )
    .await;
    let scope = [("scope", "openid profile")];
    let asked = request(&strict.server, &strict.client.id, REDIRECT, &scope);
    let told = query(&Browser::default().log_in(&asked, REDIRECT).await);
    let code = one(&told, "code").unwrap();
    let tokens = strict.client.exchange(&strict.server, code, &[]).await;
    let authorization = format!("Bearer {}", tokens.string("access_token"));
    let answer = send(
        "POST",
        &strict.server.url("/mcp"),
        &[("authorization", &authorization)],
        "",
    )
    .await;
    assert_error(
        &answer,
        403,
        "insufficient_scope",
        "a scope that was not granted",
    );
    assert!(
        answer.headers["www-authenticate"]
            .to_str()
            .unwrap()
            .contains(r#"scope="openid profile admin""#)
    );
    assert!(upstream.all().is_empty(), "{:?}", upstream.all());
}

/// Sends a request verbatim. Returns the status of the response.
async fn status_of(server: &Example, request: &str) -> u16 {
    let answer = timeout(PATIENCE, raw(server.addr(), request))
        .await
        .expect("an answer");
    let status = answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok());
    status.unwrap_or_else(|| panic!("{request:?}: {answer:?}"))
}

#[tokio::test]
async fn hosts_and_origins_are_checked_for_built_in_and_upstream_servers() {
    const PUBLIC: &str = "https://mcp.example.com";
    let upstream = Recorder::start(|_| "reached").await;
    let identity = Identity::start().await;
    let endpoint = format!("{}/mcp", upstream.url());
    for more in [
        &[][..],
        &["--mcp-upstream", &endpoint],
        &["--mcp-upstream", &endpoint, "--mcp-token", "strip"],
    ] {
        let own = more.is_empty();
        let mut flags = identity.flags();
        flags.extend(
            [
                "--public-url",
                PUBLIC,
                "--allowed-origin",
                "https://app.example.com",
            ]
            .map(str::to_owned),
        );
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        let server = mcp::start(&flags).await;
        let (port, before) = (server.addr().port(), upstream.all().len());
        let here = format!("127.0.0.1:{port}");
        let request = |target: &str, headers: &str| {
            let json = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
            format!(
                "POST {target} HTTP/1.1\r\n{headers}connection: close\r\naccept: application/json, text/event-stream\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n{json}",
                json.len()
            )
        };
        // Without an access token, a request that passes these checks gets 401.
        let good = [
            format!("host: {here}\r\n"),
            format!("host: localhost:{port}\r\n"),
            format!("host: LOCALHOST:{port}\r\n"),
            format!("host: [::1]:{port}\r\n"),
            "host: mcp.example.com\r\n".into(),
            "host: MCP.example.COM:443\r\n".into(),
            format!("host: {here}\r\norigin: {PUBLIC}\r\n"),
            format!("host: {here}\r\norigin: {PUBLIC}:443\r\n"),
            format!("host: {here}\r\norigin: https://app.example.com\r\n"),
            format!("host: {here}\r\norigin: http://localhost\r\n"),
            format!("host: {here}\r\norigin: http://localhost:1234\r\n"),
            format!("host: {here}\r\norigin: http://[::1]:6274\r\n"),
        ];
        for headers in good {
            assert_eq!(
                status_of(&server, &request("/mcp", &headers)).await,
                401,
                "{more:?}: {headers:?}"
            );
        }
        let hosts = [
            "evil.example".to_owned(),
            format!("evil.example:{port}"),
            "evil@127.0.0.1".into(),
            format!("evil@{here}"),
            "evil@mcp.example.com".into(),
            format!("{here}@evil.example"),
            "127.0.0.1".into(),
            format!("{here}.evil.example"),
            format!("localhost.evil.example:{port}"),
            format!("localhost.:{port}"),
            "mcp.example.com.".into(),
            "mcp.example.com:80".into(),
            "mcp.example.com:".into(),
            "mcp.example.com evil.example".into(),
            "mcp.example.com, evil.example".into(),
            "mcp.example.com/x".into(),
            format!("[::1%25lo]:{port}"),
            format!("[::ffff:127.0.0.1]:{port}"),
            format!("127.1:{port}"),
            format!("2130706433:{port}"),
            "\u{fc}.example".into(),
            String::new(),
        ];
        for host in hosts {
            let status = status_of(&server, &request("/mcp", &format!("host: {host}\r\n"))).await;
            assert!([400, 403].contains(&status), "{more:?}: {host:?}: {status}");
        }
        let origins = [
            "null",
            "",
            "*",
            "https://evil.example",
            "http://localhost:1234.evil.example",
            "http://localhost.evil.example",
            "http://evil@localhost:1234",
            "http://localhost@evil.example",
            "http://localhost:1234/",
            "http://localhost:99999",
            "http://localhost.",
            "https://localhost:1234",
            "http://127.1",
            "https://app.example.com:8443",
            "http://app.example.com",
            "https://app.example.com.",
            "https://app.example.com.evil.example",
            "https://app.example.com:443@evil.example",
            "https://mcp.example.com:8443",
            "http://mcp.example.com",
            "https://app.example.com https://evil.example",
            "file://",
            "moz-extension://app.example.com",
        ];
        for origin in origins {
            let headers = format!("host: {here}\r\norigin: {origin}\r\n");
            assert_eq!(
                status_of(&server, &request("/mcp", &headers)).await,
                403,
                "{more:?}: {origin:?}"
            );
        }
        let twice = [
            ("/mcp", String::new()),
            ("/mcp", format!("host: {here}\r\nhost: {here}\r\n")),
            ("/mcp", format!("host: {here}\r\nhost: evil.example\r\n")),
            (
                "/mcp",
                format!("host: {here}\r\norigin: {PUBLIC}\r\norigin: https://evil.example\r\n"),
            ),
            ("http://evil.example/mcp", format!("host: {here}\r\n")),
            ("http://evil@127.0.0.1/mcp", format!("host: {here}\r\n")),
        ];
        for (target, headers) in twice {
            let status = status_of(&server, &request(target, &headers)).await;
            assert!(
                [400, 403].contains(&status),
                "{more:?}: {target} {headers:?}: {status}"
            );
        }
        assert_eq!(upstream.all().len(), before, "{more:?}");
        if own {
            let log = server.stderr();
            let warnings = log.lines().filter(|line| line.contains("WARN"));
            assert_eq!(
                warnings.collect::<Vec<_>>(),
                [""; 0],
                "a public https URL causes no warning"
            );
        }
    }
}

#[tokio::test]
async fn only_pages_of_allowed_origins_reach_the_upstream() {
    let upstream = Recorder::start(|_| "reached").await;
    let fixture = Fixture::start(
        &format!("{}/mcp", upstream.url()),
        &["--allowed-origin", "https://app.example.com"],
    )
    .await;
    let authorization = format!("Bearer {}", fixture.access);
    for (origin, status) in [
        ("https://app.example.com", 200),
        ("https://other.example.com", 403),
        ("null", 403),
    ] {
        let headers = [
            ("authorization", authorization.as_str()),
            ("origin", origin),
        ];
        let answer = send("POST", &fixture.server.url("/mcp"), &headers, "{}").await;
        assert_eq!(answer.status, status, "{origin}: {}", answer.text());
    }
    assert_eq!(upstream.all().len(), 1);
}

#[tokio::test]
async fn invalid_allowed_origins_are_rejected_at_startup() {
    for origin in [
        "app.example.com",
        "https://app.example.com/x",
        "https://*.example.com",
        "null",
        "*",
    ] {
        let output = tokio::task::spawn_blocking(move || {
            Example::run(
                PROGRAM,
                &["--listen", "127.0.0.1:0", "--allowed-origin", origin],
                &[],
            )
        });
        let output = output.await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{origin}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("--allowed-origin"), "{origin}: {stderr}");
    }
}

#[tokio::test]
async fn the_challenge_of_the_upstream_is_replaced() {
    for (status, ours) in [(401, true), (403, false), (200, false), (407, false)] {
        let upstream = Recorder::start(move |_| {
            let inner =
                r#"Bearer realm="inner", resource_metadata="http://inner.internal/.well-known/x""#;
            let challenges = AppendHeaders([
                ("www-authenticate", inner),
                ("www-authenticate", "Basic realm=\"inner\""),
                ("clear-site-data", "\"cookies\""),
            ]);
            (StatusCode::from_u16(status).unwrap(), challenges, "x")
        })
        .await;
        let fixture = Fixture::start(&format!("{}/mcp", upstream.url()), &[]).await;
        let authorization = format!("Bearer {}", fixture.access);
        let headers = [("authorization", authorization.as_str())];
        let answer = send("POST", &fixture.server.url("/mcp"), &headers, "{}").await;
        assert_eq!(answer.status, status);
        let challenges: Vec<_> = answer.headers.get_all("www-authenticate").iter().collect();
        assert!(
            !format!("{:?}", answer.headers).contains("inner"),
            "{status}: {:?}",
            answer.headers
        );
        assert!(!answer.headers.contains_key("clear-site-data"), "{status}");
        assert_eq!(
            challenges.len(),
            usize::from(ours),
            "{status}: {challenges:?}"
        );
        if let [challenge] = &challenges[..] {
            let metadata = fixture
                .server
                .url("/.well-known/oauth-protected-resource/mcp");
            let challenge = challenge.to_str().unwrap();
            for words in [
                "Bearer realm=\"mcp\"",
                "error=\"invalid_token\"",
                &format!("resource_metadata=\"{metadata}\""),
            ] {
                assert!(challenge.contains(words), "{challenge}");
            }
        }
    }
}

#[tokio::test]
async fn the_upstream_cannot_set_cookies_of_this_server() {
    const OURS: [&str; 14] = [
        "mcp-browser=x",
        "mcp-browser=x; Path=/; Domain=example.com",
        "__Host-mcp-browser=x; Secure; Path=/",
        "__host-MCP-Browser=x; Secure; Path=/",
        "__HOST-mcp-browser=x",
        "__Secure-mcp-browser=x; Secure",
        "__Http-mcp-browser=x",
        "__Host-Http-mcp-browser=x",
        " mcp-browser =x",
        "\"mcp-browser\"=x",
        "mcp-browser",
        "=mcp-browser=x",
        " = mcp-browser=x",
        "mcp-browser; Path=/",
    ];
    const OTHERS: [&str; 3] = [
        "session=1; Path=/",
        "__Host-x=mcp-browser; Secure; Path=/",
        "browser=2",
    ];
    let upstream = Recorder::start(|_| {
        let cookies: Vec<_> = OTHERS[..1]
            .iter()
            .chain(&OURS)
            .chain(&OTHERS[1..])
            .map(|c| ("set-cookie", *c))
            .collect();
        (AppendHeaders(cookies), "x")
    })
    .await;
    let fixture = Fixture::start(&format!("{}/mcp", upstream.url()), &[]).await;
    let authorization = format!("Bearer {}", fixture.access);
    let answer = send(
        "POST",
        &fixture.server.url("/mcp"),
        &[("authorization", &authorization)],
        "{}",
    )
    .await;
    assert_eq!(answer.status, StatusCode::OK);
    let cookies: Vec<_> = answer
        .headers
        .get_all("set-cookie")
        .iter()
        .map(|cookie| cookie.to_str().unwrap())
        .collect();
    assert_eq!(cookies, OTHERS);
}

#[tokio::test]
async fn bodies_stream_in_both_directions() {
    // Echoes each part of the body as it arrives.
    let echo = async |request: Request| -> Response {
        let (sender, receiver) = mpsc::channel::<Bytes>(1);
        let (mut into, body) = Channel::<Bytes, Infallible>::new(1);
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                if let Ok(data) = frame.into_data() {
                    sender.send(data).await.unwrap();
                }
            }
        });
        tokio::spawn(async move {
            let mut receiver = receiver;
            while let Some(data) = receiver.recv().await {
                into.send_data(data).await.unwrap();
            }
        });
        ([("content-type", "text/event-stream")], Body::new(body)).into_response()
    };
    let upstream = serve(Router::new().route("/mcp", axum::routing::post(echo))).await;
    let fixture = Fixture::start(&format!("http://{upstream}/mcp"), &[]).await;

    let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
    let request = hyper::Request::post(fixture.server.url("/mcp"))
        .header("authorization", format!("Bearer {}", fixture.access))
        .body(body)
        .unwrap();
    let client: Client<_, _> = Client::builder(TokioExecutor::new()).build_http();
    let response = timeout(PATIENCE, client.request(request))
        .await
        .expect("the response begins before the request has ended")
        .unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    for part in ["data: one\n\n", "data: two\n\n"] {
        sender.send_data(part.into()).await.unwrap();
        let frame = timeout(PATIENCE, body.frame())
            .await
            .expect("each part is forwarded on its own")
            .unwrap()
            .unwrap();
        assert_eq!(frame.into_data().unwrap(), part);
    }
    drop(sender);
    assert!(
        timeout(PATIENCE, body.frame())
            .await
            .expect("the end")
            .is_none()
    );
}

/// The upstream server would keep the stream open.
#[tokio::test]
async fn a_stream_is_ended_properly_at_a_shutdown() {
    let (started, mut senders) = mpsc::unbounded_channel();
    let events = async move || -> Response {
        let (sender, body) = Channel::<Bytes, Infallible>::new(1);
        started.send(sender).unwrap();
        ([("content-type", "text/event-stream")], Body::new(body)).into_response()
    };
    let upstream = serve(Router::new().route("/mcp", axum::routing::get(events))).await;
    let limit = ["--shutdown-timeout", "0.2"];
    let mut fixture = Fixture::start(&format!("http://{upstream}/mcp"), &limit).await;
    let request = hyper::Request::get(fixture.server.url("/mcp"))
        .header("authorization", format!("Bearer {}", fixture.access))
        .body(http_body_util::Empty::<Bytes>::new())
        .unwrap();
    let http: Client<_, _> = Client::builder(TokioExecutor::new()).build_http();
    let mut body = http.request(request).await.unwrap().into_body();
    let mut sender = senders.recv().await.unwrap();
    sender.send_data("data: x\n\n".into()).await.unwrap();
    let frame = timeout(PATIENCE, body.frame()).await.unwrap().unwrap();
    assert_eq!(frame.unwrap().into_data().unwrap(), "data: x\n\n");
    fixture.server.terminate();
    let end = timeout(PATIENCE, body.frame()).await.unwrap();
    assert!(end.is_none(), "{end:?}");
    let status = fixture.server.ended(PATIENCE).await;
    assert!(status.success(), "{:?}", fixture.server);
}

#[tokio::test]
async fn a_stream_ends_when_the_client_revokes_its_session() {
    let (started, mut senders) = mpsc::unbounded_channel();
    let events = async move || -> Response {
        let (sender, body) = Channel::<Bytes, Infallible>::new(1);
        started.send(sender).unwrap();
        ([("content-type", "text/event-stream")], Body::new(body)).into_response()
    };
    let upstream = serve(Router::new().route("/mcp", axum::routing::get(events))).await;
    let identity = Identity::start().await;
    let mut flags = identity.flags();
    let url = format!("http://{upstream}/mcp");
    flags.extend(["--mcp-upstream", &url, "--cache-ttl", "3600"].map(str::to_owned));
    let server = mcp::start(&flags).await;
    let client = McpClient::register(&server).await;
    let tokens = client.log_in(&server).await;
    let request = hyper::Request::get(server.url("/mcp"))
        .header(
            "authorization",
            format!("Bearer {}", tokens.string("access_token")),
        )
        .header("accept", "text/event-stream")
        .body(http_body_util::Empty::<Bytes>::new())
        .unwrap();
    let http: Client<_, _> = Client::builder(TokioExecutor::new()).build_http();
    let mut body = http.request(request).await.unwrap().into_body();
    let mut sender = senders.recv().await.unwrap();
    for _ in 0..2 {
        sender.send_data("data: x\n\n".into()).await.unwrap();
        assert_eq!(
            timeout(PATIENCE, body.frame())
                .await
                .unwrap()
                .unwrap()
                .unwrap()
                .into_data()
                .unwrap(),
            "data: x\n\n"
        );
    }
    assert_eq!(
        client
            .revoke(&server, &tokens.string("refresh_token"))
            .await
            .status,
        StatusCode::OK
    );
    let end = timeout(PATIENCE, body.frame())
        .await
        .expect("the stream ends with its session");
    assert!(
        end.is_some_and(|frame| frame.is_err()),
        "the body must not end as if it were complete"
    );
}

#[tokio::test]
async fn an_unreachable_upstream_results_in_502() {
    // No server listens on port 1.
    let fixture = Fixture::start("http://127.0.0.1:1/mcp", &[]).await;
    let authorization = format!("Bearer {}", fixture.access);
    let answer = send(
        "POST",
        &fixture.server.url("/mcp"),
        &[("authorization", &authorization)],
        "{}",
    )
    .await;
    assert_error(&answer, 502, "server_error", "the upstream is down");
}

#[tokio::test]
async fn an_upstream_time_out_results_in_504() {
    let router = Router::new().fallback(async || std::future::pending::<()>().await);
    let upstream = serve(router).await;
    let fixture = Fixture::start(
        &format!("http://{upstream}/mcp"),
        &["--mcp-upstream-timeout", "0.2"],
    )
    .await;
    let authorization = format!("Bearer {}", fixture.access);
    for (method, body) in [("POST", "{}"), ("GET", "")] {
        let answer = send(
            method,
            &fixture.server.url("/mcp"),
            &[("authorization", &authorization)],
            body,
        )
        .await;
        assert_error(&answer, 504, "server_error", method);
    }
}

#[tokio::test]
async fn invalid_upstream_urls_are_rejected_at_startup() {
    for url in [
        "example.com/mcp",
        "ftp://example.com/mcp",
        "http://user@example.com/mcp",
        "http://example.com/mcp?x",
    ] {
        let output = tokio::task::spawn_blocking(move || {
            Example::run(
                PROGRAM,
                &["--listen", "127.0.0.1:0", "--mcp-upstream", url],
                &[],
            )
        });
        let output = output.await.unwrap();
        assert_eq!(output.status.code(), Some(2), "{url}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("--mcp-upstream"), "{url}: {stderr}");
    }
}
