//! Proxies that share a Redis.

use std::time::Duration;

use axum::http::StatusCode;
use test_support::PATIENCE;
use test_support::http::{get, post, serve_upstream};
use test_support::process::Example;
use test_support::redis::RedisServer;
use test_support::{Upstream, refresh_form};

use super::{log_in, refresh};
use crate::proxy;

/// Returns the value of one series.
async fn metric(proxy: &Example, series: &str) -> f64 {
    let metrics = get(&format!("http://{}/metrics", proxy.admin_addr())).await;
    let line = metrics
        .text()
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} is missing in {}", metrics.text()))
        .parse()
        .unwrap()
}

#[tokio::test]
async fn proxies_share_grants_in_redis() {
    let (upstream, redis) = (
        Upstream::new(),
        RedisServer::builder().password("of-redis").start().await,
    );
    let addr = format!("http://{}", serve_upstream(upstream.clone()).await);
    let (url, with) = (
        redis.url_with(":of-redis@"),
        ["--admin", "127.0.0.1:0", "--log-level", "trace", "--store"],
    );
    let one = proxy::start(&addr, &[&with[..], &[&url]].concat()).await;
    let two = proxy::start(&addr, &[&with[..], &[&url]].concat()).await;

    let first = log_in(&one).await;
    let second = refresh(&two, &first).await.string("refresh_token");
    assert_eq!(
        refresh(&one, &first).await.string("refresh_token"),
        second,
        "a retry at the other proxy gets the same token"
    );
    let third = refresh(&one, &second).await.string("refresh_token");
    let stolen = post(&two.url("/token"), &refresh_form("thief", &third)).await;
    assert_eq!(
        (stolen.status, &*stolen.string("error")),
        (StatusCode::BAD_REQUEST, "invalid_grant")
    );
    assert_eq!(
        post(
            &two.url("/revoke"),
            &[("token", &third), ("client_id", "app")]
        )
        .await
        .status,
        StatusCode::OK
    );
    for _ in 0..5 {
        assert_eq!(refresh(&two, &third).await.string("error"), "invalid_grant");
    }
    assert_eq!(
        (upstream.refreshes(), upstream.reuses(), upstream.alive()),
        (2, 0, 0)
    );

    assert!(
        metric(&two, "oauth_refresh_cache_lookups_total{result=\"hit\"}").await >= 5.0,
        "ended tokens are found in the cache"
    );
    assert!(metric(&two, "oauth_refresh_cache_lookups_total{result=\"miss\"}").await >= 1.0);
    for proxy in [&one, &two] {
        let log = proxy.stderr() + &proxy.stdout();
        assert!(log.contains("store=redis"), "{log}");
        assert!(!log.contains("of-redis"), "{log}");
    }
}

#[tokio::test]
async fn without_a_cache_every_refresh_reaches_the_store() {
    let (upstream, redis) = (Upstream::new(), RedisServer::start().await);
    let addr = format!("http://{}", serve_upstream(upstream.clone()).await);
    let url = redis.url();
    for off in [["--cache-size", "0"], ["--cache-ttl", "0"]] {
        let flags = [&["--admin", "127.0.0.1:0", "--store", &url][..], &off].concat();
        let proxy = proxy::start(&addr, &flags).await;
        let token = log_in(&proxy).await;
        post(
            &proxy.url("/revoke"),
            &[("token", &token), ("client_id", "app")],
        )
        .await;
        for _ in 0..3 {
            assert_eq!(
                refresh(&proxy, &token).await.string("error"),
                "invalid_grant"
            );
        }
        assert_eq!(
            metric(&proxy, "oauth_refresh_cache_lookups_total{result=\"hit\"}").await,
            0.0
        );
        assert_eq!(
            metric(
                &proxy,
                "oauth_refresh_store_call_duration_seconds_count{op=\"claim\"}"
            )
            .await,
            3.0
        );
    }
}

#[tokio::test]
async fn a_write_without_acknowledgement_of_the_replicas_fails() {
    let (upstream, master) = (Upstream::new(), RedisServer::start().await);
    let replica = RedisServer::builder()
        .replica_of(master.port())
        .start()
        .await;
    let addr = format!("http://{}", serve_upstream(upstream.clone()).await);
    let proxy = proxy::start(
        &addr,
        &["--store", &master.url(), "--wait-for-replicas", "1"],
    )
    .await;
    let end = std::time::Instant::now() + PATIENCE;
    // If the replica does not acknowledge a log-in in time, the client gets no refresh token.
    let token = loop {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", "c"),
            ("client_id", "app"),
        ];
        let answer = post(&proxy.url("/token"), &form).await;
        if let Some(token) = answer.json()["refresh_token"].as_str() {
            break token.to_owned();
        }
        assert!(
            std::time::Instant::now() < end,
            "the replica does not acknowledge any write: {proxy:?}"
        );
    };
    replica.freeze();
    let answer = refresh(&proxy, &token).await;
    assert_eq!(
        (answer.status, upstream.refreshes()),
        (StatusCode::SERVICE_UNAVAILABLE, 0),
        "{answer:?}"
    );
    replica.thaw();
    let end = std::time::Instant::now() + PATIENCE;
    while refresh(&proxy, &token).await.status != StatusCode::OK {
        assert!(
            std::time::Instant::now() < end,
            "refreshes fail although the replica is back: {proxy:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((upstream.refreshes(), upstream.reuses()), (1, 0));
}

#[tokio::test]
async fn clients_get_503_while_redis_is_unavailable() {
    let (upstream, redis) = (
        Upstream::new(),
        RedisServer::builder()
            .config("appendonly", "yes")
            .start()
            .await,
    );
    let addr = format!("http://{}", serve_upstream(upstream.clone()).await);
    let proxy = proxy::start(&addr, &["--store", &redis.url()]).await;
    let token = log_in(&proxy).await;
    redis.stop().await;
    let answer = refresh(&proxy, &token).await;
    assert_eq!(
        (answer.status, &*answer.string("error")),
        (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable")
    );
    assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
    redis.restart().await;
    let end = std::time::Instant::now() + PATIENCE;
    loop {
        let answer = refresh(&proxy, &token).await;
        if answer.status == StatusCode::OK {
            break;
        }
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
        assert!(
            std::time::Instant::now() < end,
            "refreshes fail although Redis is back: {proxy:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((upstream.refreshes(), upstream.reuses()), (1, 0));
}
