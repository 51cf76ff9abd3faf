//! The example `mcp` during a store outage: users see a page about it, and no log-in is lost.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use test_support::http::Answer;
#[cfg(feature = "postgres")]
use test_support::postgres::PostgresServer;
use test_support::redis::RedisServer;

use crate::support::mcp::{self, Browser, Provider, one, onward, query};

const REDIRECT: &str = "http://127.0.0.1:7777/callback";

/// Reloads the page, as it says, until the store is available again.
async fn again(mut load: impl AsyncFnMut() -> Answer) -> Answer {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = load().await;
        if answer.status != StatusCode::SERVICE_UNAVAILABLE {
            return answer;
        }
        assert!(
            Instant::now() < end,
            "the server does not reconnect to the store"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

enum Database {
    Redis(RedisServer),
    #[cfg(feature = "postgres")]
    Postgres(PostgresServer),
}

impl Database {
    fn url(&self) -> String {
        match self {
            Self::Redis(server) => server.url(),
            #[cfg(feature = "postgres")]
            Self::Postgres(server) => server.url(),
        }
    }

    async fn kill(&self) {
        match self {
            Self::Redis(server) => server.kill(),
            #[cfg(feature = "postgres")]
            Self::Postgres(server) => server.crash().await,
        }
    }

    async fn restart(&self) {
        match self {
            Self::Redis(server) => server.restart().await,
            #[cfg(feature = "postgres")]
            Self::Postgres(server) => server.restart().await,
        }
    }
}

#[tokio::test]
async fn a_log_in_survives_a_store_outage() {
    let redis = RedisServer::builder()
        .config("appendonly", "yes")
        .config("appendfsync", "always");
    log_in_during_an_outage(Database::Redis(redis.start().await)).await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn a_log_in_survives_an_outage_of_postgres() {
    log_in_during_an_outage(Database::Postgres(PostgresServer::start().await)).await;
}

async fn log_in_during_an_outage(database: Database) {
    let provider = Provider::start().await;
    let mut flags = provider.flags();
    flags.extend([
        "--store".to_owned(),
        database.url(),
        "--cache-size".to_owned(),
        "0".to_owned(),
    ]);
    let server = mcp::start(&flags).await;
    let client_id = mcp::register_public(&server, "A client", REDIRECT).await;
    let request = mcp::request(&server, &client_id, REDIRECT, &[]);
    let mut browser = Browser::default();
    let consent = onward(&browser.get(&request).await);
    let page = browser.get(&consent).await;
    let approve = [("decision", "approve")];

    database.kill().await;
    let away = [
        browser.get(&request).await,
        browser.get(&consent).await,
        browser.submit(&consent, &page, &approve).await,
        browser
            .get(&server.url(&format!("/callback?code=x&state={}", "A".repeat(43))))
            .await,
    ];
    for away in away {
        assert_eq!(
            away.status,
            StatusCode::SERVICE_UNAVAILABLE,
            "{}",
            away.text()
        );
        assert!(
            away.text().contains("Wait a moment and reload this page"),
            "{}",
            away.text()
        );
        mcp::assert_is_page(&away);
    }
    assert!(provider.requests().is_empty());

    database.restart().await;
    let answer = again(async || browser.submit(&consent, &page, &approve).await).await;
    let callback = browser.follow(answer, &server.url("/callback?")).await;
    database.kill().await;
    assert_eq!(
        browser.get(&callback).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    database.restart().await;
    let client = onward(&again(async || browser.get(&callback).await).await);
    assert!(one(&query(&client), "code").is_some(), "{client}");
    assert_eq!(provider.exchanged(), 1);
}
