//! The users of the providers that the presets of the example `mcp` are for: who may log in.

use serde_json::{Value, json};
use test_support::process::Example;

use crate::presets::{discord, github, start};
use crate::support::idp::{Behaviour, Idp};
use crate::support::mcp::{Browser, one, onward, query, request};
use crate::support::mcp_client::{McpClient, REDIRECT};
use crate::users::returned;

#[tokio::test]
async fn github_users_have_numbers_names_and_addresses() {
    let idp = Idp::with(github()).await;
    for (flag, right) in [
        ("--allow-user=583231", true),
        ("--allow-user=Ada", true),
        ("--allow-user=ada@example.com", true),
        ("--allow-email-domain=example.com", true),
        ("--allow-email-domain=example.org", false),
    ] {
        let (server, client) = start("github", &idp, &[flag]).await;
        let admitted = admits(&server, &client).await;
        assert_eq!(admitted, right, "{flag}");
    }
    // Users choose their names.
    idp.change(|now| now.userinfo["login"] = "99".into());
    let (server, client) = start("github", &idp, &["--allow-user=99"]).await;
    assert!(!admits(&server, &client).await);
}

/// Returns whether the user can log in.
async fn admits(server: &Example, client: &McpClient) -> bool {
    let answer = returned(server, client).await;
    if answer.status == 403 {
        return false;
    }
    let parameters = query(&onward(&answer));
    assert!(one(&parameters, "code").is_some(), "{parameters:?}");
    true
}

#[tokio::test]
async fn github_users_keep_their_sessions_while_their_addresses_are_unavailable() {
    for (status, header, lives) in [
        (429, None, true),
        (500, None, true),
        (403, Some("x-ratelimit-remaining"), true),
        (403, Some("retry-after"), true),
        (403, None, false),
        (404, None, false),
    ] {
        let idp = Idp::with(github()).await;
        let flags = ["--allow-email-domain=example.com"];
        let (server, client) = start("github", &idp, &flags).await;
        let refresh = client.log_in(&server).await.string("refresh_token");
        idp.change(|now| now.emails_status = (status, header));
        let tokens = client.refresh(&server, &refresh, &[]).await;
        let expected = if lives { 200 } else { 400 };
        assert_eq!(tokens.status, expected, "{status} {header:?}");
    }
}

#[tokio::test]
async fn github_users_have_no_need_of_an_address_without_a_rule_for_it() {
    let idp = Idp::with(github()).await;
    idp.change(|now| now.emails_status = (500, None));
    let (server, client) = start("github", &idp, &["--allow-user=583231"]).await;
    client.log_in(&server).await;
}

#[tokio::test]
async fn github_is_asked_for_addresses_if_a_rule_needs_them() {
    let idp = Idp::with(github()).await;
    let flags = ["--scope=repo", "--allow-email-domain=example.com"];
    let (server, client) = start("github", &idp, &flags).await;
    let tokens = client.log_in(&server).await;
    assert_eq!(tokens.string("scope"), "repo");
    assert_eq!(
        one(&idp.last("/authorize").form, "scope"),
        Some("repo user:email")
    );
}

#[tokio::test]
async fn google_users_belong_to_a_domain_that_manages_their_account() {
    for (email, hd, right) in [
        ("ada@example.com", Some("example.com"), true),
        ("ada@Example.com", Some("EXAMPLE.com"), true),
        ("eve@example.com", None, false),
        ("eve@example.com", Some("example.org"), false),
        ("ada@gmail.com", None, true),
    ] {
        let claims = json!({ "sub": "10769", "email": email, "email_verified": true, "hd": hd });
        let idp = Idp::with(Behaviour {
            methods: &["client_secret_post"],
            id_token: Some(claims),
            ..Behaviour::default()
        })
        .await;
        let flags = ["--allow-email-domain=example.com,gmail.com"];
        let (server, client) = start("google", &idp, &flags).await;
        assert_eq!(admits(&server, &client).await, right, "{email} {hd:?}");
    }
}

#[tokio::test]
async fn entra_users_have_the_same_id_whatever_a_client_asks_for() {
    let claims = json!({ "sub": "pairwise", "oid": "0a1b", "tid": "tenant" });
    let idp = Idp::with(Behaviour {
        userinfo: json!({ "sub": "pairwise" }),
        ..entra(claims)
    })
    .await;
    let flags = [
        "--allow-user=0a1b",
        "--scope=openid offline_access User.Read",
    ];
    let (server, client) = start("entra", &idp, &flags).await;
    let asked = request(&server, &client.id, REDIRECT, &[("scope", "openid")]);
    let answer = query(&Browser::default().log_in(&asked, REDIRECT).await);
    let code = one(&answer, "code").unwrap_or_else(|| panic!("{answer:?}"));
    let tokens = client.exchange(&server, code, &[]).await;
    assert_eq!(tokens.string("scope"), "openid");
    let refresh = tokens.string("refresh_token");
    let tokens = client
        .refresh(&server, &refresh, &[("scope", "openid")])
        .await;
    assert_eq!(tokens.status, 200, "{}", tokens.text());
}

/// The provider for a directory of Entra ID, with these claims in ID tokens.
fn entra(claims: Value) -> Behaviour {
    Behaviour {
        path: "/tenant/v2.0",
        methods: &["client_secret_post"],
        id_token: Some(claims),
        scoped: &[("profile", "oid")],
        ..Behaviour::default()
    }
}

#[tokio::test]
async fn entra_users_have_ids_and_groups_and_no_verified_address() {
    let ada = json!({ "oid": "0a1b", "email": "ada@example.com", "groups": ["7c-d"] });
    // A user with many groups.
    let eve = json!({ "oid": "eve", "_claim_names": { "groups": "src1" } });
    for (claims, flag, right) in [
        (&ada, "--allow-user=0a1b", true),
        (&ada, "--allow-user=ada", false),
        (&ada, "--allow-group=7c-d", true),
        (&eve, "--allow-group=7c-d", false),
        (&ada, "--allow-email-domain=example.com", false),
    ] {
        let idp = Idp::with(entra(claims.clone())).await;
        let (server, client) = start("entra", &idp, &[flag]).await;
        let admitted = admits(&server, &client).await;
        assert_eq!(admitted, right, "{flag} {claims}");
    }
}

#[tokio::test]
async fn entra_users_of_all_directories_come_from_their_own() {
    let idp = Idp::with(Behaviour {
        path: "/common/v2.0",
        ..entra(json!({}))
    })
    .await;
    let of = |tenant: &str| idp.url(&format!("/{tenant}/v2.0"));
    let document = json!({ "issuer": of("{tenantid}") });
    idp.change(|now| now.document = Some(document));
    let (server, client) = start("entra", &idp, &["--allow-user=0a1b"]).await;
    for (tenant, iss, right) in [
        ("7-a", of("7-a"), true),
        ("7-b", of("7-b"), true),
        ("7-a", of("7-b"), false),
        ("7-a", of("common"), false),
    ] {
        let claims = json!({ "oid": "0a1b", "tid": tenant, "iss": iss });
        idp.change(|now| now.id_token = Some(claims));
        let asked = request(&server, &client.id, REDIRECT, &[]);
        let parameters = query(&Browser::default().log_in(&asked, REDIRECT).await);
        let is_in = one(&parameters, "code").is_some();
        assert_eq!(is_in, right, "{tenant} {iss}: {parameters:?}");
    }
}

#[tokio::test]
async fn discord_users_have_ids_names_and_addresses() {
    let ada = discord().userinfo;
    // Names are chosen by users.
    let eve =
        json!({ "id": "1", "username": "8035", "email": "ada@example.com", "verified": false });
    for (user, flag, right) in [
        (&ada, "--allow-user=8035", true),
        (&eve, "--allow-user=8035", false),
        (&ada, "--allow-user=Ada", true),
        (&ada, "--allow-user=ada@example.com", true),
        (&eve, "--allow-user=ada@example.com", false),
        (&ada, "--allow-email-domain=example.com", true),
        (&eve, "--allow-email-domain=example.com", false),
    ] {
        let idp = Idp::with(Behaviour {
            userinfo: user.clone(),
            ..discord()
        })
        .await;
        let (server, client) = start("discord", &idp, &[flag]).await;
        let admitted = admits(&server, &client).await;
        assert_eq!(admitted, right, "{flag} {user}");
    }
}
