//! The example proxy forwards what is not the layer's, as a reverse proxy must.

mod support;

use axum::http::StatusCode;
use tokio::net::TcpListener;

use self::support::http::{Recorder, get, raw, send};
use self::support::proxy;

#[tokio::test]
async fn method_path_query_headers_and_body_arrive_as_they_were_sent() {
    let upstream = Recorder::start(|seen| (StatusCode::IM_A_TEAPOT, [("x-answer", "yes")], seen.body.clone())).await;
    let proxy = proxy::start(&upstream.url(), &[]).await;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
        let target = "/a%2Fb/../c;d=1?x=%20y&x=2&&z";
        let answer = send(method, &proxy.url(target), &[("x-request", "1"), ("x-request", "2")], method).await;
        assert_eq!(answer.status, StatusCode::IM_A_TEAPOT, "{method}");
        assert_eq!(answer.headers["x-answer"], "yes");
        assert_eq!(answer.text(), method);
        let seen = upstream.last(target);
        assert_eq!(seen.method, method);
        assert_eq!(seen.target, target);
        assert_eq!(seen.body, method);
        assert_eq!(seen.headers.get_all("x-request").iter().collect::<Vec<_>>(), ["1", "2"]);
    }
    let answer = send("HEAD", &proxy.url("/head"), &[], "").await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::IM_A_TEAPOT, 0));
}

#[tokio::test]
async fn what_concerns_one_connection_alone_is_not_passed_on() {
    let upstream = Recorder::start(|_| {
        [
            ("connection", "x-private, close"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authenticate", "Basic"),
            ("proxy-connection", "keep-alive"),
            ("upgrade", "h2c"),
            ("trailer", "x-checksum"),
            ("x-public", "1"),
        ]
    })
    .await;
    let proxy = proxy::start(&upstream.url(), &[]).await;
    let headers = [
        ("connection", "x-private , X-Other"),
        ("connection", "upgrade, x-forwarded-for, forwarded"),
        ("x-private", "1"),
        ("x-other", "1"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("trailer", "x-checksum"),
        ("upgrade", "websocket"),
        ("proxy-authorization", "Basic eDp5"),
        ("proxy-connection", "keep-alive"),
        ("x-public", "1"),
        ("x-forwarded-for", "192.0.2.1"),
    ];
    let answer = send("POST", &proxy.url("/hops"), &headers, "body").await;
    let seen = upstream.last("/hops");
    let gone = [
        "connection",
        "x-private",
        "x-other",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "proxy-authorization",
        "proxy-authenticate",
        "proxy-connection",
        "transfer-encoding",
    ];
    for name in gone {
        assert_eq!(seen.header(name), None, "the upstream got {name}");
        assert_eq!(answer.headers.get(name), None, "the client got {name}");
    }
    assert_eq!(seen.header("x-public"), Some("1"));
    assert_eq!(answer.headers["x-public"], "1");
    assert_eq!(seen.header("x-forwarded-for"), Some("192.0.2.1, 127.0.0.1"), "a client may not remove it");
    assert_eq!(seen.body, "body");
}

#[tokio::test]
async fn the_upstream_is_told_of_the_client() {
    let upstream = Recorder::start(|_| "ok").await;
    let proxy = proxy::start(&upstream.url(), &[]).await;
    get(&proxy.url("/plain")).await;
    let (seen, host) = (upstream.last("/plain"), proxy.addr().to_string());
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-host"), Some(&*host));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("forwarded"), Some(&*format!("for=127.0.0.1;proto=http;host=\"{host}\"")));
    assert_eq!(seen.header("via"), Some("1.1 tower-oauth-refresh"));
    assert_eq!(seen.header("host"), Some(&*upstream.addr.to_string()));

    let headers = [
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-for", "192.0.2.2, 192.0.2.3"),
        ("x-forwarded-host", "forged"),
        ("x-forwarded-proto", "forged"),
        ("forwarded", "for=192.0.2.1"),
        ("host", r#"a"b\c"#),
    ];
    send("GET", &proxy.url("/chain"), &headers, "").await;
    let seen = upstream.last("/chain");
    assert_eq!(seen.header("x-forwarded-for"), Some("192.0.2.1, 192.0.2.2, 192.0.2.3, 127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-host"), Some(r#"a"b\c"#));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(
        seen.header("forwarded"),
        Some(r#"for=192.0.2.1, for=127.0.0.1;proto=http;host="a\"b\\c""#),
        "quoted, so that it cannot break out of its element"
    );
}

#[tokio::test]
async fn an_ipv6_client_is_quoted() {
    let upstream = Recorder::start(|_| "ok").await;
    if TcpListener::bind("[::1]:0").await.is_err() {
        return eprintln!("skipped: this machine has no IPv6");
    }
    let proxy = proxy::start(&upstream.url(), &["--listen", "[::1]:0"]).await;
    get(&proxy.url("/six")).await;
    let seen = upstream.last("/six");
    assert_eq!(seen.header("x-forwarded-for"), Some("::1"));
    let want = format!("for=\"[::1]\";proto=http;host=\"{}\"", proxy.addr());
    assert_eq!(seen.header("forwarded"), Some(&*want));
}

#[tokio::test]
async fn the_public_url_gives_the_scheme_that_clients_use() {
    let upstream = Recorder::start(|_| "ok").await;
    let proxy = proxy::start(&upstream.url(), &["--public-url", "https://login.example.com"]).await;
    send("GET", &proxy.url("/tls"), &[("host", "login.example.com")], "").await;
    let seen = upstream.last("/tls");
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.header("forwarded"), Some("for=127.0.0.1;proto=https;host=\"login.example.com\""));
}

#[tokio::test]
async fn the_host_is_kept_on_request() {
    let upstream = Recorder::start(|_| "ok").await;
    let proxy = proxy::start(&upstream.url(), &["--preserve-host"]).await;
    send("GET", &proxy.url("/host"), &[("host", "login.example.com")], "").await;
    assert_eq!(upstream.last("/host").header("host"), Some("login.example.com"));
    let request = "GET http://absolute.example/absolute HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n";
    raw(proxy.addr(), request).await;
    assert_eq!(upstream.last("/absolute").header("host"), Some("absolute.example"), "RFC 9112 §3.2.2");
}

#[tokio::test]
async fn a_request_without_one_host_is_refused() {
    let upstream = Recorder::start(|_| "ok").await;
    let proxy = proxy::start(&upstream.url(), &["--public-url", "http://proxy.example"]).await;
    for (name, request) in [
        ("no host", "GET /x HTTP/1.1\r\nConnection: close\r\n\r\n"),
        ("two hosts", "GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n"),
    ] {
        assert!(raw(proxy.addr(), request).await.starts_with("HTTP/1.1 400 "), "{name}");
    }
    assert!(upstream.all().iter().all(|seen| seen.target != "/x"));
    let old = raw(proxy.addr(), "GET /old HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200 "), "{old}");
    let tunnel = raw(proxy.addr(), "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nConnection: close\r\n\r\n").await;
    assert!(tunnel.starts_with("HTTP/1.1 501 "), "{tunnel}");
}

#[tokio::test]
async fn the_path_of_the_upstream_comes_first() {
    let upstream = Recorder::start(|_| "ok").await;
    for base in ["/auth", "/auth/"] {
        let proxy = proxy::start(&format!("{}{base}", upstream.url()), &[]).await;
        for (path, want) in
            [("/", "/auth/"), ("/x?y=1", "/auth/x?y=1"), ("//x", "/auth//x"), ("/a/../b", "/auth/a/../b")]
        {
            get(&proxy.url(path)).await;
            assert_eq!(requests(&upstream).last().unwrap(), want, "{path} behind {base}");
        }
        for path in ["/../x", "/a/../../x", "/%2e%2E/x", "/..%2fx", "/.%2e%5cx"] {
            let count = requests(&upstream).len();
            let answer = get(&proxy.url(path)).await;
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
            assert_eq!(answer.string("error"), "invalid_request");
            assert_eq!(requests(&upstream).len(), count, "{path} would leave {base}");
        }
    }
}

/// The targets of all requests but those of the look at the discovery documents.
fn requests(upstream: &Recorder) -> Vec<String> {
    let targets = upstream.all().into_iter().map(|seen| seen.target);
    targets.filter(|target| !target.contains("/.well-known/")).collect()
}
