//! The users of the example `mcp`: who they are, and who may log in.

mod rules;

use std::time::SystemTime;

use serde_json::{Value, json};
use test_support::http::{Answer, send};
use test_support::process::Example;

use crate::support::idp::{Behaviour, CLIENT, Idp, Signature};
use crate::support::mcp::{self, Browser, one, onward, query, request};
use crate::support::mcp_client::{McpClient, REDIRECT, assert_error};

const ADMIN: &str = "the-token-of-the-operators-0123456789";

async fn start(idp: &Idp, more: &[&str]) -> (Example, McpClient) {
    let mut flags = idp.flags();
    flags.extend(more.iter().map(|flag| (*flag).to_owned()));
    let server = mcp::start(&flags).await;
    let client = McpClient::register(&server).await;
    (server, client)
}

/// Logs in up to the response after the provider has redirected the browser back.
pub(crate) async fn returned(server: &Example, client: &McpClient) -> Answer {
    let mut browser = Browser::default();
    let answer = browser
        .get(&request(server, &client.id, REDIRECT, &[]))
        .await;
    let answer = browser.approve(&answer).await;
    let callback = browser.follow(answer, &server.url("/callback?")).await;
    browser.get(&callback).await
}

/// Returns an ID token with these claims as the behaviour of a provider.
fn says(claims: Value) -> Behaviour {
    Behaviour {
        userinfo: json!({ "sub": claims.get("sub").unwrap_or(&json!("ada")) }),
        id_token: Some(claims),
        ..Behaviour::default()
    }
}

/// Returns the behaviour of a provider without ID tokens.
fn userinfo(claims: Value) -> Behaviour {
    Behaviour {
        id_token: None,
        userinfo: claims,
        ..Behaviour::default()
    }
}

#[tokio::test]
async fn a_log_in_with_an_invalid_id_token_fails() {
    let idp = Idp::start().await;
    let (server, client) = start(&idp, &[]).await;
    for claims in [
        json!({ "iss": "https://evil.example" }),
        json!({ "aud": "another client" }),
        json!({ "aud": [CLIENT, "another client"] }),
        json!({ "azp": "another client" }),
        json!({ "nbf": 4_000_000_000_u64 }),
        json!({ "at_hash": "that of another token" }),
        json!({ "exp": 1_000_000_000 }),
        json!({ "iat": 4_000_000_000_u64 }),
        json!({ "nonce": "another log-in" }),
        json!({ "nonce": null }),
        json!({ "sub": null }),
    ] {
        idp.change(|behaviour| behaviour.id_token = Some(claims.clone()));
        let parameters = query(&onward(&returned(&server, &client).await));
        assert_eq!(
            one(&parameters, "error"),
            Some("server_error"),
            "{claims}: {parameters:?}"
        );
        assert!(one(&parameters, "code").is_none());
    }
    idp.change(|behaviour| behaviour.id_token = Some(json!({})));
    for signature in [
        Signature::Forged,
        Signature::Missing,
        Signature::Secret,
        Signature::OfAccessToken,
    ] {
        idp.change(|behaviour| behaviour.signature = signature);
        let parameters = query(&onward(&returned(&server, &client).await));
        assert_eq!(
            one(&parameters, "error"),
            Some("server_error"),
            "{signature:?}"
        );
    }
    for reason in [
        "it has another issuer",
        "it is for another client",
        "it has expired or is not yet valid",
        "its nonce is not that of the log-in",
        "its at_hash is not that of the access token",
        "a claim is missing or malformed",
        "its signature is invalid",
        "it is not a signed JWT with a known algorithm",
        "its algorithm is not asymmetric",
        "it is another kind of JWT",
    ] {
        server.wait_for(&format!("the ID token is invalid: {reason}"));
    }
    idp.change(|behaviour| behaviour.signature = Signature::Valid);
    client.log_in(&server).await;
}

#[tokio::test]
async fn a_log_in_must_be_as_recent_as_max_age_requires() {
    let idp = Idp::start().await;
    let (server, client) = start(&idp, &["--authorization-param=max_age=3600"]).await;
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    for (claims, is_in) in [
        (json!({ "auth_time": now }), true),
        (json!({ "auth_time": now - 3000 }), true),
        (json!({ "auth_time": now - 7200 }), false),
        (json!({ "auth_time": now + 7200 }), false),
        (json!({ "auth_time": now.to_string() }), false),
        (json!({}), false),
    ] {
        idp.change(|behaviour| behaviour.id_token = Some(claims.clone()));
        let parameters = query(&onward(&returned(&server, &client).await));
        assert_eq!(
            one(&parameters, "code").is_some(),
            is_in,
            "{claims}: {parameters:?}"
        );
        let error = (!is_in).then_some("server_error");
        assert_eq!(one(&parameters, "error"), error, "{claims}");
        assert_eq!(one(&idp.last("/authorize").form, "max_age"), Some("3600"));
    }
    idp.change(|behaviour| behaviour.id_token = None);
    let parameters = query(&onward(&returned(&server, &client).await));
    assert_eq!(
        one(&parameters, "error"),
        Some("server_error"),
        "no ID token"
    );
    for reason in [
        "the log-in at the provider is older than max_age allows",
        "there is no ID token with an auth_time",
    ] {
        server.wait_for(reason);
    }
    // A refresh is no log-in.
    idp.change(|behaviour| behaviour.id_token = Some(json!({ "auth_time": now })));
    let refresh = client.log_in(&server).await.string("refresh_token");
    idp.change(|behaviour| behaviour.id_token = Some(json!({ "auth_time": now - 7200 })));
    let answer = client.refresh(&server, &refresh, &[]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn an_id_token_has_an_algorithm_of_the_discovery_document() {
    let log_in = async |algorithms: Value| {
        let document = json!({ "id_token_signing_alg_values_supported": algorithms });
        let idp = Idp::with(Behaviour {
            document: Some(document),
            ..Behaviour::default()
        })
        .await;
        let (server, client) = start(&idp, &[]).await;
        let parameters = query(&onward(&returned(&server, &client).await));
        (one(&parameters, "code").is_some(), server)
    };
    let (is_in, _) = log_in(json!(["RS256", "ES256"])).await;
    assert!(is_in);
    let (is_in, server) = log_in(json!(["RS256"])).await;
    assert!(!is_in);
    server.wait_for("its algorithm is not one of the discovery document");
}

/// Not every provider keeps to the types of OpenID Connect Core §2 and §5.1.
#[tokio::test]
async fn claims_of_an_id_token_that_are_not_checked_may_have_any_type() {
    let claims = json!({
        "email": "ada@example.com",
        "email_verified": "true",
        "locale": { "country": "ES", "language": "es" },
        "updated_at": "2025-07-02T15:31:58.178Z",
        "auth_time": "2025-07-02T15:31:58.178Z",
        "address": "1 Main Street",
        "amr": "pwd",
        "acr": 2,
        "name": ["Ada", "Lovelace"],
        "phone_number": 15_550_100,
        "picture": { "url": "https://example.com/ada.png" },
    });
    let idp = Idp::with(says(claims)).await;
    let (server, client) = start(&idp, &["--allow-email-domain=example.com"]).await;
    client.log_in(&server).await;
}

#[tokio::test]
async fn without_keys_the_claims_of_an_id_token_are_checked_nevertheless() {
    let idp = Idp::with(Behaviour {
        document: None,
        iss: true,
        // Nothing verifies the signature.
        signature: Signature::Forged,
        ..Behaviour::default()
    })
    .await;
    let mut flags = idp.preset_flags();
    flags.push(format!("--provider-issuer={}", idp.issuer()));
    let server = mcp::start(&flags).await;
    let client = McpClient::register(&server).await;
    for claims in [
        json!({ "iss": "https://evil.example" }),
        json!({ "aud": "another client" }),
        json!({ "exp": 1_000_000_000 }),
        json!({ "nonce": "another log-in" }),
        json!({ "nonce": null }),
    ] {
        idp.change(|behaviour| behaviour.id_token = Some(claims.clone()));
        let parameters = query(&onward(&returned(&server, &client).await));
        assert_eq!(one(&parameters, "error"), Some("server_error"), "{claims}");
    }
    idp.change(|behaviour| behaviour.id_token = Some(json!({})));
    let refresh = client.log_in(&server).await.string("refresh_token");
    idp.change(|behaviour| behaviour.id_token = Some(json!({ "aud": "another client" })));
    let refused = client.refresh(&server, &refresh, &[]).await;
    assert_error(&refused, 400, "invalid_grant", "for another client");
}

#[tokio::test]
async fn every_log_in_has_a_nonce_of_its_own() {
    let idp = Idp::start().await;
    let (server, client) = start(&idp, &[]).await;
    client.log_in(&server).await;
    client.log_in(&server).await;
    let nonces: Vec<_> = idp.received("/authorize");
    let nonces: Vec<_> = nonces
        .iter()
        .map(|asked| one(&asked.form, "nonce").unwrap())
        .collect();
    assert!(
        nonces.len() == 2 && nonces[0] != nonces[1] && nonces[0].len() >= 40,
        "{nonces:?}"
    );
}

#[tokio::test]
async fn the_user_of_a_session_is_known_from_the_id_token_or_userinfo() {
    for behaviour in [
        says(json!({ "sub": "grace" })),
        userinfo(json!({ "sub": "grace" })),
    ] {
        let name = format!("{:?}", behaviour.id_token);
        let idp = Idp::with(behaviour).await;
        let admin = format!("--admin-token={ADMIN}");
        let (server, client) = start(&idp, &[&admin, "--admin=127.0.0.1:0"]).await;
        client.log_in(&server).await;
        let bearer = format!("Bearer {ADMIN}");
        let issuer = idp.issuer();
        let issuer: String = url::form_urlencoded::byte_serialize(issuer.as_bytes()).collect();
        let url = format!(
            "http://{}/sessions?subject=grace&issuer={issuer}",
            server.admin_addr()
        );
        let answer = send("GET", &url, &[("authorization", &bearer)], "")
            .await
            .json();
        assert_eq!(
            answer["sessions"].as_array().unwrap().len(),
            1,
            "{name}: {answer}"
        );
    }
}

#[tokio::test]
async fn userinfo_must_name_the_user_of_the_id_token() {
    let idp = Idp::with(says(json!({ "sub": "ada" }))).await;
    idp.change(|now| now.userinfo = json!({ "groups": ["staff"] }));
    let (server, client) = start(&idp, &["--allow-group=staff"]).await;
    let parameters = query(&onward(&returned(&server, &client).await));
    assert_eq!(one(&parameters, "error"), Some("server_error"));
    idp.change(|now| now.userinfo = json!({ "sub": "ada", "groups": ["staff"] }));
    client.log_in(&server).await;
}

#[tokio::test]
async fn a_refresh_during_a_change_of_keys_keeps_the_session() {
    let idp = Idp::with(says(json!({ "sub": "ada", "groups": ["staff"] }))).await;
    let (server, client) = start(&idp, &["--allow-group=staff"]).await;
    let refresh = client.log_in(&server).await.string("refresh_token");
    // Right after the keys were fetched, they are fetched once more.
    idp.rotate_key("new");
    let refresh = {
        let tokens = client.refresh(&server, &refresh, &[]).await;
        assert_eq!(tokens.status, 200, "{}", tokens.text());
        tokens.string("refresh_token")
    };
    client.log_in(&server).await;
    // Then not at once.
    idp.rotate_key("newer");
    let tokens = client.refresh(&server, &refresh, &[]).await;
    assert_eq!(tokens.status, 200, "{}", tokens.text());
    let parameters = query(&onward(&returned(&server, &client).await));
    assert_eq!(one(&parameters, "error"), Some("temporarily_unavailable"));
    let description = one(&parameters, "error_description").unwrap();
    assert!(description.contains("log in again"), "{description}");
    // A wrong signature of a known key is final.
    idp.rotate_key("new");
    let refresh = tokens.string("refresh_token");
    let refused = client.refresh(&server, &refresh, &[]).await;
    assert_error(&refused, 400, "invalid_grant", "a signature is invalid");
}

#[tokio::test]
async fn a_refresh_without_news_keeps_the_user_of_the_log_in() {
    let idp = Idp::with(says(json!({ "sub": "ada", "groups": ["staff"] }))).await;
    let (server, client) = start(&idp, &["--allow-group=staff"]).await;
    let mut refresh = client.log_in(&server).await.string("refresh_token");
    idp.change(|now| {
        now.id_token = None;
        now.userinfo = Value::Null;
    });
    for _ in 0..2 {
        let tokens = client.refresh(&server, &refresh, &[]).await;
        assert_eq!(tokens.status, 200, "{}", tokens.text());
        refresh = tokens.string("refresh_token");
    }
    idp.change(|now| now.id_token = Some(json!({ "sub": "eve", "groups": ["staff"] })));
    let refused = client.refresh(&server, &refresh, &[]).await;
    assert_error(&refused, 400, "invalid_grant", "another user");
}

#[tokio::test]
async fn scopes_that_only_this_server_requests_are_not_granted_to_clients() {
    let idp = Idp::with(says(
        json!({ "email": "ada@example.com", "email_verified": true }),
    ))
    .await;
    let flags = [
        "--scope=openid email profile",
        "--allow-email-domain=example.com",
    ];
    let (server, client) = start(&idp, &flags).await;
    let asked = request(&server, &client.id, REDIRECT, &[("scope", "profile")]);
    let answer = query(&Browser::default().log_in(&asked, REDIRECT).await);
    let code = one(&answer, "code").unwrap();
    let tokens = client.exchange(&server, code, &[]).await;
    assert_eq!(tokens.json()["scope"], "profile", "{}", tokens.text());
    assert_eq!(
        one(&idp.last("/authorize").form, "scope"),
        Some("profile openid email")
    );
}
