//! A call that the server gets to after its client has given up changes nothing.

use std::time::{Duration, Instant};

use sqlx::postgres::PgPoolOptions;
use test_support::PATIENCE;
use test_support::entries::{insert, put, random_key};
use test_support::postgres::PostgresServer;
use tower_oauth_refresh::PostgresStore;
use tower_oauth_refresh::store::{Store as _, StoreError};

/// The time limit of a call.
const LIMIT: Duration = Duration::from_secs(2);

/// Returns the number of connections of stores.
const CONNECTIONS: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";

/// Returns a store with one connection, which is idle, and on which a swap has been prepared.
async fn connect(server: &PostgresServer) -> PostgresStore {
    let pool = PgPoolOptions::new().max_connections(1);
    let pool = pool.test_before_acquire(false);
    let pool = pool.connect(&server.url()).await.unwrap();
    let builder = PostgresStore::builder_with_pool(pool.clone());
    let builder = builder.purge_every(Duration::ZERO).command_timeout(LIMIT);
    let store = builder.connect().await.unwrap();
    insert(&store, &random_key()).await;
    let end = Instant::now() + PATIENCE;
    while pool.num_idle() == 0 {
        assert!(Instant::now() < end, "the connection does not return");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    store
}

async fn patient(server: &PostgresServer) -> PostgresStore {
    let builder = PostgresStore::builder(&server.url()).command_timeout(PATIENCE);
    builder.connect().await.unwrap()
}

#[tokio::test]
async fn a_call_that_a_frozen_server_reads_later_changes_nothing() {
    let server = PostgresServer::start().await;
    let (store, key) = (connect(&server).await, random_key());
    server.freeze();
    let swap = put(&store, &key, None, 1).await;
    assert!(matches!(swap, Err(StoreError::Unavailable(_))), "{swap:?}");
    server.thaw();
    // The server has read the call, and then the end of the connection.
    server.until(CONNECTIONS, "0").await;
    let log = server.log();
    assert!(log.contains("the call arrived after its deadline"), "{log}");
    assert_eq!(patient(&server).await.get(&key).await.unwrap(), None);
}

#[tokio::test]
async fn a_call_that_waits_for_a_lock_too_long_changes_nothing() {
    let server = PostgresServer::start().await;
    let (store, key) = (connect(&server).await, random_key());
    let lock =
        server.session("BEGIN; LOCK TABLE oauth_refresh.entries IN SHARE ROW EXCLUSIVE MODE");
    let locked = "SELECT count(*) FROM pg_locks WHERE mode = 'ShareRowExclusiveLock' AND granted";
    server.until(locked, "1").await;
    let swap = put(&store, &key, None, 1).await;
    assert!(matches!(swap, Err(StoreError::Unavailable(_))), "{swap:?}");
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    server.until(waiting, "0").await;
    drop(lock);
    assert_eq!(patient(&server).await.get(&key).await.unwrap(), None);
}
