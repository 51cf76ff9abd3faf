//! The rules that say which users may log in.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{returned, says, start, userinfo};
use crate::support::idp::{Behaviour, Idp};
use crate::support::mcp::{assert_is_page, one, onward, query};
use crate::support::mcp_client::{assert_error, ended};

#[tokio::test]
async fn a_log_in_does_not_depend_on_userinfo_without_rules() {
    let idp = Idp::with(userinfo(Value::Null)).await;
    let (server, client) = start(&idp, &[]).await;
    client.log_in(&server).await;
    let (server, client) = start(&idp, &["--allow-user=ada"]).await;
    let parameters = query(&onward(&returned(&server, &client).await));
    assert_eq!(one(&parameters, "error"), Some("temporarily_unavailable"));
}

#[tokio::test]
async fn only_the_users_of_a_rule_come_in() {
    let ada = json!({ "sub": "ada", "email": "ada@example.com", "email_verified": true, "groups": ["staff"] });
    let eve = json!({ "sub": "eve", "email": "ada@example.com", "email_verified": false, "groups": ["x"] });
    for flag in [
        "--allow-user=ada",
        "--allow-user=bob,ADA@example.com",
        "--allow-email-domain=example.org,Example.com",
        "--allow-group=staff",
    ] {
        for behaviour in [says, userinfo] {
            let idp = Idp::with(behaviour(ada.clone())).await;
            let (server, client) = start(&idp, &[flag, "--contact=it@example.com"]).await;
            client.log_in(&server).await;
            let idp_says = |claims: &Value| {
                idp.change(|now| {
                    let new = behaviour(claims.clone());
                    now.id_token = new.id_token;
                    now.userinfo = new.userinfo;
                });
            };
            idp_says(&eve);
            let page = returned(&server, &client).await;
            assert_eq!(
                page.status,
                StatusCode::FORBIDDEN,
                "{flag}: {}",
                page.text()
            );
            assert_is_page(&page);
            let text = page.text();
            assert!(text.contains("Ask it@example.com for access"), "{text}");
            assert!(text.contains("error=access_denied"), "{text}");
            assert_eq!(idp.received("/token").len(), 2);
        }
    }
}

#[tokio::test]
async fn a_missing_email_or_group_is_read_from_userinfo() {
    let idp = Idp::with(says(json!({ "sub": "ada" }))).await;
    let more = |sub: &str| json!({ "sub": sub, "groups": ["staff"] });
    idp.change(|behaviour| behaviour.userinfo = more("ada"));
    let (server, client) = start(&idp, &["--allow-group=staff"]).await;
    client.log_in(&server).await;
    idp.change(|behaviour| {
        behaviour.id_token = Some(json!({ "email": "ada@example.com" }));
        behaviour.userinfo =
            json!({ "sub": "ada", "email": "other@example.org", "email_verified": true });
    });
    let flags = ["--allow-email-domain=example.com"];
    let (strict, stranger) = start(&idp, &flags).await;
    let page = returned(&strict, &stranger).await;
    assert_eq!(
        page.status,
        StatusCode::FORBIDDEN,
        "another address is verified"
    );
    idp.change(|behaviour| behaviour.userinfo = more("eve"));
    let parameters = query(&onward(&returned(&server, &client).await));
    assert_eq!(
        one(&parameters, "error"),
        Some("server_error"),
        "userinfo is about another user"
    );
}

#[tokio::test]
async fn rules_are_checked_at_every_refresh() {
    let staff = json!({ "sub": "ada", "groups": ["staff"] });
    let left = json!({ "sub": "ada", "groups": ["alumni"] });
    for behaviour in [says, userinfo] {
        let idp = Idp::with(behaviour(staff.clone())).await;
        let (server, client) = start(&idp, &["--allow-group=staff"]).await;
        let tokens = client.log_in(&server).await;
        let refresh = tokens.string("refresh_token");
        let tokens = client.refresh(&server, &refresh, &[]).await;
        assert_eq!(tokens.status, 200, "{}", tokens.text());
        idp.change(|now| {
            let new = behaviour(left.clone());
            now.id_token = new.id_token;
            now.userinfo = new.userinfo;
        });
        let refresh = tokens.string("refresh_token");
        let refused = client.refresh(&server, &refresh, &[]).await;
        assert_error(
            &refused,
            400,
            "invalid_grant",
            "the user has left the group",
        );
        ended(&server, &tokens.string("access_token")).await;
    }
}

#[tokio::test]
async fn a_narrower_scope_does_not_hide_the_user_from_the_rules() {
    let staff = json!(["staff"]);
    // Cognito: the groups are only in ID tokens, and userinfo needs `openid`.
    let idp = Idp::with(says(json!({ "sub": "ada", "groups": staff }))).await;
    let flags = ["--scope=openid profile", "--allow-group=staff"];
    let (server, client) = start(&idp, &flags).await;
    let refresh = client.log_in(&server).await.string("refresh_token");
    let narrow = [("scope", "profile")];
    let tokens = client.refresh(&server, &refresh, &narrow).await;
    assert_eq!(tokens.status, 200, "{}", tokens.text());
    assert_eq!(tokens.string("scope"), "profile");
    assert_eq!(
        one(&idp.last("/token").form, "scope"),
        Some("profile openid")
    );
    idp.change(|now| now.id_token = Some(json!({ "sub": "ada", "groups": ["alumni"] })));
    let refresh = tokens.string("refresh_token");
    let refused = client.refresh(&server, &refresh, &narrow).await;
    assert_error(
        &refused,
        400,
        "invalid_grant",
        "the user has left the group",
    );
}

#[tokio::test]
async fn the_rules_end_a_session_whose_user_userinfo_no_longer_names() {
    let ada = json!({ "sub": "ada", "email": "ada@example.com", "email_verified": true });
    let flags = [
        "--scope=openid email",
        "--allow-email-domain=example.com",
        "--allow-group=staff",
    ];
    for (status, ends) in [
        (401, true),
        (403, true),
        (404, true),
        (200, true),
        (408, false),
        (429, false),
        (503, false),
    ] {
        let idp = Idp::with(says(ada.clone())).await;
        let (server, client) = start(&idp, &flags).await;
        idp.change(|now| now.userinfo = ada.clone());
        let refresh = client.log_in(&server).await.string("refresh_token");
        idp.change(|now| {
            now.id_token = None;
            now.userinfo_status = (status, None);
            now.userinfo = json!("not an object");
        });
        let tokens = client.refresh(&server, &refresh, &[]).await;
        let expected = if ends { 400 } else { 200 };
        assert_eq!(tokens.status, expected, "{status}: {}", tokens.text());
    }
}

#[tokio::test]
async fn rules_hold_for_a_client_that_never_refreshes() {
    let idp = Idp::with(Behaviour {
        expires_in: Some(1),
        ..says(json!({ "sub": "ada", "groups": ["staff"] }))
    })
    .await;
    let (server, client) = start(&idp, &["--allow-group=staff"]).await;
    let access = client.log_in(&server).await.string("access_token");
    idp.change(|now| now.id_token = Some(json!({ "sub": "ada", "groups": ["alumni"] })));
    ended(&server, &access).await;
    assert!(
        server.stderr().contains("a session ended: no --allow-"),
        "{server:?}"
    );
}

#[tokio::test]
async fn a_public_provider_without_rules_gets_a_warning() {
    let warning = "every account at the identity provider can log in";
    for (flags, warns) in [
        (&["--provider=google"][..], true),
        (&["--provider=google", "--allow-user=ada"], false),
        (&["--provider=keycloak"], false),
        (&[], false),
    ] {
        let idp = Idp::start().await;
        let (server, _) = start(&idp, flags).await;
        assert_eq!(server.stderr().contains(warning), warns, "{flags:?}");
    }
}
