//! The whole flow of the example `mcp` by `--issuer`: the demo provider is one of OpenID, and this
//! server reads its discovery document.

use serde_json::json;
use test_support::http::{get, post, send};
use test_support::process::Example;
use url::Url;

use crate::support::mcp::{self, Browser, one, onward, query, request};
use crate::support::mcp_client::{McpClient, REDIRECT, assert_error, call, ended, structured};

/// Logs a user in at the demo. Returns the token response and the URL of the demo.
async fn log_in(server: &Example, client: &McpClient, user: &str) -> (String, String, Url) {
    let mut browser = Browser::default();
    let asked = request(server, &client.id, REDIRECT, &[]);
    let answer = browser.get(&asked).await;
    let url = onward(&browser.approve(&answer).await);
    let page = browser.get(&url).await;
    let answer = browser.submit(&url, &page, &[("user", user)]).await;
    let parameters = query(&browser.follow(answer, REDIRECT).await);
    let code = one(&parameters, "code").unwrap_or_else(|| panic!("no code: {parameters:?}"));
    let tokens = client.exchange(server, code, &[]).await;
    assert_eq!(tokens.status, 200, "{}", tokens.text());
    let (access, refresh) = (
        tokens.string("access_token"),
        tokens.string("refresh_token"),
    );
    (access, refresh, Url::parse(&url).unwrap())
}

#[tokio::test]
async fn the_demo_is_an_openid_provider_and_logs_users_out() {
    let server = mcp::start(&[]).await;
    let client = McpClient::register(&server).await;
    let (ada, ada_refresh, demo) = log_in(&server, &client, "ada").await;
    let (grace, grace_refresh, _) = log_in(&server, &client, "grace").await;

    let asked: Vec<_> = demo.query_pairs().map(|(name, _)| name).collect();
    assert!(asked.iter().any(|name| name == "nonce"), "{asked:?}");
    let at = |path: &str| demo.join(path).unwrap().to_string();
    let document = get(&at("/.well-known/openid-configuration")).await.json();
    let issuer = demo.origin().ascii_serialization();
    assert_eq!(document["issuer"], issuer.as_str());
    assert_eq!(document["authorization_endpoint"], at("/authorize"));
    assert_eq!(document["backchannel_logout_supported"], json!(true));
    let keys = get(document["jwks_uri"].as_str().unwrap()).await.json();
    assert_eq!(keys["keys"][0]["alg"], "ES256");

    let upstream = structured(&call(&server, &ada, "upstream").await);
    assert_eq!(upstream["user"]["sub"], "ada");
    let refreshed = client.refresh(&server, &ada_refresh, &[]).await;
    assert_eq!(refreshed.status, 200, "{}", refreshed.text());

    let page = get(&at("/logout")).await;
    assert_eq!(page.status, 200);
    let page = post(&at("/logout"), &[("user", "ada")]).await;
    assert!(
        page.text().contains("has ended its sessions, too"),
        "{}",
        page.text()
    );
    for access in [&ada, &refreshed.string("access_token")] {
        ended(&server, access).await;
    }
    let gone = client
        .refresh(&server, &refreshed.string("refresh_token"), &[])
        .await;
    assert_eq!(
        (gone.status.as_u16(), &*gone.string("error")),
        (400, "invalid_grant")
    );

    assert_eq!(call(&server, &grace, "whoami").await.status, 200);
    let alive = client.refresh(&server, &grace_refresh, &[]).await;
    assert_eq!(alive.status, 200, "{}", alive.text());
}

#[tokio::test]
async fn the_log_out_page_of_the_demo_needs_a_name() {
    let server = mcp::start(&[]).await;
    let client = McpClient::register(&server).await;
    let (_, _, demo) = log_in(&server, &client, "ada").await;
    let url = demo.join("/logout").unwrap();
    let long = "x".repeat(65);
    for form in [&[][..], &[("user", " ")], &[("other", &*long)]] {
        let page = post(url.as_str(), form).await;
        assert_eq!(page.status, 400, "{form:?}");
        assert!(page.text().contains("Choose a name"));
    }
    let page = post(url.as_str(), &[("other", "eve")]).await;
    assert_eq!(
        page.status, 200,
        "a user without sessions is logged out already"
    );
}

#[tokio::test]
async fn the_demo_accepts_no_form_of_another_site() {
    let server = mcp::start(&[]).await;
    let client = McpClient::register(&server).await;
    let (access, _, demo) = log_in(&server, &client, "ada").await;
    let url = demo.join("/logout").unwrap();
    let log_out = async |site: &str| {
        let headers = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("sec-fetch-site", site),
        ];
        send("POST", url.as_str(), &headers, "user=ada").await
    };
    for site in ["cross-site", "same-site", "none"] {
        let answer = log_out(site).await;
        assert_error(&answer, 400, "invalid_request", site);
    }
    assert_eq!(call(&server, &access, "whoami").await.status, 200);
    assert_eq!(log_out("same-origin").await.status, 200);
    ended(&server, &access).await;
}

#[tokio::test]
async fn the_users_of_the_demo_keep_their_addresses() {
    let flags = ["--scope=openid email", "--allow-email-domain=demo.example"];
    let server = mcp::start(&flags.map(str::to_owned)).await;
    let client = McpClient::register(&server).await;
    let (_, mut refresh, _) = log_in(&server, &client, "ada").await;
    for scope in [&[("scope", "openid")][..], &[]] {
        let tokens = client.refresh(&server, &refresh, scope).await;
        assert_eq!(tokens.status, 200, "{scope:?}: {}", tokens.text());
        refresh = tokens.string("refresh_token");
    }
}
