//! The example proxy forwards all other requests, as a reverse proxy must.

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use test_support::http::{Recorder, get, raw, send};
use tokio::net::{TcpListener, TcpStream};

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
async fn hop_by_hop_headers_are_not_forwarded() {
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
    assert_eq!(seen.body, "body");
}

/// Headers that a message keeps although `Connection` nominates them.
const END_TO_END: [(&str, &str); 22] = [
    ("authorization", "Basic eDp5"),
    ("content-type", "application/x-www-form-urlencoded"),
    ("content-encoding", "identity"),
    ("content-disposition", "inline"),
    ("cookie", "a=b"),
    ("dpop", "proof"),
    ("origin", "https://app.example.com"),
    ("referer", "https://app.example.com/x"),
    ("accept", "application/json"),
    ("accept-language", "de"),
    ("access-control-request-method", "POST"),
    ("sec-fetch-site", "cross-site"),
    ("if-none-match", "\"x\""),
    ("signature-input", "sig1=()"),
    ("x-api-key", "k"),
    ("x-csrf-token", "t"),
    ("x-amz-security-token", "t"),
    ("oauth-client-attestation", "jwt"),
    ("cache-control", "no-store"),
    ("mcp-protocol-version", "2025-06-18"),
    ("mcp-name", "x"),
    ("mcp-param-region", "x"),
];

#[tokio::test]
async fn connection_cannot_remove_end_to_end_headers() {
    let sent = [
        "set-cookie",
        "www-authenticate",
        "content-type",
        "location",
        "dpop-nonce",
        "access-control-allow-origin",
    ];
    let upstream = Recorder::start(move |_| {
        let mut headers = HeaderMap::new();
        for name in sent {
            headers.insert(name, HeaderValue::from_static("v"));
        }
        headers.insert(
            "connection",
            format!("x-private,{}", sent.join(" , ")).parse().unwrap(),
        );
        headers.insert("x-private", HeaderValue::from_static("1"));
        headers
    })
    .await;
    let proxy = proxy::start(&upstream.url(), &[]).await;
    let names: Vec<_> = END_TO_END.iter().map(|(name, _)| *name).collect();
    // In one header, in several headers, and with unusual case and spaces.
    let lists = [
        vec![names.join(",")],
        names.iter().map(|name| (*name).to_owned()).collect(),
        vec![names.join("\t ,,\t").to_uppercase()],
        vec![format!(
            "close, x-private, host, content-length, transfer-encoding, {}",
            names.join(", ")
        )],
    ];
    for (path, list) in ["/one", "/token"]
        .iter()
        .flat_map(|path| lists.iter().map(move |list| (path, list)))
    {
        let mut headers = END_TO_END.to_vec();
        headers.extend(list.iter().map(|value| ("connection", value.as_str())));
        headers.push(("x-private", "1"));
        let body = "grant_type=authorization_code&code=x";
        let answer = send("POST", &proxy.url(path), &headers, body).await;
        let seen = upstream.last(path);
        for (name, value) in END_TO_END {
            assert_eq!(
                seen.header(name),
                Some(value),
                "{path}: {name} with {list:?}"
            );
        }
        assert_eq!(
            seen.header("host"),
            Some(&*upstream.addr.to_string()),
            "{path}: {list:?}"
        );
        assert_eq!(seen.header("connection"), None, "{path}: {list:?}");
        assert_eq!(seen.body, body, "{path}: {list:?}");
        for name in sent {
            assert!(
                *path == "/token" || answer.headers.contains_key(name),
                "{name} is missing in the response"
            );
        }
        assert_eq!(answer.headers.get("x-private"), None);
    }
}

#[tokio::test]
async fn headers_that_replace_the_path_or_the_method_are_removed() {
    let upstream = Recorder::start(|_| "ok").await;
    let misleading = [
        "x-original-url",
        "X-Original-URL",
        "x_original_url",
        "x-original_uri",
        "x-rewrite-url",
        "X_Rewrite-URL",
        "x-http-method-override",
        "X_HTTP_METHOD_OVERRIDE",
        "x.http.method.override",
        "x-http-method",
        "x_http_method",
        "x-method-override",
        "X_METHOD_OVERRIDE",
        // Other spellings of checked headers and of hop-by-hop headers.
        "content_type",
        "content_length",
        "transfer_encoding",
        "proxy_authorization",
        "x_forwarded_for",
        "x_real_ip",
        "proxy",
    ];
    for flags in [&[][..], &["--trust-forwarded", "127.0.0.0/8"]] {
        let proxy = proxy::start(&upstream.url(), flags).await;
        for name in misleading {
            let target = format!("/x?{name}");
            let headers = [
                (name, "DELETE"),
                (name, "/token"),
                ("x-kept", "1"),
                ("client_id", "kept"),
            ];
            send("POST", &proxy.url(&target), &headers, "body").await;
            let seen = upstream.last(&target);
            assert!(
                !seen.headers.contains_key(name.to_ascii_lowercase()),
                "{flags:?}: {seen:?}"
            );
            assert_eq!(
                (seen.header("x-kept"), seen.header("client_id")),
                (Some("1"), Some("kept")),
                "{flags:?}: {name}"
            );
        }
    }
}

#[tokio::test]
async fn forwarding_headers_describe_the_client() {
    let upstream = Recorder::start(|_| "ok").await;
    let proxy = proxy::start(&upstream.url(), &[]).await;
    get(&proxy.url("/plain")).await;
    let (seen, host) = (upstream.last("/plain"), proxy.addr().to_string());
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-host"), Some(&*host));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(
        seen.header("forwarded"),
        Some(&*format!("for=127.0.0.1;proto=http;host=\"{host}\""))
    );
    assert_eq!(seen.header("via"), Some("1.1 tower-oauth-refresh"));
    assert_eq!(seen.header("host"), Some(&*upstream.addr.to_string()));
    assert_eq!(seen.header("x-forwarded-server"), Some("127.0.0.1"));
    assert_eq!(
        seen.header("x-forwarded-port"),
        Some(&*proxy.addr().port().to_string())
    );
    assert_eq!(seen.header("x-forwarded-prefix"), None);
    assert_eq!(seen.header("x-real-ip"), Some("127.0.0.1"));

    let headers = [("host", r#"a"b\c"#)];
    send("GET", &proxy.url("/quoted"), &headers, "").await;
    assert_eq!(
        upstream.last("/quoted").header("forwarded"),
        Some(r#"for=127.0.0.1;proto=http;host="a\"b\\c""#),
        "a quote in the host must not end its element"
    );
}

/// HTTP/2 clients send each cookie in a field of its own to compress them better.
#[tokio::test]
async fn cookie_fields_of_http2_become_one_line() {
    let upstream = Recorder::start(|_| "ok").await;
    let proxy = proxy::start(&upstream.url(), &[]).await;
    let stream = TcpStream::connect(proxy.addr()).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get(proxy.url("/cookies"))
        .header("cookie", "a=1")
        .header("cookie", "b=2; c=3")
        .header("cookie", "d=4");
    let mut client = client.ready().await.unwrap();
    let (answer, _) = client
        .send_request(request.body(()).unwrap(), true)
        .unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    let seen = upstream.last("/cookies");
    let lines: Vec<_> = seen.headers.get_all("cookie").iter().collect();
    assert_eq!(lines, ["a=1; b=2; c=3; d=4"]);
}

#[tokio::test]
async fn connection_removes_nothing_that_a_trusted_proxy_has_added() {
    let upstream = Recorder::start(|_| "ok").await;
    let headers = [("connection", "x-tenant-id"), ("x-tenant-id", "7")];
    for (flags, kept) in [
        (&[][..], None),
        (&["--trust-forwarded", "127.0.0.0/8"], Some("7")),
    ] {
        let proxy = proxy::start(&upstream.url(), flags).await;
        send("GET", &proxy.url("/tenant"), &headers, "").await;
        assert_eq!(upstream.last("/tenant").header("x-tenant-id"), kept);
    }
}

/// Headers with which a client can forge its identity.
const FORGED: [(&str, &str); 31] = [
    ("x-forwarded-for", "192.0.2.1"),
    ("x-forwarded-for", "192.0.2.2, 127.0.0.9"),
    ("x-forwarded-host", "forged.example"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-port", "8443"),
    ("x-forwarded-prefix", "/forged"),
    ("x-forwarded-server", "forged.example"),
    ("x-forwarded-ssl", "on"),
    ("x-forwarded-client-cert", "Subject=forged"),
    ("forwarded", "for=192.0.2.1"),
    ("forwarded", "for=192.0.2.2;proto=https"),
    ("x-real-ip", "192.0.2.9"),
    ("true-client-ip", "192.0.2.9"),
    ("cf-connecting-ip", "192.0.2.9"),
    ("front-end-https", "on"),
    ("http-client-ip", "192.0.2.9"),
    ("client-cert", ":YQ==:"),
    ("Client_Cert_Chain", ":YQ==:"),
    ("ssl-client-cert", "forged"),
    ("SSL_CLIENT_S_DN", "CN=forged"),
    ("x-ssl-client-verify", "SUCCESS"),
    ("x-client-cert", "forged"),
    ("x-client-cert-dn", "CN=forged"),
    ("x-arr-clientcert", "forged"),
    ("wl-proxy-client-cert", "forged"),
    ("remote-user", "forged"),
    ("X_Remote_User", "forged"),
    ("x-remote-group", "system:masters"),
    ("x-auth-request-user", "forged"),
    ("x-auth-request-access-token", "forged"),
    ("x-forwarded-preferred-username", "forged"),
];

#[tokio::test]
async fn forged_forwarding_headers_are_replaced() {
    let upstream = Recorder::start(|_| "ok").await;
    for (name, flags) in [
        ("by default", &[][..]),
        ("elsewhere", &["--trust-forwarded", "10.0.0.0/8,::1"]),
    ] {
        let proxy = proxy::start(&upstream.url(), flags).await;
        send("GET", &proxy.url("/forged"), &FORGED, "").await;
        get(&proxy.url("/honest")).await;
        let of = |target: &str| {
            let headers = upstream.last(target).headers;
            let lines = headers
                .iter()
                .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
            lines.collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(of("/forged"), of("/honest"), "{name}");
    }
}

#[tokio::test]
async fn forwarding_headers_from_a_trusted_network_are_kept() {
    let upstream = Recorder::start(|_| "ok").await;
    for (listen, network) in [
        ("127.0.0.1:0", "127.0.0.1"),
        ("127.0.0.1:0", "10.0.0.0/8,127.0.0.0/8,fd00::/8"),
        ("[::]:0", "127.0.0.0/8"),
        ("127.0.0.1:0", "::ffff:127.0.0.0/104"),
    ] {
        let flags = ["--listen", listen, "--trust-forwarded", network];
        let proxy = proxy::start(&upstream.url(), &flags).await;
        // Connects over IPv4: a dual-stack socket sees IPv4-mapped addresses.
        let url = format!("http://127.0.0.1:{}/chain", proxy.addr().port());
        send("GET", &url, &FORGED, "").await;
        let seen = upstream.last("/chain");
        let kept = [
            (
                "x-forwarded-for",
                "192.0.2.1, 192.0.2.2, 127.0.0.9, 127.0.0.1",
            ),
            ("x-forwarded-host", "forged.example"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "8443"),
            ("x-forwarded-prefix", "/forged"),
            ("x-forwarded-client-cert", "Subject=forged"),
            ("true-client-ip", "192.0.2.9"),
            ("client-cert", ":YQ==:"),
            ("ssl_client_s_dn", "CN=forged"),
            ("x-auth-request-user", "forged"),
        ];
        for (name, value) in kept {
            assert_eq!(seen.header(name), Some(value), "{flags:?}");
        }
        let chain = format!(
            "for=192.0.2.1, for=192.0.2.2;proto=https, for=127.0.0.1;proto=http;host=\"{}\"",
            &url[7..url.len() - 6]
        );
        assert_eq!(seen.header("forwarded"), Some(&*chain), "{flags:?}");
        let real = if network == "127.0.0.1" {
            "127.0.0.9"
        } else {
            "192.0.2.2"
        };
        assert_eq!(
            seen.header("x-real-ip"),
            Some(real),
            "the last untrusted address: {flags:?}"
        );

        send(
            "GET",
            &url,
            &[("x-forwarded-proto", "https"), ("x-real-ip", "192.0.2.9")],
            "",
        )
        .await;
        let seen = upstream.last("/chain");
        assert_eq!(seen.header("x-real-ip"), Some("192.0.2.9"), "{flags:?}");
        assert_eq!(seen.header("x-forwarded-proto"), Some("https"), "{flags:?}");
        assert_eq!(
            seen.header("x-forwarded-port"),
            None,
            "the port is unknown, because the port of this server is not that of https: {flags:?}"
        );
    }
    let flags = [
        "--public-url",
        "https://login.example.com/auth",
        "--trust-forwarded",
        "127.0.0.0/8",
    ];
    let proxy = proxy::start(&upstream.url(), &flags).await;
    send("GET", &proxy.url("/public"), &FORGED, "").await;
    let seen = upstream.last("/public");
    assert_eq!(
        seen.header("x-forwarded-for"),
        Some("192.0.2.1, 192.0.2.2, 127.0.0.9, 127.0.0.1")
    );
    assert_eq!(
        seen.header("x-forwarded-host"),
        Some("login.example.com"),
        "the public URL takes precedence"
    );
}

#[tokio::test]
async fn the_address_of_an_ipv6_client_is_quoted() {
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
async fn forwarding_headers_describe_the_public_url() {
    let upstream = Recorder::start(|_| "ok").await;
    let proxy = proxy::start(
        &upstream.url(),
        &["--public-url", "https://login.example.com"],
    )
    .await;
    for host in ["login.example.com", "forged.example"] {
        send("GET", &proxy.url("/tls"), &[("host", host)], "").await;
        let seen = upstream.last("/tls");
        assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
        assert_eq!(seen.header("x-forwarded-host"), Some("login.example.com"));
        assert_eq!(seen.header("x-forwarded-server"), Some("login.example.com"));
        assert_eq!(seen.header("x-forwarded-port"), Some("443"));
        assert_eq!(
            seen.header("forwarded"),
            Some("for=127.0.0.1;proto=https;host=\"login.example.com\"")
        );
    }
    let proxy = proxy::start(
        &upstream.url(),
        &["--public-url", "http://[2001:db8::1]:8080/tools/"],
    )
    .await;
    send("GET", &proxy.url("/six"), &[], "").await;
    let seen = upstream.last("/six");
    assert_eq!(seen.header("x-forwarded-host"), Some("[2001:db8::1]:8080"));
    assert_eq!(seen.header("x-forwarded-server"), Some("[2001:db8::1]"));
    assert_eq!(seen.header("x-forwarded-port"), Some("8080"));
    assert_eq!(seen.header("x-forwarded-prefix"), Some("/tools"));
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

#[tokio::test]
async fn a_request_without_exactly_one_host_is_refused() {
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
    assert!(upstream.all().iter().all(|seen| seen.target != "/x"));
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
