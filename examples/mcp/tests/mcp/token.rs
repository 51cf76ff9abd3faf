//! The token and revocation endpoints of the example `mcp`: sessions, invalid requests, and
//! failures of the provider.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use test_support::http::{post, send};
use test_support::tokens::made_up;
use tokio::time::sleep;

use crate::support::fixture::Fixture;
use crate::support::identity::{Identity, Manners};
use crate::support::mcp::{self, VERIFIER, one};
use crate::support::mcp_client::{McpClient, REDIRECT, assert_error, call, ended, structured};

#[tokio::test]
async fn a_session_works_from_the_code_to_the_revocation() {
    let Fixture {
        identity,
        server,
        client,
    } = Fixture::start().await;
    let first = client.log_in(&server).await;
    assert_eq!(first.headers["cache-control"], "no-store");
    let tokens = first.json();
    assert!(
        tokens["access_token"].as_str().unwrap().starts_with("at_"),
        "{tokens}"
    );
    assert!(
        tokens["refresh_token"].as_str().unwrap().starts_with("rt_"),
        "{tokens}"
    );
    assert_eq!(
        (&tokens["token_type"], &tokens["scope"]),
        (&json!("Bearer"), &json!("openid profile"))
    );

    let access = first.string("access_token");
    let me = structured(&call(&server, &access, "whoami").await);
    let resource = server.url("/mcp");
    assert_eq!(
        me,
        json!({ "client_id": client.id, "scopes": ["openid", "profile"], "resources": [resource] })
    );
    let seen = structured(&call(&server, &access, "upstream").await);
    assert_eq!(
        seen["user"],
        json!({ "sub": "person-1", "scope": "openid profile" })
    );
    assert_eq!(
        seen["token"]["issued_here"], false,
        "the tool must see the provider's token: {seen}"
    );

    let second = client
        .refresh(&server, &first.string("refresh_token"), &[])
        .await;
    assert_eq!(second.status, 200, "{}", second.text());
    assert_eq!(second.json()["scope"], "openid profile");
    assert_ne!(
        second.string("refresh_token"),
        first.string("refresh_token")
    );
    structured(&call(&server, &second.string("access_token"), "upstream").await);
    assert_eq!(identity.counts().refreshed, 1);

    let revoked = client
        .revoke(&server, &second.string("refresh_token"))
        .await;
    assert_eq!(revoked.status, 200, "{}", revoked.text());
    assert_eq!(identity.counts().revoked, 1);
    assert_error(
        &client
            .refresh(&server, &second.string("refresh_token"), &[])
            .await,
        400,
        "invalid_grant",
        "revoked",
    );
    let refused = call(&server, &second.string("access_token"), "whoami").await;
    assert_eq!(refused.status, 401);
    let challenge = refused.headers["www-authenticate"].to_str().unwrap();
    let metadata = server.url("/.well-known/oauth-protected-resource/mcp");
    assert!(
        challenge.contains(&format!("resource_metadata=\"{metadata}\"")),
        "{challenge}"
    );

    let (log, handed_out) = (server.stderr(), [first, second]);
    for secret in identity.secrets() {
        assert!(
            handed_out
                .iter()
                .all(|answer| !answer.text().contains(&secret)),
            "the client received {secret}"
        );
        assert!(!log.contains(&secret), "the log contains a secret: {log}");
    }
    for token in ["at_", "rt_", VERIFIER, mcp::PROVIDER_SECRET] {
        assert!(!log.contains(token), "the log contains a secret: {log}");
    }
}

#[tokio::test]
async fn malformed_token_requests_get_an_oauth_error() {
    let Fixture { server, client, .. } = Fixture::start().await;
    let url = server.url("/token");
    let form = format!(
        "grant_type=refresh_token&refresh_token=rt_&client_id={}",
        client.id
    );
    let plain = [("content-type", "application/x-www-form-urlencoded")];
    let rows: [(&str, &str, &[(&str, &str)], &str, u16); 6] = [
        ("GET", "GET", &[], "", 405),
        ("PUT", "PUT", &plain, &form, 405),
        (
            "JSON",
            "POST",
            &[("content-type", "application/json")],
            "{}",
            400,
        ),
        ("no content type", "POST", &[], &form, 400),
        ("an empty body", "POST", &plain, "", 401),
        (
            "two Authorization headers",
            "POST",
            &[
                plain[0],
                ("authorization", "Basic eDp5"),
                ("authorization", "Basic eDp5"),
            ],
            &form,
            400,
        ),
    ];
    for (name, method, headers, body, status) in rows {
        let answer = send(method, &url, headers, body.to_owned()).await;
        let error = if status == 401 {
            "invalid_client"
        } else {
            "invalid_request"
        };
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
        assert_eq!(answer.json()["error"], error, "{name}");
        assert_eq!(
            answer.headers["x-content-type-options"], "nosniff",
            "{name}"
        );
    }
    let nowhere = send("GET", &server.url("/nowhere"), &[], "").await;
    assert_error(&nowhere, 404, "not_found", "nowhere");
}

#[tokio::test]
async fn a_refresh_token_of_any_generation_revokes_the_session() {
    for flags in [&[][..], &["--strict"]] {
        let fixture = Fixture::with_flags(Manners::default(), flags).await;
        let Fixture { server, client, .. } = &fixture;
        let first = client.log_in(server).await;
        let second = client
            .refresh(server, &first.string("refresh_token"), &[])
            .await;
        let third = client
            .refresh(server, &second.string("refresh_token"), &[])
            .await;
        for answer in [&first, &second, &third] {
            structured(&call(server, &answer.string("access_token"), "whoami").await);
        }
        let other = McpClient::register(server).await;
        assert_eq!(
            other
                .revoke(server, &first.string("refresh_token"))
                .await
                .status,
            200,
            "{flags:?}"
        );
        structured(&call(server, &third.string("access_token"), "whoami").await);
        assert_eq!(
            client
                .revoke(server, &first.string("refresh_token"))
                .await
                .status,
            200,
            "{flags:?}"
        );
        for answer in [&first, &second, &third] {
            assert_eq!(
                call(server, &answer.string("access_token"), "whoami")
                    .await
                    .status,
                401,
                "{flags:?}: access tokens end at once"
            );
        }
        let refused = client
            .refresh(server, &third.string("refresh_token"), &[])
            .await;
        assert_error(&refused, 400, "invalid_grant", "the session was revoked");
    }
}

#[tokio::test]
async fn confidential_clients_authenticate_by_either_method() {
    let Fixture { server, .. } = Fixture::start().await;
    let metadata =
        json!({ "redirect_uris": [REDIRECT], "token_endpoint_auth_method": "client_secret_basic" });
    let registered = mcp::register(&server, &metadata).await;
    let [id, secret] =
        ["client_id", "client_secret"].map(|name| registered[name].as_str().unwrap().to_owned());
    let client = McpClient { id: id.clone() };
    let code = client.code(&server).await;
    for (name, changes) in [
        ("no secret", [("client_secret", "")]),
        ("a wrong secret", [("client_secret", "wrong")]),
        ("a part of the secret", [("client_secret", &secret[1..])]),
    ] {
        assert_error(
            &client.exchange(&server, &code, &changes).await,
            401,
            "invalid_client",
            name,
        );
    }
    let tokens = client
        .exchange(&server, &code, &[("client_secret", &secret)])
        .await;
    assert_eq!(tokens.status, 200, "client_secret_post: {}", tokens.text());

    let token = tokens.string("refresh_token");
    let url = server.url("/token");
    let basic = |pair: String| format!("Basic {}", STANDARD.encode(pair));
    let refresh = |authorization: String, more: String| {
        let (url, body) = (
            url.clone(),
            format!("grant_type=refresh_token&refresh_token={token}{more}"),
        );
        async move {
            let headers = [
                ("content-type", "application/x-www-form-urlencoded"),
                ("authorization", authorization.as_str()),
            ];
            send("POST", &url, &headers, body).await
        }
    };
    let wrong = refresh(basic(format!("{id}:wrong")), String::new()).await;
    assert_error(&wrong, 401, "invalid_client", "a wrong secret by Basic");
    assert!(
        wrong.headers["www-authenticate"]
            .to_str()
            .unwrap()
            .starts_with("Basic ")
    );
    let none = refresh(basic(format!("{id}:")), String::new()).await;
    assert_error(&none, 401, "invalid_client", "no secret by Basic");
    let both = refresh(
        basic(format!("{id}:{secret}")),
        format!("&client_secret={secret}"),
    )
    .await;
    assert_error(&both, 400, "invalid_request", "two methods");
    let right = refresh(basic(format!("{id}:{secret}")), String::new()).await;
    assert_eq!(right.status, 200, "client_secret_basic: {}", right.text());
}

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
async fn a_refresh_never_extends_the_scope() {
    let Fixture {
        identity,
        server,
        client,
    } = Fixture::start().await;
    let mut token = client.log_in(&server).await.string("refresh_token");
    let asked = identity.counts().refreshed;
    for scope in ["email", "admin x"] {
        let answer = client.refresh(&server, &token, &[("scope", scope)]).await;
        assert_error(&answer, 400, "invalid_scope", scope);
    }
    assert_eq!(
        identity.counts().refreshed,
        asked,
        "the provider is not contacted"
    );
    for (wanted, granted) in [
        ("profile", "profile"),
        ("", "openid profile"),
        ("profile openid", "profile openid"),
    ] {
        let answer = client.refresh(&server, &token, &[("scope", wanted)]).await;
        assert_eq!(answer.status, 200, "{wanted}: {}", answer.text());
        assert_eq!(answer.json()["scope"], granted, "{wanted}");
        let me = structured(&call(&server, &answer.string("access_token"), "whoami").await);
        assert_eq!(
            me["scopes"],
            json!(granted.split(' ').collect::<Vec<_>>()),
            "{wanted}"
        );
        token = answer.string("refresh_token");
    }
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

#[tokio::test]
async fn both_kinds_of_tokens_can_be_revoked() {
    let Fixture {
        identity,
        server,
        client,
    } = Fixture::start().await;
    let answer = client.log_in(&server).await;
    let (access, refresh) = (
        answer.string("access_token"),
        answer.string("refresh_token"),
    );
    assert_eq!(client.revoke(&server, &access).await.status, 200);
    assert!(
        one(&identity.last_form(), "token")
            .unwrap()
            .starts_with("identity-access-"),
        "the provider receives its own token"
    );
    assert_eq!(call(&server, &access, "whoami").await.status, 401);
    let answer = client.refresh(&server, &refresh, &[]).await;
    assert_eq!(
        answer.status,
        200,
        "the session is not affected: {}",
        answer.text()
    );
    let refresh = answer.string("refresh_token");

    let told = identity.counts().revoked;
    let other = McpClient::register(&server).await;
    for (name, client, token) in [
        ("an unknown token", &client, "foreign"),
        ("a malformed token", &client, "at_short"),
        (
            "one of the provider's tokens",
            &client,
            &*identity.secrets().pop().unwrap(),
        ),
        (
            "the value that the layer keeps as the upstream token",
            &client,
            r#"{"scope":"openid","refresh":"identity-refresh-x"}"#,
        ),
        ("the token of another client", &other, &*refresh),
    ] {
        let answer = client.revoke(&server, token).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    }
    assert_eq!(
        identity.counts().revoked,
        told,
        "the provider is not contacted"
    );
    let nobody = post(
        &server.url("/revoke"),
        &[("client_id", "nobody"), ("token", "foreign")],
    )
    .await;
    assert_error(&nobody, 401, "invalid_client", "an unknown client");
    let nothing = post(&server.url("/revoke"), &[("client_id", &client.id)]).await;
    assert_error(&nothing, 400, "invalid_request", "no token");

    let answer = client.refresh(&server, &refresh, &[]).await;
    assert_eq!(
        answer.status,
        200,
        "the session is not affected: {}",
        answer.text()
    );
    let refresh = answer.string("refresh_token");
    identity.answer("/revoke", 503, "");
    assert_error(
        &client.revoke(&server, &refresh).await,
        503,
        "temporarily_unavailable",
        "the provider is down",
    );
    assert_error(
        &client.refresh(&server, &refresh, &[]).await,
        400,
        "invalid_grant",
        "the session has ended here",
    );
    identity.behave();
    assert_eq!(
        client.revoke(&server, &refresh).await.status,
        200,
        "the revocation can be repeated"
    );
    assert!(
        one(&identity.last_form(), "token")
            .unwrap()
            .starts_with("identity-refresh-"),
        "the provider receives the repeated revocation"
    );
}

#[tokio::test]
async fn a_session_ends_even_if_the_provider_cannot_revoke() {
    for (name, flag, answer) in [
        ("no revocation endpoint", false, (200, "")),
        ("an endpoint that no longer exists", true, (404, "")),
        (
            "an unsupported token type",
            true,
            (400, r#"{"error":"unsupported_token_type"}"#),
        ),
    ] {
        let identity = Identity::start().await;
        let mut flags = identity.flags();
        let at = flags
            .iter()
            .position(|flag| flag == "--revocation-endpoint")
            .unwrap();
        if !flag {
            flags.drain(at..at + 2);
        }
        identity.answer("/revoke", answer.0, answer.1);
        let server = mcp::start(&flags).await;
        let client = McpClient::register(&server).await;
        let tokens = client.log_in(&server).await;
        assert_eq!(
            client
                .revoke(&server, &tokens.string("refresh_token"))
                .await
                .status,
            200,
            "{name}"
        );
        assert_eq!(identity.counts().revoked, usize::from(flag), "{name}");
        let refused = client
            .refresh(&server, &tokens.string("refresh_token"), &[])
            .await;
        assert_error(&refused, 400, "invalid_grant", name);
        assert_eq!(
            call(&server, &tokens.string("access_token"), "whoami")
                .await
                .status,
            401,
            "{name}"
        );
    }
}
