//! Dynamic client registration at the example `mcp` (RFC 7591).

mod invalid;
mod redirect_uris;

use axum::http::StatusCode;
use serde_json::{Value, json};
use test_support::http::{Answer, get, send};
use test_support::process::Example;
use url::Url;

use crate::support::mcp::{self, CHALLENGE, onward};

const CALLBACK: &str = "https://client.example/callback";

async fn start(flags: &[&str]) -> Example {
    mcp::start(
        &flags
            .iter()
            .map(|&flag| flag.to_owned())
            .collect::<Vec<_>>(),
    )
    .await
}

async fn post(server: &Example, content_type: &str, body: impl Into<String>) -> Answer {
    send(
        "POST",
        &server.url("/register"),
        &[("content-type", content_type)],
        body.into(),
    )
    .await
}

async fn register(server: &Example, metadata: &Value) -> Answer {
    post(server, "application/json", metadata.to_string()).await
}

/// Requests a log-in.
async fn authorize(server: &Example, client_id: &str, redirect_uri: &str) -> Answer {
    let query = [
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", redirect_uri),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    get(Url::parse_with_params(&server.url("/authorize"), query)
        .unwrap()
        .as_str())
    .await
}

/// Returns whether the client can log in with this redirect URI.
async fn may_log_in(server: &Example, client_id: &str, redirect_uri: &str) -> bool {
    let answer = authorize(server, client_id, redirect_uri).await;
    if answer.status == StatusCode::BAD_REQUEST {
        assert!(!answer.headers.contains_key("location"), "{answer:?}");
        return false;
    }
    onward(&answer).contains("/consent")
}

#[tokio::test]
async fn the_response_contains_all_registered_metadata() {
    let server = start(&["--scope", "openid profile email"]).await;
    let redirect_uris = json!([
        CALLBACK,
        "http://127.0.0.1/callback",
        "cursor://host/callback"
    ]);
    let answer = register(
        &server,
        &json!({
            "client_name": "Tool <b>",
            "client_uri": "https://client.example/about",
            "redirect_uris": redirect_uris,
            "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
            "scope": "email profile else",
            "application_type": "native",
            "client_id": "as I like",
        }),
    )
    .await;
    assert_eq!(
        (answer.status, &answer.headers["cache-control"]),
        (StatusCode::CREATED, &"no-store".parse().unwrap())
    );
    let mut said = answer.json();
    let client_id = said["client_id"].take();
    let client_id = client_id.as_str().unwrap();
    assert!(
        client_id.len() >= 22 && client_id != "as I like",
        "{client_id}"
    );
    assert!(
        said["client_id_issued_at"]
            .take()
            .as_u64()
            .is_some_and(|seconds| seconds > 1_700_000_000)
    );
    let want = json!({
        "client_id": null,
        "client_id_issued_at": null,
        "client_name": "Tool <b>",
        "client_uri": "https://client.example/about",
        "redirect_uris": redirect_uris,
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "application_type": "native",
        "scope": "email profile",
    });
    assert_eq!(said, want, "a public client must not get a client_secret");
    for uri in [
        CALLBACK,
        "http://127.0.0.1:51004/callback",
        "cursor://host/callback",
    ] {
        assert!(may_log_in(&server, client_id, uri).await, "{uri}");
    }
    for uri in [
        "https://client.example/callback/",
        "http://localhost/callback",
        "https://evil.example/",
    ] {
        assert!(!may_log_in(&server, client_id, uri).await, "{uri}");
    }
}

#[tokio::test]
async fn missing_metadata_gets_defaults() {
    let server = start(&["--scope", "openid profile"]).await;
    let answer = register(&server, &json!({ "redirect_uris": [CALLBACK] })).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    let mut said = answer.json();
    for random in ["client_id", "client_id_issued_at"] {
        said[random].take();
    }
    let want = json!({
        "client_id": null,
        "client_id_issued_at": null,
        "redirect_uris": [CALLBACK],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "scope": "openid profile",
    });
    assert_eq!(said, want);
    let again = register(&server, &json!({ "redirect_uris": [CALLBACK] })).await;
    assert_ne!(answer.string("client_id"), again.string("client_id"));
}

#[tokio::test]
async fn a_requested_secret_expires() {
    let server = start(&["--client-lifetime", "5000"]).await;
    let mut secrets = Vec::new();
    for method in ["client_secret_basic", "client_secret_post"] {
        let metadata = json!({ "redirect_uris": [CALLBACK], "token_endpoint_auth_method": method });
        let answer = register(&server, &metadata).await;
        let said = answer.json();
        assert_eq!(
            (answer.status, &said["token_endpoint_auth_method"]),
            (StatusCode::CREATED, &json!(method))
        );
        let [issued, expires] =
            ["client_id_issued_at", "client_secret_expires_at"].map(|name| said[name].as_u64());
        assert_eq!(expires, issued.map(|issued| issued + 5000));
        secrets.push(answer.string("client_secret"));
    }
    assert!(
        secrets.iter().all(|secret| secret.len() >= 43) && secrets[0] != secrets[1],
        "{secrets:?}"
    );
}

#[cfg(feature = "redb")]
#[tokio::test]
async fn neither_the_store_nor_the_log_contains_a_secret() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store");
    let mut server = start(&[
        "--store",
        &format!("redb:{}", file.display()),
        "--log-level",
        "trace",
    ])
    .await;
    let metadata = json!({
        "redirect_uris": [CALLBACK],
        "client_name": "Found in the store",
        "token_endpoint_auth_method": "client_secret_post",
    });
    let secret = register(&server, &metadata).await.string("client_secret");
    server.terminate();
    server.ended(std::time::Duration::from_secs(30)).await;
    let stored = std::fs::read(&file).unwrap();
    let holds = |text: &str| {
        stored
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    assert!(holds("Found in the store") && !holds(&secret));
    assert!(!format!("{server:?}").contains(&secret));
}

#[tokio::test]
async fn an_unused_registration_expires() {
    let server = start(&["--client-lifetime", "1"]).await;
    let client_id = register(&server, &json!({ "redirect_uris": [CALLBACK] }))
        .await
        .string("client_id");
    // The requests are further apart than the lifetime, because each request renews the
    // registration.
    for _ in 0..10 {
        tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
        if !may_log_in(&server, &client_id, CALLBACK).await {
            return;
        }
    }
    panic!("the registration did not expire: {server:?}");
}
