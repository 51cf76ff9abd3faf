//! The browser is redirected to registered URIs only.

use axum::http::StatusCode;
use serde_json::json;

use super::{Fixture, REDIRECT, assert_stays, way_back};
use crate::support::mcp::{self, Browser};

#[tokio::test]
async fn a_registered_client_cannot_use_the_server_as_an_open_redirector() {
    let fixture = Fixture::start().await;
    for (redirect_uri, method, host) in [
        ("https://evil.example/phish", "none", "evil.example"),
        (
            "https://evil.example:8443/phish?a=b",
            "client_secret_basic",
            "evil.example:8443",
        ),
        ("https://evil.example", "client_secret_post", "evil.example"),
        ("http://127.0.0.1/cb", "none", "127.0.0.1"),
        ("com.example.evil:/cb", "none", "the app"),
        ("vscode://evil/cb", "none", "the app"),
    ] {
        let metadata = json!({
            "client_name": "Sign in <b>again",
            "redirect_uris": [redirect_uri],
            "token_endpoint_auth_method": method,
        });
        let client_id = mcp::register(&fixture.server, &metadata).await["client_id"]
            .as_str()
            .unwrap()
            .to_owned();
        let request = |changes: &[(&str, &str)]| {
            mcp::request(&fixture.server, &client_id, redirect_uri, changes)
        };
        // The user has agreed to this client before, and the consent is remembered if that is
        // possible.
        let mut browser = Browser::default();
        let answer = browser.get(&request(&[])).await;
        browser
            .decide(&answer, &[("remember", "yes"), ("decision", "approve")])
            .await;
        let wrong: [&[(&str, &str)]; 9] = [
            &[("response_type", "token")],
            &[("response_type", "")],
            &[("response_mode", "fragment")],
            &[("scope", "unknown")],
            &[("resource", "https://evil.example/")],
            &[("code_challenge", "")],
            &[("code_challenge_method", "plain")],
            &[("x", "1"), ("x", "2")],
            &[("prompt", "none"), ("prompt", "none")],
        ];
        for changes in wrong {
            let name = format!("{redirect_uri} {changes:?}");
            for headers in [
                &[][..],
                &[("sec-fetch-site", "cross-site")],
                &[("sec-fetch-site", "none")],
            ] {
                for method in ["GET", "HEAD"] {
                    let page = Browser::default()
                        .send(method, &request(changes), headers, "")
                        .await;
                    assert_eq!(page.status, StatusCode::BAD_REQUEST, "{name}");
                    for header in ["location", "refresh"] {
                        assert!(
                            !page.headers.contains_key(header),
                            "{name}: {:?}",
                            page.headers
                        );
                    }
                }
                let page = browser.send("GET", &request(changes), headers, "").await;
                assert_eq!(page.status, StatusCode::BAD_REQUEST, "{name}");
                assert_stays(&name, &page);
                assert!(
                    page.text().contains("Sign in &lt;b&gt;again"),
                    "{name}: {}",
                    page.text()
                );
                let (url, words) = way_back(&page);
                assert!(
                    url.starts_with(redirect_uri) && words.contains(host),
                    "{name}: {url} {words}"
                );
            }
        }
    }
}

#[tokio::test]
async fn the_browser_is_never_redirected_to_an_unregistered_uri() {
    let fixture = Fixture::start().await;
    let other = json!({
        "redirect_uris": ["https://client.example/a", "https://client.example/b"],
        "token_endpoint_auth_method": "none",
    });
    let two = mcp::register(&fixture.server, &other).await["client_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let long = "x".repeat(20_000);
    let rows: [(&str, &[(&str, &str)], &str); 17] = [
        ("no client", &[("client_id", "")], "does not name an app"),
        (
            "two clients",
            &[("client_id", &fixture.client_id), ("client_id", "x")],
            "more than one app",
        ),
        ("an unknown client", &[("client_id", "x")], "not registered"),
        (
            "another client's address",
            &[("client_id", &two)],
            "has not registered",
        ),
        (
            "no address of two",
            &[("client_id", &two), ("redirect_uri", "")],
            "does not say where",
        ),
        (
            "two addresses",
            &[("redirect_uri", REDIRECT), ("redirect_uri", REDIRECT)],
            "more than one address",
        ),
        (
            "another host",
            &[("redirect_uri", "https://evil.example/callback?from=mcp")],
            "has not registered",
        ),
        (
            "another path",
            &[("redirect_uri", "http://127.0.0.1:7777/callback/?from=mcp")],
            "has not registered",
        ),
        (
            "another query",
            &[(
                "redirect_uri",
                "http://127.0.0.1:7777/callback?from=mcp&x=1",
            )],
            "has not registered",
        ),
        (
            "another scheme",
            &[("redirect_uri", "https://127.0.0.1:7777/callback?from=mcp")],
            "has not registered",
        ),
        (
            "a user",
            &[(
                "redirect_uri",
                "http://127.0.0.1:7777@evil.example/callback?from=mcp",
            )],
            "has not registered",
        ),
        (
            "a longer host",
            &[(
                "redirect_uri",
                "http://127.0.0.1.evil.example/callback?from=mcp",
            )],
            "has not registered",
        ),
        (
            "a fragment",
            &[("redirect_uri", "http://127.0.0.1:7777/callback?from=mcp#x")],
            "has not registered",
        ),
        (
            "script",
            &[("redirect_uri", "javascript:alert(1)")],
            "has not registered",
        ),
        (
            "data",
            &[("redirect_uri", "data:text/html,<script>alert(1)</script>")],
            "has not registered",
        ),
        (
            "no URL",
            &[("redirect_uri", "/\"><script>alert(1)</script>")],
            "has not registered",
        ),
        ("a long request", &[("x", &long)], "too long"),
    ];
    for (name, changes, words) in rows {
        let answer = fixture.open(changes).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{name}");
        assert!(answer.text().contains(words), "{name}: {}", answer.text());
        assert!(answer.text().contains("What you can do"), "{name}");
        assert!(
            !answer.text().contains("<script") && !answer.text().contains("href=\"javascript"),
            "{name}"
        );
        for header in ["location", "refresh", "set-cookie"] {
            assert!(
                !answer.headers.contains_key(header),
                "{name}: {:?}",
                answer.headers
            );
        }
        mcp::assert_is_page(&answer);
    }
}
