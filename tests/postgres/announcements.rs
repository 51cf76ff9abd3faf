//! Instances that share a database receive announcements, or are told that some may have been lost,
//! whatever happens to the connection.

use std::time::Duration;

use test_support::access::{LOG_IN, pair, refused, status};
use test_support::announcements::{heard, next};
use test_support::entries::random_key;
use test_support::hooked::epochs_key;
use test_support::postgres::PostgresServer;
use test_support::{App, ManualClock, SECOND, Upstream};
use tower_oauth_refresh::store::{Announcement, Key, Store as _};
use tower_oauth_refresh::{GrantKey, PostgresStore, PostgresStoreBuilder};

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

/// An hour is longer than the test waits: a token ends because it was announced, not because its
/// cache entry expired.
#[tokio::test]
async fn every_end_by_the_application_reaches_another_instance() {
    let server = PostgresServer::start().await;
    let (clock, upstream) = (ManualClock::new(), Upstream::new());
    let mut instances = Vec::new();
    for _ in 0..2 {
        let store = connect(&server.url()).await;
        instances.push(App::over(
            clock.clone(),
            store,
            upstream.clone(),
            |builder| builder.reference_access_tokens(true),
        ));
    }
    let [app, other] = &instances[..] else {
        unreachable!()
    };
    let access = other
        .layer
        .access()
        .cache_ttl(3600 * SECOND)
        .build()
        .unwrap();
    let mut announcements = other.store.announcements().unwrap();
    for name in ["a grant", "a client", "all"] {
        // An epoch ends what began at the same time, too.
        clock.advance(SECOND);
        app.events();
        let (_, token) = pair(&app.post("/token", &LOG_IN).await);
        let grant = app.take_events()[0].grant.unwrap();
        assert_eq!(status(&access, &token).await, 200, "{name}");
        heard(&app.store, &mut announcements, name).await;
        assert_eq!(status(&access, &token).await, 200, "{name}, remembered");
        let ended = match name {
            "a grant" => {
                assert!(app.layer.end_grant(&grant).await.unwrap());
                grant
            }
            "a client" => {
                app.layer.end_client(&"app".parse().unwrap()).await.unwrap();
                epochs_key().into()
            }
            _ => {
                app.layer.end_all().await.unwrap();
                epochs_key().into()
            }
        };
        loop {
            match next(&mut announcements, name).await {
                Some(Announcement::Ended(key)) if GrantKey::from(key) == ended => break,
                Some(_) => {}
                None => panic!("{name}: the channel is closed"),
            }
        }
        refused(&access, &token, name).await;
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
