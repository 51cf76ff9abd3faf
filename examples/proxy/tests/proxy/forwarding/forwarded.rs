//! The headers that describe the client.

use test_support::http::{Recorder, get, send};
use tokio::net::TcpListener;

use crate::proxy;

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
const FORGED: [(&str, &str); 43] = [
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
    ("Remote_Addr", "192.0.2.9"),
    ("x-real-client-ip", "192.0.2.9"),
    ("do-connecting-ip", "192.0.2.9"),
    ("cf-connecting-ipv6", "2001:db8::9"),
    ("x-cdn-src-ip", "192.0.2.9"),
    ("x-vercel-forwarded-for", "192.0.2.9"),
    ("x-ms-forwarded-client-ip", "192.0.2.9"),
    ("forwarded-host", "forged.example"),
    ("x-http-host-override", "forged.example"),
    ("x-proxied-https", "on"),
    ("x-script-name", "/forged"),
    ("$WSRU", "forged"),
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
