//! The token and revocation endpoints of the example `mcp`: sessions, invalid requests, and
//! failures of the provider.

mod provider;
mod revocation;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use test_support::http::send;

use crate::support::fixture::Fixture;
use crate::support::mcp::{self, VERIFIER};
use crate::support::mcp_client::{McpClient, REDIRECT, assert_error, call, structured};

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
