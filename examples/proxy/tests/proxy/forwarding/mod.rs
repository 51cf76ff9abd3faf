//! The example proxy forwards all other requests, as a reverse proxy must.

mod forwarded;
mod headers;

use axum::http::StatusCode;
use test_support::http::{Recorder, get, raw, send};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::proxy;

#[tokio::test]
async fn requests_and_responses_are_forwarded_unchanged() {
    let upstream = Recorder::start(|seen| {
        (
            StatusCode::IM_A_TEAPOT,
            [("x-answer", "yes")],
            seen.body.clone(),
        )
    })
    .await;
    let proxy = proxy::start(&upstream.url(), &[]).await;
    for method in [
        "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND",
    ] {
        // No path may have a dot segment, and that of a POST must not be ambiguous.
        let target = match method {
            "POST" => "//a%20b/c%C3%A9;d=1/?x=%2F..%20y&x=2&&z",
            _ => "/a%2Fb/c;d=1?x=%20y&x=2&&z",
        };
        let answer = send(
            method,
            &proxy.url(target),
            &[("x-request", "1"), ("x-request", "2")],
            method,
        )
        .await;
        assert_eq!(answer.status, StatusCode::IM_A_TEAPOT, "{method}");
        assert_eq!(answer.headers["x-answer"], "yes");
        assert_eq!(answer.text(), method);
        let seen = upstream.last(target);
        assert_eq!(seen.method, method);
        assert_eq!(seen.target, target);
        assert_eq!(seen.body, method);
        assert_eq!(
            seen.headers.get_all("x-request").iter().collect::<Vec<_>>(),
            ["1", "2"]
        );
    }
    let answer = send("HEAD", &proxy.url("/head"), &[], "").await;
    assert_eq!(
        (answer.status, answer.body.len()),
        (StatusCode::IM_A_TEAPOT, 0)
    );
}

#[tokio::test]
async fn preserve_host_forwards_the_host_of_the_client() {
    let upstream = Recorder::start(|_| "ok").await;
    let proxy = proxy::start(&upstream.url(), &["--preserve-host"]).await;
    send(
        "GET",
        &proxy.url("/host"),
        &[("host", "login.example.com")],
        "",
    )
    .await;
    assert_eq!(
        upstream.last("/host").header("host"),
        Some("login.example.com")
    );
    let request = "GET http://absolute.example/absolute HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n";
    raw(proxy.addr(), request).await;
    assert_eq!(
        upstream.last("/absolute").header("host"),
        Some("absolute.example"),
        "RFC 9112 §3.2.2"
    );
}

/// Starts a server that sends this response to every request. Returns its URL.
async fn serve_raw(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    url
}

#[tokio::test]
async fn no_reason_phrase_of_the_upstream_reaches_a_client() {
    let answer = "HTTP/1.1 200 upstream-secret\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    let proxy = proxy::start(&serve_raw(answer).await, &[]).await;
    for request in [
        "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "POST /token HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 24\r\n\r\ngrant_type=a&client_id=b",
    ] {
        let answer = raw(proxy.addr(), request).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(!answer.contains("upstream-secret"), "{answer}");
    }
}

#[tokio::test]
async fn a_response_with_two_lengths_is_forwarded_by_its_chunks() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nwhole\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\nConnection: close\r\n\r\n5\r\nwhole\r\n0\r\n\r\n",
    ] {
        let proxy = proxy::start(&serve_raw(answer).await, &[]).await;
        let seen = get(&proxy.url("/x")).await;
        assert_eq!((seen.status, seen.text()), (StatusCode::OK, "whole"));
    }
}

#[tokio::test]
async fn a_request_without_exactly_one_valid_host_is_refused() {
    let upstream = Recorder::start(|_| "ok").await;
    let proxy = proxy::start(&upstream.url(), &["--public-url", "http://proxy.example"]).await;
    for (name, request) in [
        ("no host", "GET /x HTTP/1.1\r\nConnection: close\r\n\r\n"),
        (
            "two hosts",
            "GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
        ),
    ] {
        assert!(
            raw(proxy.addr(), request)
                .await
                .starts_with("HTTP/1.1 400 "),
            "{name}"
        );
    }
    for host in [
        "a, b",
        "a,b",
        "user@a",
        "user:password@a",
        "a/b",
        "a\\b",
        "a?b",
        "a#b",
        "a b",
        "a%2fb",
        "\"a\"",
        "<a>",
        "a;b",
        "a=b",
        "\u{e9}",
        "a:b",
        "a:1:2",
        "a:1, b",
        ":80",
        "[::1",
        "[::1]x",
        "[::1]:x",
        "[::1%25lo]",
        "[a]",
        "::1",
    ] {
        let request = format!("GET /x HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = raw(proxy.addr(), &request).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{host}: {answer}");
    }
    for target in ["http://user@a/x", "http://a,b/x"] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answer = raw(proxy.addr(), &request).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{target}: {answer}");
    }
    assert!(upstream.all().iter().all(|seen| seen.target != "/x"));
    for host in [
        "",
        "a",
        "A.example:",
        "my_host-1.example.:65535",
        "127.0.0.1:80",
        "[::1]",
        "[2001:db8::1]:8080",
        "[::ffff:127.0.0.1]",
    ] {
        let request = format!("GET /ok HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = raw(proxy.addr(), &request).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{host}: {answer}");
    }
    let old = raw(proxy.addr(), "GET /old HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200 "), "{old}");
    let tunnel = raw(
        proxy.addr(),
        "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(tunnel.starts_with("HTTP/1.1 501 "), "{tunnel}");
}

#[tokio::test]
async fn the_base_path_of_the_upstream_is_prepended() {
    let upstream = Recorder::start(|_| "ok").await;
    for base in ["/auth", "/auth/"] {
        let proxy = proxy::start(&format!("{}{base}", upstream.url()), &[]).await;
        for (path, want) in [
            ("/", "/auth/"),
            ("/x?y=/../z", "/auth/x?y=/../z"),
            ("//x", "/auth//x"),
            ("/a%2Fb", "/auth/a%2Fb"),
        ] {
            get(&proxy.url(path)).await;
            assert_eq!(
                requests(&upstream).last().unwrap(),
                want,
                "{path} below {base}"
            );
        }
        for path in [
            "/../x",
            "/a/../../x",
            "/a/../x",
            "/%2e%2E/x",
            "/..%2fx",
            "/.%2e%5cx",
            "/x%5cy/../../b/token",
            "/;/../x",
            "/%252e%252e/x",
            "/%c0%ae%c0%ae/x",
        ] {
            let count = requests(&upstream).len();
            let answer = get(&proxy.url(path)).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
            assert_eq!(answer.string("error"), "invalid_request");
            assert_eq!(
                requests(&upstream).len(),
                count,
                "{path} would leave {base}"
            );
        }
    }
}

/// Returns the targets of all requests except those for discovery documents.
fn requests(upstream: &Recorder) -> Vec<String> {
    let targets = upstream.all().into_iter().map(|seen| seen.target);
    targets
        .filter(|target| !target.contains("/.well-known/"))
        .collect()
}
