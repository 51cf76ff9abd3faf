//! The presets of the example `mcp`, each in front of a provider that does what its documentation
//! says.

use serde_json::json;
use test_support::process::Example;

use crate::support::idp::{Behaviour, Idp, Refresh};
use crate::support::mcp::{self, one};
use crate::support::mcp_client::{McpClient, assert_error, call};

/// Starts a server with a preset in front of `idp`.
async fn start(preset: &str, idp: &Idp, more: &[&str]) -> (Example, McpClient) {
    let mut flags = idp.preset_flags();
    flags.push(format!("--provider={preset}"));
    flags.extend(more.iter().map(|flag| (*flag).to_owned()));
    let server = mcp::start(&flags).await;
    let client = McpClient::register(&server).await;
    (server, client)
}

fn github() -> Behaviour {
    Behaviour {
        document: None,
        methods: &["client_secret_post"],
        errors_with_200: true,
        forms: true,
        refresh: Refresh::Never,
        expires_in: None,
        scope: |asked| Some(asked.replace(' ', ",")),
        id_token: None,
        userinfo: json!({ "login": "ada", "id": 583_231, "email": null }),
        ..Behaviour::default()
    }
}

#[tokio::test]
async fn github_issues_tokens_that_do_not_expire() {
    let idp = Idp::with(github()).await;
    let (server, client) = start("github", &idp, &[]).await;
    let tokens = client.log_in(&server).await;
    assert_eq!(tokens.json()["scope"], "read:user user:email");
    let headers = idp.last("/token").headers;
    assert_eq!(headers["accept"], "application/json");
    let refresh = tokens.string("refresh_token");
    let tokens = client.refresh(&server, &refresh, &[]).await;
    assert_eq!(tokens.status, 200, "{}", tokens.text());
    assert!(
        !idp.received("/userinfo").is_empty(),
        "GitHub is asked whether the token is valid"
    );
    assert_eq!(
        idp.received("/token").len(),
        1,
        "there is nothing to refresh"
    );
    let access = tokens.string("access_token");
    assert_eq!(call(&server, &access, "whoami").await.status, 200);
}

#[tokio::test]
async fn google_refreshes_offline_access_only() {
    let idp = Idp::with(Behaviour {
        methods: &["client_secret_post", "client_secret_basic"],
        refresh: Refresh::OfflineConsent,
        rotates: false,
        ..Behaviour::default()
    })
    .await;
    let (server, client) = start("google", &idp, &[]).await;
    let tokens = client.log_in(&server).await;
    let mut refresh = tokens.string("refresh_token");
    for _ in 0..2 {
        let tokens = client.refresh(&server, &refresh, &[]).await;
        assert_eq!(tokens.status, 200, "{}", tokens.text());
        refresh = tokens.string("refresh_token");
    }
    assert_eq!(
        one(&idp.last("/authorize").form, "access_type"),
        Some("offline")
    );
}

#[tokio::test]
async fn entra_ends_a_session_with_an_error_of_its_own() {
    let idp = Idp::with(Behaviour {
        path: "/tenant/v2.0",
        methods: &["client_secret_post"],
        refresh: Refresh::OfflineAccess,
        scope: |asked| {
            Some(
                asked
                    .replace(" offline_access", "")
                    .replace("offline_access ", ""),
            )
        },
        ..Behaviour::default()
    })
    .await;
    let (server, client) = start("entra", &idp, &[]).await;
    let refresh = client.log_in(&server).await.string("refresh_token");
    let tokens = client.refresh(&server, &refresh, &[]).await;
    assert_eq!(tokens.status, 200, "{}", tokens.text());
    let error = json!({
        "error": "interaction_required",
        "error_description": "AADSTS50076: Due to a configuration change …",
        "error_codes": [50076],
        "suberror": "basic_action",
    });
    idp.refuse_refreshes(400, error);
    let refresh = tokens.string("refresh_token");
    let refused = client.refresh(&server, &refresh, &[]).await;
    assert_error(&refused, 400, "invalid_grant", "the user must log in again");
    assert!(!refused.text().contains("AADSTS"));
}
