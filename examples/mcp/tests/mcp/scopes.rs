//! Scopes that clients request although they are not configured, and `offline_access`.

use serde_json::json;
use test_support::http::{Answer, get, send};
use test_support::process::Example;

use crate::support::identity::Identity;
use crate::support::mcp::{self, Browser, Pairs, one, onward, query};
use crate::support::mcp_client::{McpClient, REDIRECT, assert_error};

struct Fixture {
    identity: Identity,
    server: Example,
    client: McpClient,
}

impl Fixture {
    async fn start(more: &[&str]) -> Self {
        let identity = Identity::start().await;
        let mut flags = identity.flags();
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        let server = mcp::start(&flags).await;
        let client = McpClient::register(&server).await;
        Self {
            identity,
            server,
            client,
        }
    }

    fn request(&self, scope: &str) -> String {
        mcp::request(&self.server, &self.client.id, REDIRECT, &[("scope", scope)])
    }

    /// Logs in with this scope. Returns the request that the provider got, and the tokens.
    async fn log_in(&self, scope: &str) -> (Pairs, Answer) {
        let mut browser = Browser::default();
        let answer = browser.get(&self.request(scope)).await;
        let answer = browser.approve(&answer).await;
        let provider = format!("http://{}/authorize", self.identity.addr);
        let asked = browser.follow(answer, &provider).await;
        let answer = browser.get(&asked).await;
        let answer = query(&browser.follow(answer, REDIRECT).await);
        let code = one(&answer, "code").unwrap();
        let tokens = self.client.exchange(&self.server, code, &[]).await;
        assert_eq!(tokens.status, 200, "{scope}: {}", tokens.text());
        (query(&asked), tokens)
    }

    async fn refresh(&self, token: &str, scope: &str) -> Answer {
        let changes = [("scope", scope)];
        self.client.refresh(&self.server, token, &changes).await
    }
}

#[tokio::test]
async fn offline_access_is_accepted_and_not_sent_to_the_provider() {
    let fixture = Fixture::start(&["--scope", "openid profile"]).await;
    for (scope, granted) in [
        ("openid offline_access", "openid"),
        ("offline_access", "openid profile"),
    ] {
        let (asked, tokens) = fixture.log_in(scope).await;
        assert_eq!(one(&asked, "scope"), Some(granted), "{scope}");
        assert_eq!(tokens.string("scope"), granted, "{scope}");
        let tokens = fixture
            .refresh(&tokens.string("refresh_token"), scope)
            .await;
        assert_eq!(tokens.status, 200, "{scope}: {}", tokens.text());
        let form = fixture.identity.last_form();
        let sent = one(&form, "scope").unwrap_or(granted);
        assert_eq!(sent, granted, "{scope}: {form:?}");
        assert_eq!(tokens.string("scope"), granted, "{scope}");
    }
    let metadata = json!({ "redirect_uris": [REDIRECT], "scope": "openid offline_access" });
    let registered = mcp::register(&fixture.server, &metadata).await;
    assert_eq!(registered["scope"], "openid");
}

#[tokio::test]
async fn a_configured_offline_access_is_sent_to_the_provider() {
    let fixture = Fixture::start(&["--scope", "openid offline_access"]).await;
    let (asked, _) = fixture.log_in("openid offline_access").await;
    assert_eq!(one(&asked, "scope"), Some("offline_access openid"));
    // Every client gets a refresh token, for which this server needs one of the provider.
    let (asked, tokens) = fixture.log_in("openid").await;
    assert_eq!(one(&asked, "scope"), Some("openid offline_access"));
    assert_eq!(tokens.string("scope"), "openid");
    for (name, scopes) in [
        (
            "oauth-authorization-server",
            json!(["openid", "offline_access"]),
        ),
        ("oauth-protected-resource", json!(["openid"])),
    ] {
        let url = fixture.server.url(&format!("/.well-known/{name}"));
        assert_eq!(get(&url).await.json()["scopes_supported"], scopes, "{name}");
    }
    let refused = send("POST", &fixture.server.url("/mcp"), &[], "").await;
    let challenge = refused.headers["www-authenticate"].to_str().unwrap();
    assert!(!challenge.contains("offline_access"), "{challenge}");
}

#[tokio::test]
async fn an_unknown_scope_is_dropped_and_the_response_names_the_rest() {
    let fixture = Fixture::start(&["--scope", "openid profile email"]).await;
    let (asked, tokens) = fixture.log_in("openid admin profile").await;
    assert_eq!(one(&asked, "scope"), Some("openid profile"));
    assert_eq!(tokens.string("scope"), "openid profile");
    let token = tokens.string("refresh_token");
    let tokens = fixture.refresh(&token, "admin profile").await;
    assert_eq!(tokens.string("scope"), "profile");
    // A scope that is known but was not granted is an error (RFC 6749 §6).
    let token = tokens.string("refresh_token");
    let tokens = fixture.refresh(&token, "profile email").await;
    assert_error(&tokens, 400, "invalid_scope", "not granted");
}

#[tokio::test]
async fn an_unknown_scope_is_refused_if_the_operator_wants_it() {
    let flags = ["--scope", "openid profile", "--unknown-scopes", "refuse"];
    let fixture = Fixture::start(&flags).await;
    let page = get(&fixture.request("openid admin")).await;
    assert_eq!(page.status, 400);
    assert!(page.text().contains("invalid_scope"), "{}", page.text());
    let page = get(&fixture.request("openid offline_access")).await;
    assert!(onward(&page).contains("/consent"), "{}", page.text());
    let (_, tokens) = fixture.log_in("openid").await;
    let token = tokens.string("refresh_token");
    let tokens = fixture.refresh(&token, "openid admin").await;
    assert_error(&tokens, 400, "invalid_scope", "a refresh");
    let metadata = json!({ "redirect_uris": [REDIRECT], "scope": "openid admin" });
    let headers = [("content-type", "application/json")];
    let url = fixture.server.url("/register");
    let refused = send("POST", &url, &headers, metadata.to_string()).await;
    assert_error(&refused, 400, "invalid_client_metadata", "a registration");
}

/// Keycloak adds default scopes, and Google adds the scopes that the user granted before.
#[tokio::test]
async fn scopes_that_the_provider_adds_are_not_granted() {
    let fixture = Fixture::start(&["--scope", "openid profile email"]).await;
    let answer = |scope| {
        fixture
            .identity
            .change(|manners| manners.scope = Some(scope))
    };
    answer("openid profile email admin");
    let (_, tokens) = fixture.log_in("openid profile").await;
    assert_eq!(tokens.string("scope"), "openid profile");
    let token = tokens.string("refresh_token");
    let tokens = fixture.refresh(&token, "").await;
    assert_eq!(tokens.string("scope"), "openid profile");
    // This server does not grant a scope that the provider has not granted.
    answer("email admin");
    let token = tokens.string("refresh_token");
    let tokens = fixture.refresh(&token, "").await;
    assert_eq!(tokens.string("scope"), "", "{}", tokens.text());
}
