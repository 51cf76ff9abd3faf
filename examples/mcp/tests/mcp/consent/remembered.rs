//! Consents that are remembered.

use serde_json::json;

use super::{LOOPBACK, WEB, start};
use crate::support::mcp::{self, Browser, one, onward, query};

/// The header that a browser sends for an address that the user has typed.
const TYPED: &[(&str, &str)] = &[("sec-fetch-site", "none")];

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
