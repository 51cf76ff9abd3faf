//! Errors and differences of the provider.

use std::time::Duration;

use serde_json::json;
use test_support::tokens::made_up;
use tokio::time::sleep;

use crate::support::fixture::Fixture;
use crate::support::identity::{Identity, Manners};
use crate::support::mcp::{self, one};
use crate::support::mcp_client::{McpClient, REDIRECT, assert_error, call, ended, structured};

#[tokio::test]
async fn errors_of_the_provider_are_not_blamed_on_the_client() {
    let Fixture {
        identity,
        server,
        client,
    } = Fixture::start().await;
    let error = |code: &str| {
        json!({ "error": code, "error_description": "a secret of the provider" }).to_string()
    };
    let rows: [(&str, u16, String, u16, &str); 14] = [
        (
            "the provider rejects the credentials of this server",
            401,
            error("invalid_client"),
            502,
            "server_error",
        ),
        (
            "this server is not authorized",
            400,
            error("unauthorized_client"),
            502,
            "server_error",
        ),
        (
            "the provider rejects the request",
            400,
            error("invalid_request"),
            502,
            "server_error",
        ),
        (
            "an unknown error",
            400,
            error("\"quoted\""),
            502,
            "server_error",
        ),
        (
            "an error with status 200, as GitHub sends it",
            200,
            error("incorrect_client_credentials"),
            502,
            "server_error",
        ),
        (
            "no JSON",
            200,
            "access_token=x&token_type=bearer".into(),
            502,
            "server_error",
        ),
        ("no token", 200, "{}".into(), 502, "server_error"),
        (
            "a token that is bound to a key",
            200,
            json!({ "access_token": "x", "token_type": "DPoP" }).to_string(),
            502,
            "server_error",
        ),
        (
            "a response that is too large",
            200,
            "x".repeat(70_000),
            502,
            "server_error",
        ),
        ("a redirect", 302, String::new(), 502, "server_error"),
        (
            "the provider is overloaded",
            429,
            String::new(),
            503,
            "temporarily_unavailable",
        ),
        (
            "the provider fails",
            500,
            error("invalid_grant"),
            503,
            "temporarily_unavailable",
        ),
        (
            "the provider is down",
            503,
            "<html>".into(),
            503,
            "temporarily_unavailable",
        ),
        (
            "the provider reports an outage",
            400,
            error("temporarily_unavailable"),
            503,
            "temporarily_unavailable",
        ),
    ];
    let mut token = client.log_in(&server).await.string("refresh_token");
    for (name, status, body, expected, code) in rows {
        identity.answer("/token", status, body);
        let answer = client.refresh(&server, &token, &[]).await;
        assert_error(&answer, expected, code, name);
        assert_eq!(
            answer.headers.contains_key("retry-after"),
            expected == 503,
            "{name}"
        );
        assert!(
            !answer.text().contains("secret of the provider"),
            "{name}: {}",
            answer.text()
        );
        identity.behave();
        let answer = client.refresh(&server, &token, &[]).await;
        assert_eq!(
            answer.status,
            200,
            "{name}: the token must remain valid: {}",
            answer.text()
        );
        token = answer.string("refresh_token");
    }
    for code in ["invalid_grant", "bad_refresh_token", "interaction_required"] {
        let token = client.log_in(&server).await.string("refresh_token");
        identity.answer("/token", 400, error(code));
        assert_error(
            &client.refresh(&server, &token, &[]).await,
            400,
            "invalid_grant",
            code,
        );
        identity.behave();
        assert_error(
            &client.refresh(&server, &token, &[]).await,
            400,
            "invalid_grant",
            "the session has ended",
        );
    }
    assert_eq!(identity.counts().reused, 0);
}

#[tokio::test]
async fn an_unreachable_provider_ends_no_session() {
    let identity = Identity::start().await;
    // No server listens on port 1.
    let mut flags = identity.flags();
    let at = flags
        .iter()
        .position(|flag| flag == "--token-endpoint")
        .unwrap();
    flags[at + 1] = "http://127.0.0.1:1/token".into();
    let server = mcp::start(&flags).await;
    let client = McpClient::register(&server).await;
    let url = mcp::request(&server, &client.id, REDIRECT, &[]);
    let answer = mcp::query(&mcp::Browser::default().log_in(&url, REDIRECT).await);
    assert_eq!(
        one(&answer, "error"),
        Some("temporarily_unavailable"),
        "{answer:?}"
    );
    let answer = client.refresh(&server, &made_up("rt_"), &[]).await;
    assert_error(
        &answer,
        400,
        "invalid_grant",
        "an unknown token is rejected without the provider",
    );
}

#[tokio::test]
async fn differences_between_providers_are_supported() {
    let usual = Manners::default;
    let rows = [
        (
            "client_secret_post",
            Manners {
                client_secret_post: true,
                ..usual()
            },
        ),
        (
            "no rotation",
            Manners {
                rotates: false,
                ..usual()
            },
        ),
        (
            "no scope in refreshes",
            Manners {
                repeats_scope: false,
                ..usual()
            },
        ),
        (
            "no expires_in",
            Manners {
                expires_in: None,
                ..usual()
            },
        ),
        (
            "expires_in as a string",
            Manners {
                expires_in: Some(json!("1800")),
                ..usual()
            },
        ),
        (
            "a lifetime of the refresh token",
            Manners {
                lifetimes: &[("refresh_expires_in", 7200)],
                ..usual()
            },
        ),
        (
            "the lifetimes of the draft",
            Manners {
                lifetimes: &[
                    ("refresh_token_timeout", 7200),
                    ("authorization_expires_in", 9000),
                ],
                ..usual()
            },
        ),
        (
            "a lower-case token type",
            Manners {
                token_type: "bearer",
                ..usual()
            },
        ),
        (
            "access tokens without expiry and no refresh tokens",
            Manners {
                refresh_tokens: false,
                expires_in: None,
                ..usual()
            },
        ),
    ];
    for (name, manners) in rows {
        let lifetimes = manners.lifetimes;
        let Fixture {
            identity,
            server,
            client,
        } = Fixture::with_flags(manners, &["--upstream-refresh=false"]).await;
        let mut answer = client.log_in(&server).await;
        for round in 0..3 {
            let tokens = answer.json();
            assert_eq!(tokens["scope"], "openid profile", "{name}, {round}");
            assert_eq!(tokens["token_type"], "Bearer", "{name}, {round}");
            let lifetime = tokens["expires_in"]
                .as_u64()
                .unwrap_or_else(|| panic!("{name}: {tokens}"));
            assert!((1..=3600).contains(&lifetime), "{name}: {tokens}");
            for (member, seconds) in lifetimes {
                let stated = tokens[member].as_u64().unwrap();
                assert!((1..=*seconds).contains(&stated), "{name}: {tokens}");
            }
            let timeout = tokens["refresh_token_timeout"].as_u64().unwrap();
            let longest = if lifetimes.is_empty() {
                2_592_000
            } else {
                7200
            };
            assert!((1..=longest).contains(&timeout), "{name}: {tokens}");
            let me = structured(&call(&server, &answer.string("access_token"), "whoami").await);
            assert_eq!(
                me["scopes"],
                json!(["openid", "profile"]),
                "{name}, {round}"
            );
            structured(&call(&server, &answer.string("access_token"), "upstream").await);
            answer = client
                .refresh(&server, &answer.string("refresh_token"), &[])
                .await;
            assert_eq!(answer.status, 200, "{name}, {round}: {}", answer.text());
        }
        assert_eq!(identity.counts().reused, 0, "{name}");
        identity.log_everybody_out();
        let refused = client
            .refresh(&server, &answer.string("refresh_token"), &[])
            .await;
        assert_error(&refused, 400, "invalid_grant", name);
    }
}

#[tokio::test]
async fn an_access_token_does_not_outlive_the_providers() {
    let Fixture {
        identity,
        server,
        client,
    } = Fixture::with_flags(Manners::default(), &["--upstream-refresh=false"]).await;
    let code = client.code(&server).await;
    sleep(Duration::from_millis(1100)).await;
    let answer = client.exchange(&server, &code, &[]).await;
    let lifetime = answer.json()["expires_in"].as_u64().unwrap();
    assert!(lifetime < 3600, "{}", answer.text());
    structured(&call(&server, &answer.string("access_token"), "whoami").await);

    identity.change(|manners| manners.expires_in = Some(json!(2)));
    let answer = client
        .refresh(&server, &answer.string("refresh_token"), &[])
        .await;
    ended(&server, &answer.string("access_token")).await;
    identity.change(|manners| manners.expires_in = Some(json!(3600)));
    let answer = client
        .refresh(&server, &answer.string("refresh_token"), &[])
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    structured(&call(&server, &answer.string("access_token"), "whoami").await);
}
