//! Instances that share a database receive announcements, or are told that some may have been lost,
//! whatever happens to the connection.

use std::time::Duration;

use test_support::announcements::{heard, next};
use test_support::entries::random_key;
use test_support::postgres::PostgresServer;
use tower_oauth_refresh::store::{Announcement, Key, Store as _};
use tower_oauth_refresh::{PostgresStore, PostgresStoreBuilder};

/// The time limit of a call while servers do not respond.
const LIMIT: Duration = Duration::from_secs(2);

const LISTENERS: &str = "FROM pg_stat_activity WHERE query LIKE 'LISTEN%' OR query = 'SELECT 1' AND
    pid <> pg_backend_pid()";

fn builder(url: &str) -> PostgresStoreBuilder {
    PostgresStore::builder(url).command_timeout(LIMIT)
}

async fn connect(url: &str) -> PostgresStore {
    builder(url).connect().await.unwrap()
}

#[tokio::test]
async fn a_broken_channel_is_detected_and_reopened() {
    let server = PostgresServer::start().await;
    for name in ["frozen", "crashed", "stopped", "ended by an administrator"] {
        let (store, other) = (connect(&server.url()).await, connect(&server.url()).await);
        let mut announcements = store.announcements().unwrap();
        assert_eq!(
            next(&mut announcements, name).await,
            Some(Announcement::Lost),
            "{name}: there was no subscriber before"
        );
        heard(&other, &mut announcements, name).await;
        match name {
            "frozen" => server.freeze(),
            "crashed" => server.crash().await,
            "stopped" => server.stop().await,
            _ => drop(server.sql(&format!("SELECT pg_terminate_backend(pid) {LISTENERS}"))),
        }
        while next(&mut announcements, name).await != Some(Announcement::Lost) {}
        match name {
            "frozen" => server.thaw(),
            "crashed" | "stopped" => server.restart().await,
            _ => {}
        }
        let before = heard(&other, &mut announcements, name).await;
        assert_eq!(
            before.first(),
            Some(&Announcement::Lost),
            "{name}: {before:?}"
        );
    }
}

/// A message has at most 7,999 bytes.
#[tokio::test]
async fn a_thousand_keys_are_announced_at_once() {
    let server = PostgresServer::start().await;
    let (store, other) = (connect(&server.url()).await, connect(&server.url()).await);
    let mut announcements = store.announcements().unwrap();
    heard(&other, &mut announcements, "the subscription").await;
    let keys: Vec<Key> = (0..1000).map(|_| random_key()).collect();
    other.announce(&keys).await.unwrap();
    for key in keys {
        loop {
            match next(&mut announcements, "a key").await {
                Some(Announcement::Ended(ended)) if ended == key => break,
                // A repetition of the first announcement.
                Some(Announcement::Ended(_)) => {}
                lost => panic!("{lost:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_strange_message_counts_as_lost() {
    let server = PostgresServer::start().await;
    let (store, other) = (connect(&server.url()).await, connect(&server.url()).await);
    let mut announcements = store.announcements().unwrap();
    heard(&other, &mut announcements, "the subscription").await;
    for message in ["x", &"!".repeat(43), &"ä".repeat(100)] {
        server.sql(&format!(
            "SELECT pg_notify('oauth_refresh_ended', '{message}')"
        ));
        while next(&mut announcements, message).await != Some(Announcement::Lost) {}
    }
    heard(&other, &mut announcements, "the channel still works").await;
}
