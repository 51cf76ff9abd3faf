//! The revocation of all sessions of a user by another server.

use axum::http::StatusCode;
use serde_json::{Value, json};
use test_support::http::{Answer, send};
use test_support::openid::OpenId;
use test_support::process::Example;

use super::{TOKEN, log_in, refresh, start};
use crate::proxy;

async fn revoke(proxy: &Example, bearer: &str, body: &Value) -> Answer {
    let headers = [
        ("authorization", bearer),
        ("content-type", "application/json"),
    ];
    let url = proxy.url("/global-token-revocation");
    send("POST", &url, &headers, body.to_string()).await
}

#[tokio::test]
async fn another_server_ends_all_sessions_of_a_user() {
    let provider = OpenId::start().await;
    let proxy = start(&provider, &[]).await;
    let bearer = format!("Bearer {TOKEN}");
    let issuer = provider.issuer();
    let address = "ada@example.com";
    for (user, sub_id) in [
        (
            "ada",
            json!({ "format": "iss_sub", "iss": issuer, "sub": "ada" }),
        ),
        ("ada", json!({ "format": "opaque", "id": "ada" })),
        (address, json!({ "format": "email", "email": address })),
    ] {
        let body = json!({ "sub_id": sub_id });
        let tokens = [log_in(&proxy, user).await, log_in(&proxy, user).await];
        let bob = log_in(&proxy, "bob").await;
        let other = TOKEN.replace('a', "b");
        for wrong in [
            "",
            "Bearer",
            &format!("Basic {TOKEN}"),
            &format!("Bearer {other}"),
        ] {
            let answer = revoke(&proxy, wrong, &body).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{wrong}");
            assert!(answer.headers.contains_key("www-authenticate"));
        }
        let answer = revoke(&proxy, &bearer, &body).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "{sub_id}");
        assert_eq!(answer.headers["cache-control"], "no-store");
        for token in &tokens {
            assert_eq!(refresh(&proxy, token).await, None, "{sub_id}");
        }
        assert!(refresh(&proxy, &bob).await.is_some(), "{sub_id}");
    }
    let log = proxy.stderr();
    assert!(!proxy::names(&log, "ada") && !log.contains(TOKEN), "{log}");
}

#[tokio::test]
async fn an_unusable_revocation_request_ends_nothing() {
    let provider = OpenId::start().await;
    let proxy = start(&provider, &[]).await;
    let ada = log_in(&proxy, "ada").await;
    let bearer = format!("Bearer {TOKEN}");
    for (sub_id, status) in [
        (
            json!({ "format": "iss_sub", "iss": "https://other.example", "sub": "ada" }),
            204,
        ),
        (json!({ "format": "opaque", "id": "nobody" }), 204),
        (
            json!({ "format": "email", "email": "ada@example.com" }),
            404,
        ),
        (
            json!({ "format": "phone_number", "phone_number": "+1" }),
            400,
        ),
        (json!({ "format": "iss_sub", "sub": "ada" }), 400),
        (json!({ "format": "opaque", "id": "" }), 400),
        (json!({ "format": "opaque", "id": 7 }), 400),
        (json!("ada"), 400),
    ] {
        let answer = revoke(&proxy, &bearer, &json!({ "sub_id": sub_id })).await;
        assert_eq!(answer.status, status, "{sub_id}");
    }
    let subject = json!({ "subject": { "format": "opaque", "id": "ada" } });
    assert_eq!(revoke(&proxy, &bearer, &subject).await.status, 400);
    assert!(refresh(&proxy, &ada).await.is_some());
}

#[tokio::test]
async fn the_token_of_another_server_does_not_open_the_admin_server() {
    let provider = OpenId::start().await;
    let operators = "the-token-of-the-operators-0123456789";
    let flags = ["--admin=127.0.0.1:0", "--admin-token", operators];
    let proxy = start(&provider, &flags).await;
    let url = format!("http://{}/sessions?subject=ada", proxy.admin_addr());
    for (token, status) in [(TOKEN, 401), (operators, 200)] {
        let bearer = format!("Bearer {token}");
        let answer = send("GET", &url, &[("authorization", &bearer)], "").await;
        assert_eq!(answer.status, status);
    }
    let body = json!({ "sub_id": { "format": "opaque", "id": "ada" } });
    let answer = revoke(&proxy, &format!("Bearer {operators}"), &body).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}
