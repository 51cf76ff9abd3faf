//! `--mcp-upstream` of the example `mcp`: the proxy to another MCP server.

mod challenges;
mod origins;
mod streams;

use axum::Router;
use axum::http::StatusCode;
use axum::response::AppendHeaders;
use test_support::http::{Recorder, send, serve};
use test_support::process::Example;

use crate::PROGRAM;
use crate::support::identity::Identity;
use crate::support::mcp::{self};
use crate::support::mcp_client::{McpClient, assert_error};

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
