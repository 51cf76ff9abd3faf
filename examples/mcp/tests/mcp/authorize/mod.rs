//! The authorization endpoint of the example `mcp`: complete log-ins, and invalid requests.

mod errors;
mod redirects;

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
        // Another program on the same host has set a cookie that is not ASCII.
        browser.cookies.insert("a".into(), "caf\u{e9}".into());
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
