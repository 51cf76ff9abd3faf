//! The example proxy with persistent and shared stores.

mod redis;

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::StatusCode;
use axum::routing::{get as on_get, post as on_post};
use axum::{Json, Router};
use bytes::Bytes;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use test_support::PATIENCE;
use test_support::access::LOG_IN;
use test_support::http::{Answer, post, send, serve, serve_upstream};
#[cfg(feature = "postgres")]
use test_support::postgres::PostgresServer;
use test_support::process::Example;
use test_support::redis::RedisServer;
use test_support::{Upstream, refresh_form};

use crate::PROGRAM;
use crate::proxy;

async fn log_in(proxy: &Example) -> String {
    let form = [
        ("grant_type", "authorization_code"),
        ("code", "c"),
        ("client_id", "app"),
    ];
    post(&proxy.url("/token"), &form)
        .await
        .string("refresh_token")
}

async fn refresh(proxy: &Example, token: &str) -> Answer {
    post(&proxy.url("/token"), &refresh_form("app", token)).await
}

#[tokio::test]
async fn access_tokens_of_an_ended_grant_are_refused_on_every_proxy() {
    let (upstream, redis) = (Upstream::new(), RedisServer::builder().start().await);
    let addr = format!("http://{}", serve_upstream(upstream.clone()).await);
    // The cache keeps entries for an hour, so the token can end only by an announcement.
    let url = redis.url();
    let flags = [
        "--reference-access-tokens",
        "--resource-prefix",
        "/api",
        "--cache-ttl",
        "3600",
        "--store",
        &url,
    ];
    let (one, two) = (
        proxy::start(&addr, &flags).await,
        proxy::start(&addr, &flags).await,
    );
    let tokens = post(&one.url("/token"), &LOG_IN).await;
    let bearer = format!("Bearer {}", tokens.string("access_token"));
    let status = async |proxy: &Example| {
        send("GET", &proxy.url("/api"), &[("authorization", &bearer)], "")
            .await
            .status
            .as_u16()
    };
    for proxy in [&one, &two] {
        for _ in 0..3 {
            // The strict upstream answers unknown paths with 400.
            assert_eq!(status(proxy).await, 400);
            assert_eq!(
                upstream.seen().pop().unwrap().headers["authorization"],
                "Bearer at-0-0"
            );
        }
    }
    let form = [
        ("token", &*tokens.string("refresh_token")),
        ("client_id", "app"),
    ];
    assert_eq!(
        post(&one.url("/revoke"), &form).await.status,
        StatusCode::OK
    );
    let end = Instant::now() + PATIENCE;
    for proxy in [&one, &two] {
        while status(proxy).await != 401 {
            assert!(
                Instant::now() < end,
                "the access token is accepted after its grant has ended"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Starts an upstream whose `/api/events` sends events for as long as a client reads them.
async fn events() -> String {
    let tokens = json!({ "access_token": "a", "token_type": "Bearer", "expires_in": 3600, "refresh_token": "r" });
    let open = async || {
        let (mut sender, body) = Channel::<Bytes>::new(1);
        tokio::spawn(async move {
            while sender.send_data(Bytes::from("data: x\n\n")).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        ([("content-type", "text/event-stream")], Body::new(body))
    };
    let router = Router::new()
        .route("/token", on_post(async move || Json(tokens.clone())))
        .route("/revoke", on_post(async || StatusCode::OK))
        .route("/api/events", on_get(open));
    format!("http://{}", serve(router).await)
}

/// Opens the stream and reads its first event.
async fn open_stream(proxy: &Example, bearer: &str, http2: bool) -> Incoming {
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new())
        .http2_only(http2)
        .build_http();
    let request = hyper::Request::get(proxy.url("/api/events")).header("authorization", bearer);
    let response = client
        .request(request.body(Empty::new()).unwrap())
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let mut body = response.into_body();
    assert!(
        body.frame()
            .await
            .unwrap()
            .unwrap()
            .into_data()
            .unwrap()
            .starts_with(b"data: x")
    );
    body
}

#[tokio::test]
async fn open_responses_of_an_ended_grant_are_cut_off_on_every_proxy() {
    let (addr, redis) = (events().await, RedisServer::builder().start().await);
    let url = redis.url();
    let flags = [
        "--reference-access-tokens",
        "--resource-prefix",
        "/api",
        "--cache-ttl",
        "3600",
        "--store",
        &url,
    ];
    let (one, two) = (
        proxy::start(&addr, &flags).await,
        proxy::start(&addr, &flags).await,
    );
    let log_in = async || {
        let tokens = post(&one.url("/token"), &LOG_IN).await;
        (
            format!("Bearer {}", tokens.string("access_token")),
            tokens.string("refresh_token"),
        )
    };
    let ((bearer, token), (other, _)) = (log_in().await, log_in().await);
    let mut streams = Vec::new();
    for (proxy, http2) in [(&one, false), (&one, true), (&two, false), (&two, true)] {
        streams.push((open_stream(proxy, &bearer, http2).await, http2));
    }
    let mut lives = open_stream(&two, &other, false).await;
    let form = [("token", &*token), ("client_id", "app")];
    assert_eq!(
        post(&one.url("/revoke"), &form).await.status,
        StatusCode::OK
    );
    for (mut stream, http2) in streams {
        let end = async {
            loop {
                match stream.frame().await {
                    Some(Ok(_)) => {}
                    Some(Err(_)) => return,
                    None => panic!("the response ends without an error, http2: {http2}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, end)
            .await
            .expect("the response ends with its grant");
    }
    for _ in 0..3 {
        lives
            .frame()
            .await
            .unwrap()
            .expect("the response of another grant continues");
    }
}

#[tokio::test]
async fn redb_keeps_grants_when_the_proxy_is_killed() {
    let (upstream, folder) = (Upstream::new(), tempfile::tempdir().unwrap());
    let addr = format!("http://{}", serve_upstream(upstream.clone()).await);
    let store = format!("redb:{}", folder.path().join("grants.redb").display());
    let proxy = proxy::start(&addr, &["--store", &store]).await;
    let first = log_in(&proxy).await;
    let second = refresh(&proxy, &first).await.string("refresh_token");

    let args = [
        "--upstream",
        &addr,
        "--listen",
        "127.0.0.1:0",
        "--store",
        &store,
    ];
    let output = Example::run(PROGRAM, &args, &[]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("the file is in use by another store"),
        "{stderr}"
    );

    drop(proxy); // by SIGKILL
    let proxy = proxy::start(&addr, &["--store", &store]).await;
    assert_eq!(
        refresh(&proxy, &first).await.string("refresh_token"),
        second,
        "a retry after the restart gets the same token"
    );
    refresh(&proxy, &second).await.string("refresh_token");
    assert_eq!((upstream.refreshes(), upstream.reuses()), (2, 0));
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn two_proxies_share_postgres_and_survive_its_crash() {
    let (upstream, postgres) = (Upstream::new(), PostgresServer::start().await);
    let addr = format!("http://{}", serve_upstream(upstream.clone()).await);
    let args = ["--store", &postgres.url()];
    let proxies = [
        proxy::start(&addr, &args).await,
        proxy::start(&addr, &args).await,
    ];
    let first = log_in(&proxies[0]).await;
    let second = refresh(&proxies[1], &first).await.string("refresh_token");
    assert_eq!(
        refresh(&proxies[0], &first).await.string("refresh_token"),
        second,
        "a retry at the other proxy gets the same token"
    );
    postgres.crash().await;
    let answer = refresh(&proxies[0], &second).await;
    assert_eq!(
        (answer.status, &*answer.string("error")),
        (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable")
    );
    postgres.restart().await;
    let end = Instant::now() + PATIENCE;
    while refresh(&proxies[0], &second).await.status != StatusCode::OK {
        assert!(Instant::now() < end, "refreshes fail: {:?}", proxies[0]);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((upstream.refreshes(), upstream.reuses()), (2, 0));
}

#[tokio::test]
async fn a_store_that_cannot_be_opened_is_reported_without_its_password() {
    let redis = RedisServer::builder().password("right").start().await;
    let rows = [
        (
            redis.url_with(":secret@"),
            "Redis rejected the user or the password",
        ),
        (
            "redis://:secret@127.0.0.1:1".to_owned(),
            "Redis cannot be reached",
        ),
        (
            "redb:/nowhere/grants.redb".to_owned(),
            "the file cannot be opened",
        ),
    ];
    for (store, why) in rows {
        let args = [
            "--upstream",
            "http://127.0.0.1:1",
            "--listen",
            "127.0.0.1:0",
            "--store",
            &store,
        ];
        let output = Example::run(PROGRAM, &args, &[]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(
            stderr.contains(why),
            "{store}: expected {why:?} in {stderr}"
        );
        assert!(!stderr.contains("secret"), "{stderr}");
    }
}
