//! What ends a session at one provider only.

use serde_json::json;
use test_support::http::post;

use super::{github, of_google, start};
use crate::support::idp::{Behaviour, Idp, Refresh, Revocation};
use crate::support::mcp::one;
use crate::support::mcp_client::{assert_error, call, ended};

#[tokio::test]
async fn github_apps_rotate_refresh_tokens_that_work_once() {
    let idp = Idp::with(Behaviour {
        refresh: Refresh::Always,
        expires_in: Some(28_800),
        // They have permissions instead of scopes.
        scope: |_| Some(String::new()),
        ..github()
    })
    .await;
    let flags = ["--scope=", "--allow-user=583231"];
    let (server, client) = start("github", &idp, &flags).await;
    let mut refresh = client.log_in(&server).await.string("refresh_token");
    for _ in 0..2 {
        let tokens = client.refresh(&server, &refresh, &[]).await;
        assert_eq!(tokens.status, 200, "{}", tokens.text());
        refresh = tokens.string("refresh_token");
    }
    let sent = idp.received("/token");
    let sent: Vec<_> = sent[1..]
        .iter()
        .map(|sent| one(&sent.form, "refresh_token").unwrap())
        .collect();
    assert!(sent.len() == 2 && sent[0] != sent[1], "{sent:?}");
    idp.refuse_refreshes(200, json!({ "error": "bad_refresh_token" }));
    let refused = client.refresh(&server, &refresh, &[]).await;
    assert_error(&refused, 400, "invalid_grant", "GitHub ended the session");
}

#[tokio::test]
async fn google_ends_the_session_when_one_of_its_access_tokens_is_revoked() {
    let idp = Idp::with(Behaviour {
        refresh: Refresh::OfflineConsent,
        rotates: false,
        revocation: Revocation::Authorization,
        scope: of_google,
        ..Behaviour::default()
    })
    .await;
    let (server, client) = start("google", &idp, &[]).await;
    let tokens = client.log_in(&server).await;
    let revoked = client.revoke(&server, &tokens.string("access_token")).await;
    assert_eq!(revoked.status, 200, "{}", revoked.text());
    assert_eq!(idp.received("/revoke").len(), 1);
    let refresh = tokens.string("refresh_token");
    let refused = client.refresh(&server, &refresh, &[]).await;
    assert_error(&refused, 400, "invalid_grant", "Google ended the session");
}

#[tokio::test]
async fn keycloak_ends_refresh_tokens_with_the_session() {
    let idp = Idp::with(Behaviour {
        path: "/realms/main",
        refresh_expires_in: Some(1800),
        ..Behaviour::default()
    })
    .await;
    let (server, client) = start("keycloak", &idp, &[]).await;
    let tokens = client.log_in(&server).await.json();
    let lifetime = tokens["refresh_token_timeout"].as_u64();
    assert!(lifetime.is_some_and(|left| left <= 1800), "{tokens}");
}

#[tokio::test]
async fn auth0_and_keycloak_log_users_out() {
    for (preset, path) in [("auth0", "/"), ("keycloak", "/realms/main")] {
        let idp = Idp::with(Behaviour {
            path,
            id_token: Some(json!({ "sid": "a session" })),
            ..Behaviour::default()
        })
        .await;
        let (server, client) = start(preset, &idp, &[]).await;
        let access = client.log_in(&server).await.string("access_token");
        assert_eq!(call(&server, &access, "whoami").await.status, 200);
        let token = idp.logout_token("ada");
        let url = server.url("/backchannel-logout");
        let answer = post(&url, &[("logout_token", &*token)]).await;
        assert_eq!(answer.status, 200, "{preset}: {}", answer.text());
        ended(&server, &access).await;
    }
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
