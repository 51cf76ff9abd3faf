//! No spelling of a path bypasses the guards of the example proxy, however the upstream resolves
//! it. Sends many spellings over real sockets and compares them with eight ways to resolve a path.

use path_readings::{is_served, readings};
use test_support::http::{Recorder, Seen, raw};

use crate::proxy::{self, form, form_by};

/// Starts a server that answers every request with tokens.
async fn tokens_for_everything() -> Recorder {
    Recorder::start(|_| {
        let body = r#"{"access_token":"a","token_type":"Bearer","refresh_token":"upstream-token"}"#;
        ([("content-type", "application/json")], body)
    })
    .await
}

/// Returns the requests of clients so far, without the proxy's requests for discovery documents.
fn arrived(upstream: &Recorder) -> Vec<Seen> {
    upstream
        .all()
        .into_iter()
        .filter(|seen| !seen.target.contains("/.well-known/"))
        .collect()
}

/// Returns paths that some server resolves to a path below `name`, and paths that no server does.
fn spelled(name: &str) -> Vec<String> {
    let heads = [
        "",
        "/x",
        "/",
        "//",
        "/;",
        "/a%5cb",
        "/a\\b",
        "/a%2fb",
        "/x/y/",
        "/x;a",
        "/%2e",
        "//x",
        "/x%00",
        "/index.php",
        "/x/a%2fb/API%2ecgi;a",
        "/(S(x))",
        "/x/a%2fb/%28F(x))",
    ];
    let backs = [
        "", "/..", "/../..", "/%2e%2E", "/..;a", "%2f..", "\\..", "/..%5c", "/.%09.", "/..%20",
    ];
    let upper = name.to_uppercase();
    let escaped = format!("%{:02x}{}", name.as_bytes()[0], &name[1..]);
    let tails = [
        format!("/{name}"),
        format!("%2f{name}"),
        format!("\\{name}"),
        format!("/{upper}"),
        format!("/{escaped}/x"),
        format!("//{name};a"),
        format!("/{name}.json"),
        format!("/./{name}s"),
    ];
    let mut paths = Vec::new();
    for head in heads {
        for back in backs {
            paths.extend(tails.iter().map(|tail| format!("{head}{back}{tail}")));
        }
    }
    paths.retain(|path| path.starts_with('/'));
    paths
}

/// Returns whether some server resolves `path` to a path below `guarded`.
fn some_server_serves(path: &str, guarded: &str) -> bool {
    let whatwg = url::Url::parse("http://localhost")
        .unwrap()
        .join(path)
        .ok()
        .map(|url| url.path().to_owned());
    readings(path, whatwg)
        .iter()
        .any(|(_, reading)| is_served(reading, guarded))
}

#[tokio::test]
async fn no_spelling_of_the_token_path_returns_a_token_of_the_upstream() {
    let upstream = tokens_for_everything().await;
    let proxy = proxy::start(&upstream.url(), &["--allow-ambiguous-path", "/x,/a"]).await;
    let log_in = "grant_type=authorization_code&client_id=app&code=c";
    let (mut guarded, mut open) = (0, 0);
    for path in spelled("token") {
        let answer = form(&proxy, &path, log_in).await;
        let leaks = answer.contains("upstream-token");
        if some_server_serves(&path, "/token") {
            guarded += 1;
            assert!(!leaks, "{path} bypasses the layer: {answer}");
        } else if leaks {
            open += 1;
        } else {
            assert!(
                answer.starts_with("HTTP/1.1 400 ") || answer.contains("rt_"),
                "{path}: {answer}"
            );
        }
    }
    assert!(
        guarded > 300 && open > 10,
        "{guarded} guarded and {open} unguarded paths"
    );
    for method in ["post", "Post", "pOST"] {
        for path in ["/token", "/a/../token", "/token/x"] {
            let answer = form_by(method, &proxy, path, log_in).await;
            assert!(
                !answer.contains("upstream-token"),
                "{method} {path}: {answer}"
            );
        }
    }
    assert!(
        upstream
            .all()
            .iter()
            .all(|seen| seen.target != "/token" || seen.method == "POST")
    );
}

#[tokio::test]
async fn the_upstreams_access_token_is_sent_only_below_the_resource_prefix() {
    let upstream = tokens_for_everything().await;
    let flags = [
        "--reference-access-tokens",
        "--resource-prefix=/API/v1",
        "--allow-ambiguous-path=/x",
    ];
    let proxy = proxy::start(&upstream.url(), &flags).await;
    let answer = form(
        &proxy,
        "/token",
        "grant_type=authorization_code&client_id=app&code=c",
    )
    .await;
    let (_, token) = answer.split_once(r#""access_token":""#).unwrap();
    let (token, _) = token.split_once('"').unwrap();
    let mut guarded = 0;
    for path in spelled("api/v1") {
        for (method, bearer) in [
            ("GET", true),
            ("GET", false),
            ("OPTIONS", false),
            ("POST", true),
        ] {
            let before = arrived(&upstream).len();
            let token = if bearer { token } else { "" };
            let head = format!("Host: a\r\nAuthorization: Bearer {token}\r\nConnection: close");
            let answer = raw(
                proxy.addr(),
                &format!("{method} {path} HTTP/1.1\r\n{head}\r\n\r\n"),
            )
            .await;
            let seen = arrived(&upstream).into_iter().nth(before);
            let served = some_server_serves(&path, "/api/v1");
            guarded += usize::from(served);
            let Some(seen) = seen else { continue };
            let target = seen.target.as_str();
            if seen.header("authorization") == Some("Bearer a") {
                let below = target.strip_prefix("/API/v1");
                assert!(
                    below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
                    "{method} {path}: {target}"
                );
                assert!(
                    !target.contains(['%', '\\', ';']) && !target.contains("//"),
                    "{method} {path}: {target}"
                );
            } else {
                assert!(!served, "{method} {path} bypasses the guard: {answer}");
                assert_eq!(target, path, "an unguarded path is forwarded unchanged");
            }
        }
    }
    assert!(guarded > 1000, "{guarded}");
}

#[tokio::test]
async fn normalization_never_changes_the_resource() {
    let upstream = tokens_for_everything().await;
    let prefixes = "--resource-prefix=/api,/api/admin,/v1/orders,/v1/carts,/v1/carts:merge";
    let proxy = proxy::start(&upstream.url(), &["--reference-access-tokens", prefixes]).await;
    let answer = form(
        &proxy,
        "/token",
        "grant_type=authorization_code&client_id=app&code=c",
    )
    .await;
    let (_, token) = answer.split_once(r#""access_token":""#).unwrap();
    let (token, _) = token.split_once('"').unwrap();
    let rows = [
        ("/v1/orders:batchGet", None),
        ("/v1/orders.csv", None),
        ("/v1/orders%3fx/7", None),
        ("/v1/orders%CC%88", None),
        ("/api/%C3%9Fx", None),
        ("/api/%EF%AC%81", None),
        ("/api/index.php/admin", None),
        ("/api/(S(x))/7", None),
        ("/v1/orders/a.csv", Some("/v1/orders/a.csv")),
        ("/V1//orders;a/x:get", Some("/v1/orders/x:get")),
        ("/v1/carts:MERGE", Some("/v1/carts:merge")),
        ("/api/stra%C3%9Fe", Some("/api/stra%C3%9Fe")),
    ];
    for method in ["GET", "DELETE", "POST"] {
        for (path, expected) in rows {
            let before = arrived(&upstream).len();
            let head = format!("Host: a\r\nAuthorization: Bearer {token}\r\nConnection: close");
            let answer = raw(
                proxy.addr(),
                &format!("{method} {path} HTTP/1.1\r\n{head}\r\n\r\n"),
            )
            .await;
            let seen = arrived(&upstream)
                .into_iter()
                .nth(before)
                .map(|seen| seen.target);
            assert_eq!(seen.as_deref(), expected, "{method} {path}: {answer}");
            assert_eq!(
                answer.starts_with("HTTP/1.1 400 "),
                expected.is_none(),
                "{method} {path}: {answer}"
            );
        }
    }
}

#[tokio::test]
async fn the_endpoints_of_keycloak_can_be_guarded() {
    let upstream = tokens_for_everything().await;
    let token_path = "/realms/r/protocol/openid-connect/token";
    let introspection_path = format!("{token_path}/introspect");
    let flags = [
        "--token-path",
        token_path,
        "--introspection-path",
        &introspection_path,
    ];
    let proxy = proxy::start(&upstream.url(), &flags).await;
    let answer = form(
        &proxy,
        token_path,
        "grant_type=authorization_code&client_id=app&code=c",
    )
    .await;
    let (_, token) = answer.split_once(r#""refresh_token":""#).unwrap();
    let (token, _) = token.split_once('"').unwrap();
    for path in [&introspection_path, &introspection_path.to_uppercase()] {
        let before = arrived(&upstream).len();
        form(&proxy, path, &format!("client_id=app&token={token}")).await;
        let seen = arrived(&upstream).into_iter().nth(before).unwrap();
        assert_eq!(seen.target, introspection_path);
        assert!(
            String::from_utf8_lossy(&seen.body).contains("upstream-token"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn no_spelling_leads_outside_the_base_path_of_the_upstream() {
    let upstream = tokens_for_everything().await;
    let proxy = proxy::start(
        &format!("{}/realms/a", upstream.url()),
        &["--allow-ambiguous-path", "/x,/a"],
    )
    .await;
    let mut count = 0;
    for path in spelled("b/token")
        .iter()
        .chain(&["/x%5cy/../../b/token".to_owned(), "b".to_owned()])
    {
        for method in ["GET", "POST", "get"] {
            let before = arrived(&upstream).len();
            form_by(method, &proxy, path, "a=b").await;
            for seen in arrived(&upstream).iter().skip(before) {
                count += 1;
                let whatwg = url::Url::parse("http://localhost")
                    .unwrap()
                    .join(&seen.target)
                    .unwrap();
                for (name, reading) in readings(&seen.target, Some(whatwg.path().to_owned())) {
                    assert!(
                        is_served(&reading, "/realms/a"),
                        "{name}: {method} {path} resolves to {reading} in {}",
                        seen.target
                    );
                }
            }
        }
    }
    assert!(count > 50, "{count}");
}
