//! The renewal of registrations at the example `mcp`, observed in Redis.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use redis::Value;
use serde_json::json;
use test_support::http::get;
use test_support::redis::RedisServer;

use crate::support::mcp::{self, Provider, register, request};
use crate::support::mcp_client::{McpClient, REDIRECT};

/// Returns the key of the only record in Redis.
async fn only_key(store: &RedisServer) -> Vec<u8> {
    let Value::Array(keys) = store.command(&["KEYS", "*"]).await else {
        panic!("no keys")
    };
    let [Value::BulkString(key)] = &keys[..] else {
        panic!("Redis must contain exactly one record: {keys:?}")
    };
    key.clone()
}

/// Returns the time to live of a record, in milliseconds.
async fn time_left(store: &RedisServer, key: &[u8]) -> i64 {
    match store.command(&[&b"PTTL"[..], key]).await {
        Value::Int(left) => left,
        other => panic!("unexpected reply to PTTL: {other:?}"),
    }
}

#[tokio::test]
async fn a_used_registration_is_renewed_unless_it_has_a_secret() {
    for (method, renewed) in [("none", true), ("client_secret_post", false)] {
        let store = RedisServer::start().await;
        let flags = [
            "--store".to_owned(),
            store.url(),
            "--client-lifetime".into(),
            "40".into(),
        ];
        let provider = Provider::start().await;
        let server = mcp::start(&[provider.flags(), flags.into()].concat()).await;
        let metadata = json!({ "redirect_uris": [REDIRECT], "token_endpoint_auth_method": method });
        let said = register(&server, &metadata).await;
        // This invalid request uses the registration.
        let used = request(
            &server,
            said["client_id"].as_str().unwrap(),
            "https://other.example/",
            &[],
        );
        let key = only_key(&store).await;
        let client = McpClient {
            id: said["client_id"].as_str().unwrap().to_owned(),
        };
        client.code(&server).await;
        let mut left = time_left(&store, &key).await;
        let began = Instant::now();
        // A registration is renewed after a tenth of its lifetime. The one with a secret is watched
        // for longer than that.
        let mut rose = false;
        while !rose && began.elapsed() < Duration::from_secs(if renewed { 36 } else { 8 }) {
            match get(&used).await.status {
                StatusCode::BAD_REQUEST => {}
                // Redis did not reply in time, on a busy machine.
                status => assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE),
            }
            let now = time_left(&store, &key).await;
            rose = now > left;
            left = now;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(rose, renewed, "{method}");
    }
}

#[tokio::test]
async fn a_registration_lives_for_a_day_until_a_user_logs_in() {
    const DAY: i64 = 24 * 60 * 60 * 1000;
    for method in ["none", "client_secret_post"] {
        let store = RedisServer::start().await;
        let provider = Provider::start().await;
        let flags = ["--store".to_owned(), store.url()];
        let server = mcp::start(&[provider.flags(), flags.into()].concat()).await;
        let metadata = json!({ "redirect_uris": [REDIRECT], "token_endpoint_auth_method": method });
        let id = register(&server, &metadata).await["client_id"].clone();
        let client = McpClient {
            id: id.as_str().unwrap().to_owned(),
        };
        let key = only_key(&store).await;
        // A user who does not log in changes nothing.
        let asked = request(&server, &client.id, REDIRECT, &[]);
        assert_eq!(get(&asked).await.status, StatusCode::SEE_OTHER);
        let left = time_left(&store, &key).await;
        assert!((1..=DAY).contains(&left), "{method}: {left}");
        client.code(&server).await;
        let left = time_left(&store, &key).await;
        assert!((89 * DAY..=90 * DAY).contains(&left), "{method}: {left}");
    }
}
