//! The presets of the example `mcp`, each in front of a provider that does what its documentation
//! says.

use serde_json::json;
use test_support::http::post;
use test_support::process::Example;

use crate::support::idp::{Behaviour, Idp, Refresh};
use crate::support::mcp::{self, Browser, one, query, request};
use crate::support::mcp_client::{McpClient, REDIRECT, assert_error, call, ended};

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
        idp.received("/userinfo").len() > 1,
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
async fn github_users_have_numbers_names_and_addresses() {
    let idp = Idp::with(github()).await;
    for (flag, right) in [
        ("--allow-user=583231", true),
        ("--allow-user=Ada", true),
        ("--allow-user=ada@example.com", true),
        ("--allow-email-domain=example.com", true),
        ("--allow-email-domain=example.org", false),
        ("--allow-group=staff", false),
    ] {
        let (server, client) = start("github", &idp, &[flag]).await;
        let admitted = admits(&server, &client).await;
        assert_eq!(admitted, right, "{flag}");
    }
}

/// Returns whether the user can log in.
async fn admits(server: &Example, client: &McpClient) -> bool {
    let mut browser = Browser::default();
    let answer = browser
        .get(&request(server, &client.id, REDIRECT, &[]))
        .await;
    let answer = browser.approve(&answer).await;
    let callback = browser.follow(answer, &server.url("/callback?")).await;
    browser.get(&callback).await.status == 303
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
    let idp = Idp::with(Behaviour {
        path: "/tenant/v2.0",
        methods: &["client_secret_post"],
        id_token: Some(json!({ "sub": "pairwise", "oid": "0a1b", "tid": "tenant" })),
        userinfo: json!({ "sub": "pairwise" }),
        scoped: &[("profile", "oid")],
        ..Behaviour::default()
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

/// The scopes of Google in responses.
fn of_google(asked: &str) -> Option<String> {
    let granted = asked.split(' ').map(|scope| match scope {
        "email" => "https://www.googleapis.com/auth/userinfo.email",
        "profile" => "https://www.googleapis.com/auth/userinfo.profile",
        scope => scope,
    });
    Some(granted.collect::<Vec<_>>().join(" "))
}

/// The scopes of Entra ID in responses: without `offline_access`, and with the names of an API.
fn of_entra(asked: &str) -> Option<String> {
    let granted = asked.split(' ').filter(|scope| *scope != "offline_access");
    let granted = granted.map(|scope| match scope {
        "User.Read" => "https://graph.microsoft.com/User.Read".to_owned(),
        scope => scope.replace("api://app/", ""),
    });
    Some(granted.collect::<Vec<_>>().join(" "))
}

/// A row of the table of providers.
struct Row {
    preset: &'static str,
    behaviour: Behaviour,
    flags: &'static [&'static str],
    /// The scope that a client gets.
    scope: &'static str,
}

fn rows() -> Vec<Row> {
    let offline = "openid profile email offline_access";
    let base = Behaviour::default;
    let row = |preset, behaviour, flags, scope| Row {
        preset,
        behaviour,
        flags,
        scope,
    };
    vec![
        row(
            "google",
            Behaviour {
                methods: &["client_secret_post", "client_secret_basic"],
                refresh: Refresh::OfflineConsent,
                rotates: false,
                scope: of_google,
                ..base()
            },
            &[],
            "email openid profile",
        ),
        row(
            "entra",
            Behaviour {
                path: "/tenant/v2.0",
                methods: &[
                    "client_secret_post",
                    "private_key_jwt",
                    "client_secret_basic",
                ],
                document: Some(json!({ "revocation_endpoint": null })),
                refresh: Refresh::OfflineAccess,
                scope: of_entra,
                id_token: Some(json!({ "oid": "0a1b", "tid": "tenant" })),
                scoped: &[("profile", "oid")],
                ..base()
            },
            &[
                "--allow-user=0a1b",
                "--scope=openid offline_access User.Read api://app/read",
            ],
            "User.Read api://app/read openid",
        ),
        row(
            "auth0",
            Behaviour {
                path: "/",
                refresh: Refresh::OfflineAccess,
                id_token: Some(json!({ "https://example.com/groups": ["staff"] })),
                ..base()
            },
            &[
                "--allow-group=staff",
                "--groups-claim=https://example.com/groups",
            ],
            offline,
        ),
        row(
            "okta",
            Behaviour {
                path: "/oauth2/default",
                refresh: Refresh::OfflineAccess,
                id_token: Some(json!({ "groups": ["Everyone", "staff"] })),
                ..base()
            },
            &["--allow-group=staff"],
            offline,
        ),
        row(
            "keycloak",
            Behaviour {
                path: "/realms/main",
                document: Some(json!({ "authorization_response_iss_parameter_supported": true })),
                iss: true,
                id_token: Some(json!({ "typ": "ID", "groups": ["/staff"] })),
                ..base()
            },
            &["--allow-group=/staff"],
            "email openid profile",
        ),
        row(
            "cognito",
            Behaviour {
                path: "/pool",
                rotates: false,
                // Neither tokens nor refreshes name the scope. Userinfo has no groups.
                scope: |_| None,
                id_token: Some(json!({ "token_use": "id", "cognito:groups": ["staff"] })),
                ..base()
            },
            &["--allow-group=staff"],
            "email openid profile",
        ),
        row(
            "gitlab",
            Behaviour {
                methods: &["client_secret_basic", "client_secret_post"],
                expires_in: Some(7200),
                id_token: Some(json!({ "groups_direct": ["my-group"] })),
                ..base()
            },
            &["--allow-group=my-group"],
            "email openid profile",
        ),
        row(
            "discord",
            Behaviour {
                document: None,
                methods: &["client_secret_basic", "client_secret_post"],
                expires_in: Some(604_800),
                id_token: None,
                userinfo: json!({ "id": "8035", "username": "ada", "email": "ada@example.com", "verified": true }),
                ..base()
            },
            &["--allow-email-domain=example.com"],
            "email identify",
        ),
    ]
}

#[tokio::test]
async fn a_session_lives_and_ends_at_every_provider() {
    for row in rows() {
        let name = row.preset;
        let idp = Idp::with(row.behaviour).await;
        let (server, client) = start(name, &idp, row.flags).await;
        let tokens = client.log_in(&server).await;
        let scope = tokens.string("scope");
        let mut scopes: Vec<_> = scope.split(' ').collect();
        let mut expected: Vec<_> = row.scope.split(' ').collect();
        expected.retain(|scope| *scope != "offline_access");
        scopes.sort_unstable();
        expected.sort_unstable();
        assert_eq!(scopes, expected, "{name}");
        let mut refresh = tokens.string("refresh_token");
        for _ in 0..2 {
            let tokens = client.refresh(&server, &refresh, &[]).await;
            assert_eq!(tokens.status, 200, "{name}: {}", tokens.text());
            assert_eq!(tokens.string("scope"), scope, "{name}");
            refresh = tokens.string("refresh_token");
        }
        // The rules still know the user.
        let narrow = scopes.iter().find(|scope| **scope != "openid").unwrap();
        let tokens = client
            .refresh(&server, &refresh, &[("scope", narrow)])
            .await;
        assert_eq!(tokens.status, 200, "{name}: {}", tokens.text());
        assert_eq!(tokens.string("scope"), *narrow, "{name}");
        refresh = tokens.string("refresh_token");
        assert_eq!(client.revoke(&server, &refresh).await.status, 200, "{name}");
        let revoked = idp.received("/revoke").len();
        assert_eq!(revoked, usize::from(name != "entra"), "{name}");
    }
}

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
