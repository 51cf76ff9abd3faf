//! Headers that the proxy keeps or removes.

use axum::http::{HeaderMap, HeaderValue};
use test_support::http::{Recorder, send};
use tokio::net::TcpStream;

use crate::proxy;

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
        // CGI variables that some servers take from headers.
        "SCRIPT_NAME",
        "script-name",
        "PATH_INFO",
        "query_string",
        "request.method",
        "REQUEST_URI",
        "x-traversal-path",
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
