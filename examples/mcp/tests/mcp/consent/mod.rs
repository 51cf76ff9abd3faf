//! The consent page of the example `mcp`: its text, the protection of its form, and remembered
//! consents.

mod decision;
mod remembered;

use axum::http::StatusCode;
use serde_json::json;
use test_support::process::Example;
use url::Url;

use crate::PROGRAM;
use crate::support::mcp::{self, Browser, Provider, one, onward, query};

const LOOPBACK: &str = "http://127.0.0.1:7777/callback";
const WEB: &str = "https://client.example/callback";

async fn start() -> (Provider, Example) {
    let provider = Provider::start().await;
    let server = mcp::start(&provider.flags()).await;
    (provider, server)
}

/// Returns the visible text of a page.
fn seen(page: &str) -> String {
    let (_, body) = page.split_once("<body>").unwrap();
    let text: String = body
        .split('<')
        .map(|part| part.split_once('>').map_or("", |(_, text)| text))
        .collect();
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&amp;", "&")
}

#[tokio::test]
async fn the_page_shows_the_client_its_permissions_and_its_redirect_uri() {
    let (provider, server) = start().await;
    let host = server.addr().to_string();
    let rows = [
        (
            "Nice  \u{ad}\u{200b}Client\u{2060}\u{e0041}\u{3164}",
            LOOPBACK,
            "an app on this computer (127.0.0.1:7777)",
            "“Nice Client”",
        ),
        (
            "Client",
            "http://localhost/cb",
            "an app on this computer (localhost)",
            "“Client”",
        ),
        ("Client", WEB, "client.example", "“Client”"),
        (
            "Client",
            "https://bücher.example:8443/cb",
            "xn--bcher-kva.example:8443",
            "“Client”",
        ),
        (
            "Client",
            "com.example.app:/callback",
            "opens links starting with com.example.app:",
            "“Client”",
        ),
        ("", LOOPBACK, "127.0.0.1", "An app without a name"),
    ];
    for (name, redirect_uri, target, called) in rows {
        let redirect_uri = Url::parse(redirect_uri).unwrap();
        let metadata = json!({
            "redirect_uris": [redirect_uri.as_str()],
            "token_endpoint_auth_method": "none",
            "client_uri": "https://about.example/client",
        });
        let mut metadata = metadata;
        if !name.is_empty() {
            metadata["client_name"] = name.into();
        }
        let client = mcp::register(&server, &metadata).await;
        let request = mcp::request(
            &server,
            client["client_id"].as_str().unwrap(),
            redirect_uri.as_str(),
            &[],
        );
        let mut browser = Browser::default();
        let answer = browser.get(&request).await;
        let page = browser.get(&onward(&answer)).await;
        assert_eq!(page.status, StatusCode::OK);
        mcp::assert_is_page(&page);
        let text = seen(page.text());
        let provider = provider.addr.to_string();
        for words in [
            target,
            called,
            &host,
            &provider,
            "about.example",
            "Know who you are",
            "See your profile",
            "Approve",
            "Deny",
        ] {
            assert!(text.contains(words), "{words:?} is missing: {text}");
        }
        assert_eq!(
            text.contains("It has not been verified"),
            !name.is_empty(),
            "{text}"
        );
        assert!(
            !text.contains(['\u{ad}', '\u{200b}', '\u{2060}', '\u{e0041}', '\u{3164}']),
            "{text:?}"
        );
    }
}

#[tokio::test]
async fn the_page_shows_the_descriptions_of_scopes() {
    let provider = Provider::start().await;
    let described = [
        "--scope",
        "openid profile files",
        "--scope-description",
        "openid=Know who you are, a = b",
        "--scope-description",
        "profile=See <b>your</b> \"name\"",
    ];
    let mut flags = provider.flags();
    flags.extend(described.map(str::to_owned));
    let server = mcp::start(&flags).await;
    let client_id = mcp::register_public(&server, "A client", LOOPBACK).await;
    let mut browser = Browser::default();
    let request = mcp::request(&server, &client_id, LOOPBACK, &[]);
    let page = browser.get(&request).await;
    let page = browser.get(&onward(&page)).await;
    assert_eq!(page.status, StatusCode::OK);
    mcp::assert_is_page(&page);
    let items = "<ul><li><code>files</code></li><li>Know who you are, a = b</li>\
                 <li>See &lt;b&gt;your&lt;/b&gt; &quot;name&quot;</li></ul>";
    assert!(page.text().contains(items), "{}", page.text());
    // Only the page uses the descriptions.
    let client = browser.log_in(&request, LOOPBACK).await;
    assert!(one(&query(&client), "code").is_some(), "{client}");
    let requests = provider.requests();
    assert_eq!(
        one(requests.last().unwrap(), "scope"),
        Some("files openid profile")
    );
}

#[tokio::test]
async fn descriptions_of_scopes_can_be_set_in_the_environment() {
    let provider = Provider::start().await;
    let mut flags = provider.flags();
    flags.extend(["--listen", "127.0.0.1:0", "--store", "memory"].map(str::to_owned));
    let start = move || {
        let descriptions = "openid=Know who you are; profile=See your name, and more";
        Example::start(PROGRAM, &flags, &[("MCP_SCOPE_DESCRIPTION", descriptions)])
    };
    let server = tokio::task::spawn_blocking(start).await.unwrap();
    let client_id = mcp::register_public(&server, "A client", LOOPBACK).await;
    let mut browser = Browser::default();
    let page = browser
        .get(&mcp::request(&server, &client_id, LOOPBACK, &[]))
        .await;
    let page = browser.get(&onward(&page)).await;
    let items = "<ul><li>Know who you are</li><li>See your name, and more</li></ul>";
    assert!(page.text().contains(items), "{}", page.text());
}

#[tokio::test]
async fn text_from_clients_is_escaped() {
    let (_, server) = start().await;
    let attack = r#""'><script>alert(1)</script><img src=x onerror=alert(1)>&lt;"#;
    let escaped = "&lt;script&gt;alert(1)&lt;/script&gt;";
    let metadata = json!({
        "client_name": attack,
        "client_uri": "https://about.example/%22%3E%3Cscript%3Ealert(1)%3C/script%3E",
        "redirect_uris": ["https://client.example/callback?%22%3E%3Cscript%3E'\u{2d}"],
        "token_endpoint_auth_method": "none",
    });
    let client = mcp::register(&server, &metadata).await;
    let client_id = client["client_id"].as_str().unwrap();
    let redirect_uri = metadata["redirect_uris"][0].as_str().unwrap();
    let mut browser = Browser::default();
    let request = mcp::request(&server, client_id, redirect_uri, &[("state", attack)]);
    let consent = onward(&browser.get(&request).await);
    let page = browser.get(&consent).await;
    assert!(page.text().contains(escaped), "{}", page.text());
    let denied = browser
        .submit(&consent, &page, &[("decision", "deny")])
        .await;
    let other = [
        browser
            .get(&mcp::request(&server, attack, redirect_uri, &[]))
            .await,
        browser
            .get(&mcp::request(&server, client_id, attack, &[]))
            .await,
        browser
            .get(&server.url(&format!("/consent?login={}", "%22%3E%3Cscript%3E")))
            .await,
        browser
            .get(&server.url(&format!(
                "/callback?state={0}&error={0}",
                "%22%3E%3Cscript%3E"
            )))
            .await,
        browser
            .post(
                &server.url("/consent"),
                &[("login", attack), ("token", attack), ("decision", attack)],
            )
            .await,
    ];
    for page in other.iter().chain([&page, &denied]) {
        mcp::assert_is_page(page);
        assert!(
            !page.text().contains("<img") && !page.text().contains("\"'>"),
            "{}",
            page.text()
        );
    }
    let denied = query(&onward(&denied));
    assert_eq!(
        (one(&denied, "error"), one(&denied, "state")),
        (Some("access_denied"), Some(attack))
    );
}

#[tokio::test]
async fn the_style_sheet_is_served() {
    let (_, server) = start().await;
    let style = Browser::default().get(&server.url("/style.css")).await;
    assert_eq!(
        (style.status, &style.headers["content-type"]),
        (StatusCode::OK, &"text/css; charset=utf-8".parse().unwrap())
    );
    assert_eq!(style.headers["x-content-type-options"], "nosniff");
}
