use http::HeaderValue;
use http::header::{COOKIE, HeaderName};
use http_body_util::Full;

use super::*;

/// Returns the headers of a request from 192.0.2.1, as the upstream receives them.
fn forwarded(trusted: &str, sent: &[(&str, &str)], added: Option<HeaderMap>) -> HeaderMap {
    let settings = Settings {
        upstream: "http://upstream.example".parse().unwrap(),
        preserve_host: false,
        edge: Edge::new(None, &[trusted.parse().unwrap()]),
        timeout: Duration::from_secs(1),
        unlimited: Vec::new(),
        refuse_front_channel: false,
        metrics: Metrics::default(),
    };
    let mut request = Request::get("/x").header("host", "a");
    for (name, value) in sent {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Full::<Bytes>::default()).unwrap();
    if let Some(added) = added {
        request.extensions_mut().insert(AddedHeaders(added));
    }
    let forward = Forward::new(settings).unwrap();
    let forward = forward.for_client(SocketAddr::from(([192, 0, 2, 1], 1)));
    let (request, _) = forward.prepare(request).unwrap();
    request.headers().clone()
}

fn lines<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let values = headers.get_all(name).iter();
    values.map(|value| value.to_str().unwrap()).collect()
}

const TRUSTED: &str = "192.0.2.0/24";
const OTHER: &str = "10.0.0.0/8";

#[test]
fn added_headers_replace_those_of_the_client() {
    let sent = [
        ("x-tenant", "forged"),
        ("x-tenant", "forged too"),
        ("x_tenant", "forged"),
        ("x-kept", "1"),
    ];
    let mut added = HeaderMap::new();
    for value in ["one", "two"] {
        added.append(
            HeaderName::from_static("x-tenant"),
            HeaderValue::from_static(value),
        );
    }
    added.insert("x-new", HeaderValue::from_static("1"));
    for trusted in [TRUSTED, OTHER] {
        let headers = forwarded(trusted, &sent, Some(added.clone()));
        assert_eq!(lines(&headers, "x-tenant"), ["one", "two"], "{trusted}");
        assert_eq!(lines(&headers, "x_tenant"), [""; 0], "{trusted}");
        assert_eq!(lines(&headers, "x-kept"), ["1"], "{trusted}");
        assert_eq!(lines(&headers, "x-new"), ["1"], "{trusted}");
    }
}

#[test]
fn cookies_are_one_line() {
    for (sent, joined) in [
        (&[][..], &[][..]),
        (&["a=1; b=2"], &["a=1; b=2"]),
        (&["a=1", "b=2"], &["a=1; b=2"]),
        (&["a=1;b=2", " c=3 ", "", "d"], &["a=1;b=2; c=3; d"]),
        (&["", ""], &[""]),
    ] {
        let sent: Vec<_> = sent.iter().map(|value| (COOKIE.as_str(), *value)).collect();
        let headers = forwarded(OTHER, &sent, None);
        assert_eq!(lines(&headers, "cookie"), joined, "{sent:?}");
    }
}

#[test]
fn connection_removes_nothing_that_a_trusted_proxy_has_added() {
    let sent = [
        ("connection", "x-tenant-id, Keep-Alive, x-request-id"),
        ("x-tenant-id", "7"),
        ("x-request-id", "1"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("upgrade", "websocket"),
    ];
    let headers = forwarded(TRUSTED, &sent, None);
    assert_eq!(lines(&headers, "x-tenant-id"), ["7"]);
    assert_eq!(lines(&headers, "x-request-id"), ["1"]);
    let untrusted = forwarded(OTHER, &sent, None);
    for name in ["x-tenant-id", "x-request-id"] {
        assert!(!untrusted.contains_key(name), "RFC 9110 §7.6.1: {name}");
    }
    for name in ["connection", "keep-alive", "te", "upgrade"] {
        assert!(!headers.contains_key(name), "{name}");
        assert!(!untrusted.contains_key(name), "{name}");
    }
}

/// Headers in which reverse proxies name a user or a certificate.
const IDENTITIES: [&str; 30] = [
    "client-cert",
    "client-cert-chain",
    "ssl-client-cert",
    "ssl_client_s_dn",
    "x-ssl",
    "x-ssl-cert",
    "x-ssl-client-verify",
    "x-client-cert",
    "x-client-certificate",
    "x_client_cert_dn",
    "x-client-verify",
    "x-arr-clientcert",
    "x-amzn-mtls-clientcert",
    "wl-proxy-client-cert",
    "remote-user",
    "remote_user",
    "remote-groups",
    "x-remote-user",
    "x-remote-extra-scopes",
    "x-auth-request-user",
    "x-auth-request-access-token",
    "x_auth_request_email",
    "x-auth-user",
    "x-amzn-oidc-data",
    "x-goog-authenticated-user-email",
    "x-ms-client-principal-id",
    "cf-access-authenticated-user-email",
    "x-webauth-user",
    "x-forwarded-preferred-username",
    "sm_user",
];

#[test]
fn only_a_trusted_proxy_names_users_and_certificates() {
    for name in IDENTITIES {
        let untrusted = forwarded(OTHER, &[(name, "forged")], None);
        assert!(!untrusted.contains_key(name), "{name}");
        if !name.contains("forwarded") || !name.contains('_') {
            let trusted = forwarded(TRUSTED, &[(name, "v")], None);
            assert_eq!(lines(&trusted, name), ["v"], "{name}");
        }
    }
    // Headers of clients that look similar.
    for name in [
        "x-client-sku",
        "x-client-info",
        "x-client-id",
        "x-ms-client-request-id",
        "x-user-agent",
        "x-user-id",
        "x-auth-token",
        "x-api-key",
        "x-request-id",
        "authorization",
        "dpop",
        "client_id",
    ] {
        let headers = forwarded(OTHER, &[(name, "v")], None);
        assert_eq!(lines(&headers, name), ["v"], "{name}");
    }
}
