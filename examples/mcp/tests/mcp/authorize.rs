//! The authorization endpoint of the example `mcp`: complete log-ins, and invalid requests.

use axum::http::StatusCode;
use serde_json::json;
use test_support::http::Answer;
use test_support::process::Example;
use url::Url;

use crate::support::mcp::{self, Browser, CHALLENGE, Provider, one, onward, query};

const REDIRECT: &str = "http://127.0.0.1:7777/callback?from=mcp";

struct Fixture {
    provider: Provider,
    server: Example,
    client_id: String,
}

impl Fixture {
    async fn start() -> Self {
        let provider = Provider::start().await;
        let server = mcp::start(&provider.flags()).await;
        let client_id = mcp::register_public(&server, "A client", REDIRECT).await;
        Self {
            provider,
            server,
            client_id,
        }
    }

    /// Returns a valid request with these changes. A parameter with an empty value is omitted.
    fn request(&self, changes: &[(&str, &str)]) -> String {
        mcp::request(&self.server, &self.client_id, REDIRECT, changes)
    }

    async fn open(&self, changes: &[(&str, &str)]) -> Answer {
        Browser::default().get(&self.request(changes)).await
    }
}

#[tokio::test]
async fn a_log_in_returns_a_code_to_the_client() {
    let fixture = Fixture::start().await;
    let mut browser = Browser::default();
    let answer = browser.get(&fixture.request(&[])).await;
    let page = onward(&answer);
    assert!(
        page.starts_with(&fixture.server.url("/consent?login=")),
        "{page}"
    );
    let answer = browser.approve(&answer).await;
    let client = browser.follow(answer, "http://127.0.0.1:7777/").await;

    let asked = fixture.provider.requests().remove(0);
    assert_eq!(
        one(&asked, "redirect_uri"),
        Some(&*fixture.server.url("/callback"))
    );
    assert_eq!(one(&asked, "scope"), Some("openid profile"));
    assert_ne!(
        one(&asked, "code_challenge"),
        Some(CHALLENGE),
        "the server uses its own PKCE pair"
    );
    assert_ne!(
        one(&asked, "state"),
        Some("the client's"),
        "the server uses its own state"
    );
    assert_eq!(fixture.provider.exchanged(), 1);

    assert!(
        client.starts_with(REDIRECT),
        "the query of the redirect URI is kept: {client}"
    );
    let answer = query(&client);
    assert_eq!(one(&answer, "state"), Some("the client's"));
    assert_eq!(one(&answer, "iss"), Some(&*fixture.server.url("")));
    assert_eq!(one(&answer, "code").map(str::len), Some(43));
    assert_eq!(answer.len(), 4, "{answer:?}");

    let secrets = [
        one(&answer, "code"),
        one(&asked, "state"),
        browser.cookies.values().next().map(String::as_str),
    ];
    for secret in secrets.into_iter().flatten().chain([
        "provider-access-1",
        "provider-code-1",
        "the client's",
    ]) {
        assert!(
            !fixture.server.stderr().contains(secret),
            "the log contains a secret: {:?}",
            fixture.server
        );
    }
}

#[tokio::test]
async fn valid_variants_of_a_request_are_accepted() {
    let fixture = Fixture::start().await;
    let resource = fixture.server.url("/mcp");
    let rows: [(&str, &[(&str, &str)], &str); 12] = [
        (
            "no redirect URI, and only one is registered",
            &[("redirect_uri", "")],
            "openid profile",
        ),
        (
            "another loopback port",
            &[("redirect_uri", "http://127.0.0.1:50123/callback?from=mcp")],
            "openid profile",
        ),
        ("no scope", &[("scope", "")], "openid profile"),
        ("fewer scopes", &[("scope", "profile")], "profile"),
        ("the resource", &[("resource", &resource)], "openid profile"),
        (
            "the resource with a trailing slash",
            &[("resource", &format!("{resource}/"))],
            "openid profile",
        ),
        (
            "the resource with a query",
            &[("resource", &format!("{resource}?tenant=a"))],
            "openid profile",
        ),
        (
            "the resource in another spelling",
            &[(
                "resource",
                &format!("{}/?x", resource.replace("http", "HTTP")),
            )],
            "openid profile",
        ),
        (
            "an unknown scope and a known one",
            &[("scope", "openid everything")],
            "openid",
        ),
        (
            "the resource twice",
            &[("resource", &resource), ("resource", &resource)],
            "openid profile",
        ),
        ("no state", &[("state", "")], "openid profile"),
        (
            "OpenID Connect",
            &[
                ("nonce", "x"),
                ("prompt", "login"),
                ("max_age", "1"),
                ("claims", "{}"),
            ],
            "openid profile",
        ),
    ];
    for (name, changes, scope) in rows {
        let target = changes
            .iter()
            .find(|(name, value)| *name == "redirect_uri" && !value.is_empty());
        let target = target.map_or(REDIRECT, |(_, uri)| uri);
        let client = Browser::default()
            .log_in(&fixture.request(changes), target)
            .await;
        assert!(one(&query(&client), "code").is_some(), "{name}: {client}");
        assert_eq!(
            one(fixture.provider.requests().last().unwrap(), "scope"),
            Some(scope),
            "{name}"
        );
    }
}

/// Returns the address and the text of the link on the page that explains an error.
fn way_back(page: &Answer) -> (String, String) {
    let (_, link) = page.text().split_once("<a ").expect("a link");
    let (tag, rest) = link.split_once('>').unwrap();
    let (_, href) = tag.split_once("href=\"").unwrap();
    let href = href.split_once('"').unwrap().0.replace("&amp;", "&");
    (href, rest.split_once("</a>").unwrap().0.to_owned())
}

/// Asserts that the browser leaves the page only if the user clicks the link.
fn assert_stays(name: &str, page: &Answer) {
    mcp::assert_is_page(page);
    for header in ["location", "refresh", "set-cookie"] {
        assert!(
            !page.headers.contains_key(header),
            "{name}: {:?}",
            page.headers
        );
    }
    assert!(
        !page.text().contains("http-equiv"),
        "{name}: {}",
        page.text()
    );
}

#[tokio::test]
async fn errors_in_a_request_are_explained_on_a_page_with_a_link_back() {
    let fixture = Fixture::start().await;
    let long = "s".repeat(2049);
    let rows: [(&str, &[(&str, &str)], &str); 23] = [
        (
            "another response type",
            &[("response_type", "token")],
            "unsupported_response_type",
        ),
        (
            "two response types",
            &[("response_type", "code token")],
            "unsupported_response_type",
        ),
        (
            "no response type",
            &[("response_type", "")],
            "invalid_request",
        ),
        (
            "another response mode",
            &[("response_mode", "form_post")],
            "invalid_request",
        ),
        (
            "no PKCE",
            &[("code_challenge", ""), ("code_challenge_method", "")],
            "invalid_request",
        ),
        (
            "no method",
            &[("code_challenge_method", "")],
            "invalid_request",
        ),
        (
            "the plain method",
            &[("code_challenge_method", "plain")],
            "invalid_request",
        ),
        (
            "another method",
            &[("code_challenge_method", "s256")],
            "invalid_request",
        ),
        (
            "a short challenge",
            &[("code_challenge", &CHALLENGE[1..])],
            "invalid_request",
        ),
        (
            "a padded challenge",
            &[("code_challenge", &format!("{CHALLENGE}="))],
            "invalid_request",
        ),
        (
            "a challenge in plain base64",
            &[("code_challenge", &CHALLENGE.replace('-', "+"))],
            "invalid_request",
        ),
        (
            "a repeated parameter",
            &[("scope", "openid"), ("scope", "openid")],
            "invalid_request",
        ),
        (
            "a repeated unknown parameter",
            &[("x", "1"), ("x", "1")],
            "invalid_request",
        ),
        ("a long state", &[("state", &long)], "invalid_request"),
        (
            "an unknown scope",
            &[("scope", "everything")],
            "invalid_scope",
        ),
        (
            "an invalid scope",
            &[("scope", "<script>")],
            "invalid_scope",
        ),
        (
            "another resource",
            &[("resource", "https://other.example/mcp")],
            "invalid_target",
        ),
        (
            "a URL next to the resource",
            &[("resource", &fixture.server.url("/mcp/x"))],
            "invalid_target",
        ),
        (
            "the resource with a fragment",
            &[("resource", &fixture.server.url("/mcp#x"))],
            "invalid_target",
        ),
        (
            "the resource below another path",
            &[("resource", &fixture.server.url("/x/mcp"))],
            "invalid_target",
        ),
        (
            "the resource at another scheme",
            &[(
                "resource",
                &fixture.server.url("/mcp").replace("http", "https"),
            )],
            "invalid_target",
        ),
        (
            "a resource that is not a URL",
            &[("resource", "mcp")],
            "invalid_target",
        ),
        (
            "another resource as well",
            &[
                ("resource", &fixture.server.url("/mcp")),
                ("resource", "https://other.example/mcp"),
            ],
            "invalid_target",
        ),
    ];
    for (name, changes, error) in rows {
        let page = fixture.open(changes).await;
        assert_eq!(
            page.status,
            StatusCode::BAD_REQUEST,
            "{name}: {}",
            page.text()
        );
        assert_stays(name, &page);
        for words in [
            "“<bdi><strong>A client</strong></bdi>”",
            "It has not been verified",
            "127.0.0.1:7777",
            error,
        ] {
            assert!(
                page.text().contains(words),
                "{name}: {words:?} is missing: {}",
                page.text()
            );
        }
        let (url, words) = way_back(&page);
        assert!(
            words.contains("Return to ") && words.contains("127.0.0.1:7777"),
            "{name}: {words}"
        );
        assert!(url.starts_with(REDIRECT), "{name}: {url}");
        let answer = query(&url);
        assert_eq!(one(&answer, "error"), Some(error), "{name}");
        let state = changes
            .iter()
            .find(|(name, _)| *name == "state")
            .map_or("the client's", |(_, state)| state);
        assert_eq!(one(&answer, "state"), Some(state), "{name}");
        assert_eq!(
            one(&answer, "iss"),
            Some(&*fixture.server.url("")),
            "{name}"
        );
        let allowed = |c: char| matches!(c, ' '..='~') && c != '"' && c != '\\';
        let description = one(&answer, "error_description").unwrap();
        assert!(
            !description.is_empty() && description.chars().all(allowed),
            "{name}: {description}"
        );
        assert_eq!(one(&answer, "code"), None, "{name}");
    }
    let state = fixture.open(&[("state", "1"), ("state", "2")]).await;
    let state = query(&way_back(&state).0);
    assert_eq!(
        (one(&state, "error"), one(&state, "state")),
        (Some("invalid_request"), None),
        "a repeated state is omitted"
    );
    assert!(fixture.provider.requests().is_empty());
}

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

#[tokio::test]
async fn the_cookie_is_sent_to_this_host_only() {
    let provider = Provider::start().await;
    for (public, expected) in [
        (None, "mcp-browser=VALUE; Path=/; HttpOnly; SameSite=Lax"),
        (
            Some("https://mcp.example"),
            "__Host-mcp-browser=VALUE; Path=/; HttpOnly; SameSite=Lax; Secure",
        ),
    ] {
        let mut flags = provider.flags();
        flags.extend(
            public
                .iter()
                .flat_map(|url| ["--public-url".to_owned(), (*url).to_owned()]),
        );
        let server = mcp::start(&flags).await;
        let client_id = mcp::register_public(&server, "A client", REDIRECT).await;
        let request = mcp::request(&server, &client_id, REDIRECT, &[]);
        let mut browser = Browser {
            through: public.map(|url| (url.to_owned(), server.url(""))),
            ..Browser::default()
        };
        let first = browser.get(&request).await;
        let (name, value) = browser
            .cookies
            .first_key_value()
            .map(|(name, value)| (name.clone(), value.clone()))
            .unwrap();
        assert_eq!(
            first.headers["set-cookie"],
            expected.replace("VALUE", &value)
        );
        let issuer = public.map_or_else(|| server.url(""), str::to_owned);
        assert!(
            onward(&first).starts_with(&format!("{issuer}/consent?")),
            "{first:?}"
        );
        let again = browser.get(&request).await;
        assert!(
            !again.headers.contains_key("set-cookie"),
            "the browser already has a cookie"
        );
        // A malformed cookie, and two cookies, of which an attacker must have set one.
        for planted in [
            format!("{name}=x"),
            format!("{name}={value}; {name}={value}"),
        ] {
            let answer = Browser::default()
                .send("GET", &request, &[("cookie", &planted)], "")
                .await;
            assert!(answer.headers.contains_key("set-cookie"), "{planted}");
        }
        let client = browser.log_in(&request, "http://127.0.0.1:7777/").await;
        assert_eq!(one(&query(&client), "iss"), Some(&*issuer));
        assert!(
            Url::parse(&client)
                .unwrap()
                .query()
                .unwrap()
                .contains("code=")
        );
    }
}
