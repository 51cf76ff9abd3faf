//! The presets of the example `mcp`, each in front of a provider that does what its documentation
//! says.

mod ends;

use serde_json::json;
use test_support::process::Example;

use crate::support::idp::{Behaviour, Idp, Refresh, Revocation};
use crate::support::mcp;
use crate::support::mcp_client::{McpClient, assert_error, call, ended};

/// Starts a server with a preset in front of `idp`.
pub(crate) async fn start(preset: &str, idp: &Idp, more: &[&str]) -> (Example, McpClient) {
    let mut flags = idp.preset_flags();
    flags.push(format!("--provider={preset}"));
    flags.extend(more.iter().map(|flag| (*flag).to_owned()));
    let server = mcp::start(&flags).await;
    let client = McpClient::register(&server).await;
    (server, client)
}

pub(crate) fn github() -> Behaviour {
    Behaviour {
        document: None,
        methods: &["client_secret_post"],
        revocation: Revocation::None,
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
    assert_eq!(tokens.json()["expires_in"], 86_400);
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
    let refresh = tokens.string("refresh_token");
    assert_eq!(client.revoke(&server, &refresh).await.status, 200);
    ended(&server, &access).await;
    let refused = client.refresh(&server, &refresh, &[]).await;
    assert_error(&refused, 400, "invalid_grant", "revoked");
    assert!(idp.received("/revoke").is_empty());
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

fn okta(rotates: bool) -> Behaviour {
    Behaviour {
        path: "/oauth2/default",
        refresh: Refresh::OfflineAccess,
        rotates,
        id_token: Some(json!({ "groups": ["Everyone", "staff"] })),
        ..Behaviour::default()
    }
}

fn cognito(rotates: bool) -> Behaviour {
    Behaviour {
        path: "/pool",
        rotates,
        // Neither tokens nor refreshes name the scope. Userinfo has no groups.
        scope: |_| None,
        id_token: Some(json!({ "token_use": "id", "cognito:groups": ["staff"] })),
        ..Behaviour::default()
    }
}

pub(crate) fn discord() -> Behaviour {
    Behaviour {
        document: None,
        methods: &["client_secret_basic", "client_secret_post"],
        expires_in: Some(604_800),
        id_token: None,
        userinfo: json!({ "id": "8035", "username": "ada", "email": "ada@example.com", "verified": true }),
        ..Behaviour::default()
    }
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
                revocation: Revocation::None,
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
                // Of a user who comes from LinkedIn.
                id_token: Some(json!({
                    "https://example.com/groups": ["staff"],
                    "locale": { "country": "ES", "language": "es" },
                    "updated_at": "2025-07-02T15:31:58.178Z",
                })),
                ..base()
            },
            &[
                "--allow-group=staff",
                "--groups-claim=https://example.com/groups",
            ],
            offline,
        ),
        row("okta", okta(true), &["--allow-group=staff"], offline),
        row("okta", okta(false), &["--allow-group=staff"], offline),
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
            cognito(false),
            &["--allow-group=staff"],
            "email openid profile",
        ),
        row(
            "cognito",
            cognito(true),
            &["--allow-group=staff"],
            "email openid profile",
        ),
        row(
            "gitlab",
            Behaviour {
                methods: &["client_secret_basic", "client_secret_post"],
                expires_in: Some(7200),
                id_token: Some(json!({ "groups_direct": ["group/sub"] })),
                ..base()
            },
            &["--allow-group=group/sub"],
            "email openid profile",
        ),
        row(
            "discord",
            discord(),
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
        let alive = idp.authorizations();
        assert_eq!(alive, usize::from(name == "entra"), "{name}");
        let refused = client.refresh(&server, &refresh, &[]).await;
        assert_error(&refused, 400, "invalid_grant", name);
    }
}

#[test]
fn each_page_says_what_was_tested_and_what_was_not() {
    let pages = std::fs::read_dir("providers").unwrap();
    let pages: Vec<_> = pages.map(|page| page.unwrap().path()).collect();
    assert_eq!(pages.len(), 9);
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        for words in ["**Tested against a fixture**", "**From the documentation"] {
            assert!(text.contains(words), "{words}: {page:?}");
        }
        for name in text.split("`mcp/").skip(1) {
            let (name, _) = name.split_once('`').unwrap();
            let file = format!("tests/mcp/{name}");
            assert!(std::path::Path::new(&file).exists(), "{file}: {page:?}");
        }
    }
}
