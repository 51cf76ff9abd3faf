//! A client of the example `mcp` that the test controls.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_support::PATIENCE;
use test_support::http::{Answer, post, send};
use test_support::process::Example;
use tokio::time::sleep;

use super::mcp::{Browser, VERIFIER, one, query, register_public, request};

pub(crate) const REDIRECT: &str = "http://127.0.0.1:7777/callback";

/// A public client.
#[derive(Clone, Debug)]
pub(crate) struct McpClient {
    pub(crate) id: String,
}

impl McpClient {
    pub(crate) async fn register(server: &Example) -> Self {
        Self {
            id: register_public(server, "A client", REDIRECT).await,
        }
    }

    /// Logs in. Returns the code.
    pub(crate) async fn code(&self, server: &Example) -> String {
        let url = request(server, &self.id, REDIRECT, &[]);
        let answer = query(&Browser::default().log_in(&url, REDIRECT).await);
        one(&answer, "code")
            .unwrap_or_else(|| panic!("no code: {answer:?}"))
            .to_owned()
    }

    /// Sends a token request with this client's ID, the usual parameters and these changes. A
    /// parameter with an empty value is omitted.
    pub(crate) async fn token(
        &self,
        server: &Example,
        usual: &[(&str, &str)],
        changes: &[(&str, &str)],
    ) -> Answer {
        let changed = |name: &str| changes.iter().any(|(other, _)| *other == name);
        let usual = [("client_id", self.id.as_str())]
            .into_iter()
            .chain(usual.iter().copied());
        let form: Vec<_> = usual
            .filter(|(name, _)| !changed(name))
            .chain(changes.iter().copied())
            .collect();
        let form: Vec<_> = form
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .collect();
        post(&server.url("/token"), &form).await
    }

    pub(crate) async fn exchange(
        &self,
        server: &Example,
        code: &str,
        changes: &[(&str, &str)],
    ) -> Answer {
        let usual = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", REDIRECT),
            ("code_verifier", VERIFIER),
        ];
        self.token(server, &usual, changes).await
    }

    /// Logs in. Returns the token response.
    pub(crate) async fn log_in(&self, server: &Example) -> Answer {
        let answer = self.exchange(server, &self.code(server).await, &[]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer
    }

    pub(crate) async fn refresh(
        &self,
        server: &Example,
        token: &str,
        changes: &[(&str, &str)],
    ) -> Answer {
        self.token(
            server,
            &[("grant_type", "refresh_token"), ("refresh_token", token)],
            changes,
        )
        .await
    }

    pub(crate) async fn revoke(&self, server: &Example, token: &str) -> Answer {
        post(
            &server.url("/revoke"),
            &[("client_id", &self.id), ("token", token)],
        )
        .await
    }
}

/// Calls a tool with an access token.
pub(crate) async fn call(server: &Example, token: &str, tool: &str) -> Answer {
    let message = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": tool, "arguments": {} } });
    let authorization = format!("Bearer {token}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("accept", "application/json, text/event-stream"),
        ("content-type", "application/json"),
        ("mcp-protocol-version", "2025-06-18"),
    ];
    send("POST", &server.url("/mcp"), &headers, message.to_string()).await
}

/// Returns the structured result of a tool call.
pub(crate) fn structured(answer: &Answer) -> Value {
    let json = answer.json();
    assert_eq!(json["result"]["isError"], json!(false), "{json}");
    json["result"]["structuredContent"].clone()
}

pub(crate) fn assert_error(answer: &Answer, status: u16, error: &str, name: &str) {
    assert_eq!(answer.status, status, "{name}: {}", answer.text());
    assert_eq!(answer.json()["error"], error, "{name}: {}", answer.text());
    assert_eq!(answer.headers["cache-control"], "no-store", "{name}");
    assert_eq!(answer.headers["content-type"], "application/json", "{name}");
}

/// Waits until the server rejects an access token.
pub(crate) async fn ended(server: &Example, token: &str) {
    let end = Instant::now() + PATIENCE;
    while call(server, token, "whoami").await.status != 401 {
        assert!(
            Instant::now() < end,
            "the access token is still accepted: {server:?}"
        );
        sleep(Duration::from_millis(50)).await;
    }
}
