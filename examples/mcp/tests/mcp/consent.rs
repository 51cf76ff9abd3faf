//! The consent page of the example `mcp`: its text, the protection of its form, and remembered
//! consents.

use axum::http::StatusCode;
use serde_json::json;
use test_support::process::Example;
use url::Url;

use crate::PROGRAM;
use crate::support::mcp::{self, Browser, Provider, one, onward, query};

const LOOPBACK: &str = "http://127.0.0.1:7777/callback";
const WEB: &str = "https://client.example/callback";

/// The header that a browser sends for an address that the user has typed.
const TYPED: &[(&str, &str)] = &[("sec-fetch-site", "none")];

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
async fn the_first_decision_is_final() {
    let (provider, server) = start().await;
    let client_id = mcp::register_public(&server, "A client", LOOPBACK).await;
    for (first, second) in [("approve", "deny"), ("deny", "approve")] {
        let mut browser = Browser::default();
        let consent = onward(
            &browser
                .get(&mcp::request(&server, &client_id, LOOPBACK, &[]))
                .await,
        );
        let page = browser.get(&consent).await;
        let answer = browser
            .submit(&consent, &page, &[("decision", first)])
            .await;
        mcp::assert_is_page(&answer);
        for decision in [first, second] {
            // After a double click, or a reload of the page.
            let again = browser
                .submit(&consent, &page, &[("decision", decision)])
                .await;
            assert_eq!(onward(&again), onward(&answer), "{first}, then {decision}");
        }
        let again = browser.get(&consent).await;
        assert_eq!(again.status, StatusCode::BAD_REQUEST);
        assert!(
            again.text().contains("This log-in is no longer valid"),
            "{}",
            again.text()
        );
        let client = browser.follow(answer, LOOPBACK).await;
        let name = if first == "approve" { "code" } else { "error" };
        assert!(one(&query(&client), name).is_some(), "{client}");
    }
    assert_eq!(provider.requests().len(), 1);
}

#[tokio::test]
async fn a_log_in_of_another_browser_is_rejected() {
    let (provider, server) = start().await;
    let client_id = mcp::register_public(&server, "A client", LOOPBACK).await;
    let request = mcp::request(&server, &client_id, LOOPBACK, &[]);
    let mut owner = Browser::default();
    let answer = owner.get(&request).await;
    let consent = onward(&answer);
    let page = owner.get(&consent).await;
    let mut thief = Browser::default();
    thief.get(&request).await;
    for mut thief in [thief, Browser::default()] {
        for refused in [
            thief.get(&consent).await,
            // Even with all hidden fields of the page.
            thief
                .submit(&consent, &page, &[("decision", "approve")])
                .await,
        ] {
            assert_eq!(refused.status, StatusCode::FORBIDDEN);
            assert!(
                refused.text().contains("belongs to another browser"),
                "{}",
                refused.text()
            );
            assert!(
                !refused.text().contains("A client") && !refused.headers.contains_key("refresh")
            );
            mcp::assert_is_page(&refused);
        }
    }
    assert!(provider.requests().is_empty());
    let answer = owner
        .submit(&consent, &page, &[("decision", "approve")])
        .await;
    assert!(
        one(&query(&owner.follow(answer, LOOPBACK).await), "code").is_some(),
        "the owner can still approve"
    );
}

#[tokio::test]
async fn a_decision_is_accepted_only_from_the_consent_page() {
    let (provider, server) = start().await;
    let client_id = mcp::register_public(&server, "A client", LOOPBACK).await;
    let request = mcp::request(&server, &client_id, LOOPBACK, &[]);
    let mut browser = Browser::default();
    let consent = onward(&browser.get(&request).await);
    let page = browser.get(&consent).await;
    let hidden = mcp::form(&page).1;
    let (login, token) = (
        one(&hidden, "login").unwrap(),
        one(&hidden, "token").unwrap(),
    );
    let other = onward(&browser.get(&request).await);
    let other = mcp::form(&browser.get(&other).await).1;
    let other = one(&other, "token").unwrap();

    let form = "application/x-www-form-urlencoded";
    let (here, approve) = (server.url(""), ("decision", "approve"));
    let right = [("login", login), ("token", token), approve];
    let rows: [(&str, &[(&str, &str)], &[(&str, &str)], StatusCode); 12] = [
        (
            "no token",
            &[("login", login), approve],
            &[],
            StatusCode::FORBIDDEN,
        ),
        (
            "an empty token",
            &[("login", login), ("token", ""), approve],
            &[],
            StatusCode::FORBIDDEN,
        ),
        (
            "the token of another log-in",
            &[("login", login), ("token", other), approve],
            &[],
            StatusCode::FORBIDDEN,
        ),
        (
            "the handle as token",
            &[("login", login), ("token", login), approve],
            &[],
            StatusCode::FORBIDDEN,
        ),
        (
            "two tokens",
            &[
                ("login", login),
                ("token", token),
                ("token", token),
                approve,
            ],
            &[],
            StatusCode::FORBIDDEN,
        ),
        (
            "another origin",
            &right,
            &[("origin", "https://evil.example")],
            StatusCode::FORBIDDEN,
        ),
        (
            "another port",
            &right,
            &[("origin", "http://127.0.0.1:1")],
            StatusCode::FORBIDDEN,
        ),
        (
            "another site",
            &right,
            &[("sec-fetch-site", "cross-site")],
            StatusCode::FORBIDDEN,
        ),
        (
            "a sibling site",
            &right,
            &[("origin", &here), ("sec-fetch-site", "same-site")],
            StatusCode::FORBIDDEN,
        ),
        ("no decision", &right[..2], &[], StatusCode::BAD_REQUEST),
        (
            "two decisions",
            &[right[0], right[1], approve, ("decision", "deny")],
            &[],
            StatusCode::BAD_REQUEST,
        ),
        (
            "another decision",
            &[right[0], right[1], ("decision", "x")],
            &[],
            StatusCode::BAD_REQUEST,
        ),
    ];
    for (name, fields, headers, status) in rows {
        let headers: Vec<_> = [("content-type", form)]
            .into_iter()
            .chain(headers.iter().copied())
            .collect();
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        let answer = browser
            .send("POST", &server.url("/consent"), &headers, body)
            .await;
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        mcp::assert_is_page(&answer);
    }
    let body = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(right)
        .finish();
    let long = format!("{body}&x={}", "x".repeat(20_000));
    for (name, content_type, body) in [
        ("no form", "text/plain", body.clone()),
        ("a long form", form, long),
    ] {
        let answer = browser
            .send(
                "POST",
                &server.url("/consent"),
                &[("content-type", content_type)],
                body,
            )
            .await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{name}");
        mcp::assert_is_page(&answer);
    }
    assert!(provider.requests().is_empty());
    let headers = [
        ("content-type", form),
        ("origin", &here),
        ("sec-fetch-site", "same-origin"),
    ];
    let answer = browser
        .send("POST", &server.url("/consent"), &headers, body)
        .await;
    assert!(onward(&answer).starts_with(&format!("http://{}/authorize?", provider.addr)));
}

#[tokio::test]
async fn a_consent_is_remembered_only_if_the_client_cannot_be_impersonated() {
    let (provider, server) = start().await;
    let metadata = |uri: &str, method: &str| json!({ "client_name": "A client", "redirect_uris": [uri], "token_endpoint_auth_method": method });
    let rows = [
        ("a web client", WEB, "none", true),
        (
            "an app with a secret",
            LOOPBACK,
            "client_secret_basic",
            true,
        ),
        ("an app on this computer", LOOPBACK, "none", false),
        (
            "an app on this computer with TLS",
            "https://localhost:7777/callback",
            "none",
            false,
        ),
        ("an app", "com.example.app:/callback", "none", false),
    ];
    let at_provider = format!("http://{}/authorize?", provider.addr);
    for (name, uri, method, may_be) in rows {
        let client = mcp::register(&server, &metadata(uri, method)).await;
        let client_id = client["client_id"].as_str().unwrap();
        let request = |changes: &[(&str, &str)]| mcp::request(&server, client_id, uri, changes);
        let mut browser = Browser::default();
        let consent = onward(&browser.get(&request(&[])).await);
        let page = browser.get(&consent).await;
        assert_eq!(page.text().contains("name=\"remember\""), may_be, "{name}");
        let answer = browser
            .submit(
                &consent,
                &page,
                &[("remember", "yes"), ("decision", "approve")],
            )
            .await;
        assert_eq!(answer.headers.contains_key("set-cookie"), may_be, "{name}");
        if may_be {
            assert!(
                answer.headers["set-cookie"]
                    .to_str()
                    .unwrap()
                    .ends_with("; Max-Age=2592000"),
                "{answer:?}"
            );
        }
        assert!(
            one(&query(&browser.follow(answer, uri).await), "code").is_some(),
            "{name}"
        );

        for site in ["same-origin", "same-site"] {
            let again = browser
                .send("GET", &request(&[]), &[("sec-fetch-site", site)], "")
                .await;
            assert_eq!(
                onward(&again).starts_with(&at_provider),
                may_be,
                "{name}: {site}: {again:?}"
            );
        }
        let asked: [(&str, &[(&str, &str)]); 7] = [
            (
                "a page of another site",
                &[("sec-fetch-site", "cross-site")],
            ),
            ("a browser without fetch metadata", &[]),
            ("an empty value", &[("sec-fetch-site", "")]),
            ("another value", &[("sec-fetch-site", "any")]),
            ("upper case", &[("sec-fetch-site", "NONE")]),
            ("a list", &[("sec-fetch-site", "none, cross-site")]),
            (
                "two headers",
                &[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")],
            ),
        ];
        for (from, headers) in asked {
            let page = browser.send("GET", &request(&[]), headers, "").await;
            assert!(
                onward(&page).contains("/consent?"),
                "{name}: {from}: {page:?}"
            );
        }
        let again = browser.send("GET", &request(&[]), TYPED, "").await;
        assert_eq!(
            onward(&again).starts_with(&at_provider),
            may_be,
            "{name}: {again:?}"
        );
        if may_be {
            assert!(
                one(&query(&browser.follow(again, uri).await), "code").is_some(),
                "{name}"
            );
        }
        for (name, changes) in [
            ("other scopes", [("scope", "openid")]),
            ("prompt=consent", [("prompt", "login consent")]),
        ] {
            let answer = browser.send("GET", &request(&changes), TYPED, "").await;
            assert!(onward(&answer).contains("/consent?"), "{name}");
        }
        let another = Browser::default()
            .send("GET", &request(&[]), TYPED, "")
            .await;
        assert!(onward(&another).contains("/consent?"), "another browser");
        let other = mcp::register(&server, &metadata(uri, method)).await;
        let other = mcp::request(&server, other["client_id"].as_str().unwrap(), uri, &[]);
        let other = browser.send("GET", &other, TYPED, "").await;
        assert!(onward(&other).contains("/consent?"), "another client");
    }
}

#[tokio::test]
async fn a_consent_is_not_remembered_by_default() {
    let (_, server) = start().await;
    let client_id = mcp::register_public(&server, "A client", WEB).await;
    let request = mcp::request(&server, &client_id, WEB, &[]);
    let mut browser = Browser::default();
    browser.log_in(&request, WEB).await;
    let answer = browser.send("GET", &request, TYPED, "").await;
    assert!(onward(&answer).contains("/consent?"), "{answer:?}");
    let answer = browser
        .decide(&answer, &[("remember", "yes"), ("decision", "deny")])
        .await;
    assert!(!answer.headers.contains_key("set-cookie"), "{answer:?}");
    let answer = browser.send("GET", &request, TYPED, "").await;
    assert!(
        onward(&answer).contains("/consent?"),
        "a denial is not remembered"
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
