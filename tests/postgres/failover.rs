//! Two servers in one URL, of which one is the primary: the store uses it, and follows when the
//! other one is promoted.

use std::time::{Duration, Instant};

use test_support::PATIENCE;
use test_support::announcements::{heard, next};
use test_support::entries::{entry, every_call, insert, put, random_key};
use test_support::postgres::PostgresServer;
use tower_oauth_refresh::store::{Announcement, Key, Store as _, StoreError, Swap};
use tower_oauth_refresh::{PostgresConnectError, PostgresStore};

/// The time limit of a call while servers do not respond.
const LIMIT: Duration = Duration::from_secs(2);

/// Returns the number of connections of stores.
const CONNECTIONS: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";

async fn connect(servers: [&PostgresServer; 2]) -> PostgresStore {
    let builder = PostgresStore::builder(&PostgresServer::url_of(servers)).command_timeout(LIMIT);
    builder.connect().await.unwrap()
}

/// Waits until the store can be used, and returns whether it has the entry.
async fn found(store: &PostgresStore, key: &Key) -> bool {
    let end = Instant::now() + PATIENCE;
    loop {
        match store.get(key).await {
            Ok(found) => return found.is_some(),
            Err(StoreError::Unavailable(error)) => {
                assert!(Instant::now() < end, "it does not follow: {error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

async fn assert_unavailable(store: &PostgresStore) {
    for (call, outcome) in every_call(store, &random_key()).await {
        assert!(
            matches!(outcome, Err(StoreError::Unavailable(_))),
            "{call}: {outcome:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_follows_the_primary() {
    let (primary, standby) = PostgresServer::start_pair().await;
    let store = connect([&primary, &standby]).await;
    let other = connect([&standby, &primary]).await;
    let mut announcements = store.announcements().unwrap();
    heard(&other, &mut announcements, "the first subscription").await;
    let key = random_key();
    insert(&store, &key).await;
    standby.until(CONNECTIONS, "0").await;

    primary.crash().await;
    while next(&mut announcements, "the crash").await != Some(Announcement::Lost) {}
    tokio::join!(assert_unavailable(&store), assert_unavailable(&other));

    standby.promote();
    assert!(found(&store, &key).await, "a confirmed write was lost");
    assert!(found(&other, &key).await);
    assert_eq!(put(&store, &key, Some(1), 2).await.unwrap(), Swap::Swapped);
    assert_eq!(other.get(&key).await.unwrap(), Some(entry(2)));
    let before = heard(&other, &mut announcements, "the second subscription").await;
    assert!(before.contains(&Announcement::Lost), "{before:?}");

    // It does not know that it was replaced, and accepts writes again.
    primary.restart().await;
    let late = connect([&primary, &standby]).await;
    assert!(found(&late, &key).await);
    assert_eq!(put(&late, &key, Some(2), 3).await.unwrap(), Swap::Swapped);
    assert_eq!(store.get(&key).await.unwrap(), Some(entry(3)));
    primary.until(CONNECTIONS, "0").await;
}

/// The connections stay open, and the former primary goes on as if nothing had happened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_primary_that_was_replaced_is_not_used_again() {
    let (primary, standby) = PostgresServer::start_pair().await;
    let store = connect([&primary, &standby]).await;
    let other = connect([&primary, &standby]).await;
    let mut announcements = store.announcements().unwrap();
    heard(&other, &mut announcements, "the first subscription").await;
    let key = random_key();
    insert(&store, &key).await;

    primary.freeze();
    standby.promote();
    assert!(found(&store, &key).await, "a confirmed write was lost");
    assert!(found(&other, &key).await);
    heard(&other, &mut announcements, "the second subscription").await;
    primary.thaw();
    primary.until(CONNECTIONS, "0").await;
    assert_eq!(put(&store, &key, Some(1), 2).await.unwrap(), Swap::Swapped);
    assert_eq!(other.get(&key).await.unwrap(), Some(entry(2)));
    heard(&other, &mut announcements, "the channel still works").await;
    primary.until(CONNECTIONS, "0").await;
}

#[tokio::test]
async fn a_standby_is_never_used() {
    let (primary, standby) = PostgresServer::start_pair().await;
    let store = connect([&primary, &standby]).await;
    insert(&store, &random_key()).await;
    let error = PostgresStore::connect(&standby.url()).await.unwrap_err();
    let PostgresConnectError::Unusable(source) = &error else {
        panic!("{error:?}");
    };
    assert!(source.to_string().contains("perhaps it is a standby"));

    primary.stop().await;
    let url = PostgresServer::url_of([&primary, &standby]);
    let url = url.replace("postgres@", "postgres:secret@");
    let error = PostgresStore::connect(&url).await.unwrap_err();
    let PostgresConnectError::Unreachable(source) = &error else {
        panic!("{error:?}");
    };
    let reasons = source.to_string();
    for part in [
        format!("127.0.0.1:{}: Connection refused", primary.port()),
        format!("127.0.0.1:{}: the server is read-only", standby.port()),
    ] {
        assert!(reasons.contains(&part), "{part}: {reasons}");
    }
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_for_listen_can_have_several_hosts() {
    let (primary, standby) = PostgresServer::start_pair().await;
    let builder = PostgresStore::builder(&PostgresServer::url_of([&primary, &standby]))
        .listen_url(&PostgresServer::url_of([&standby, &primary]))
        .command_timeout(LIMIT);
    let store = builder.connect().await.unwrap();
    let other = connect([&primary, &standby]).await;
    let mut announcements = store.announcements().unwrap();
    heard(&other, &mut announcements, "the first subscription").await;
    primary.stop().await;
    standby.promote();
    let before = heard(&other, &mut announcements, "the second subscription").await;
    assert!(before.contains(&Announcement::Lost), "{before:?}");
}
