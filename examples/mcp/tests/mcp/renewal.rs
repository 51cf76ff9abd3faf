//! The renewal of registrations at the example `mcp`, observed in Redis.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use redis::Value;
use serde_json::json;
use test_support::http::get;
use test_support::redis::RedisServer;

use crate::support::mcp::{self, register, request};

const CALLBACK: &str = "https://client.example/callback";

/// Returns the time to live of the only record in Redis, in milliseconds.
async fn time_left(store: &RedisServer) -> i64 {
    let Value::Array(keys) = store.command(&["KEYS", "*"]).await else {
        panic!("no keys")
    };
    let [Value::BulkString(key)] = &keys[..] else {
        panic!("Redis must contain exactly one record: {keys:?}")
    };
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
        let server = mcp::start(&flags).await;
        let metadata = json!({ "redirect_uris": [CALLBACK], "token_endpoint_auth_method": method });
        let said = register(&server, &metadata).await;
        // This invalid request uses the registration and writes nothing else.
        let used = request(
            &server,
            said["client_id"].as_str().unwrap(),
            "https://other.example/",
            &[],
        );
        let mut left = time_left(&store).await;
        let began = Instant::now();
        // A registration is renewed after a tenth of its lifetime. The one with a secret is watched
        // for longer than that.
        let mut rose = false;
        while !rose && began.elapsed() < Duration::from_secs(if renewed { 36 } else { 8 }) {
            assert_eq!(get(&used).await.status, StatusCode::BAD_REQUEST);
            let now = time_left(&store).await;
            rose = now > left;
            left = now;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(rose, renewed, "{method}");
    }
}
