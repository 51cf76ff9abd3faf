//! The requirements of each prefix, and preflights.

use axum::http::StatusCode;
use test_support::Act;
use test_support::access::LOG_IN;
use test_support::http::{post, raw};

use super::{INVALID, Setup, access_token, parse, request};

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
            (StatusCode::OK, ""),
            "{path}: a handler of any method discloses nothing"
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
