//! The pool: full, shared with the program, and cut off from the server.

use std::time::{Duration, Instant};

use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use test_support::announcements::heard;
use test_support::entries::{entry, every_call, insert, put, random_key};
use test_support::instances::{assert_away, events, go_on, log_in_many, refresh_each};
use test_support::postgres::{PostgresServer, Relay};
use test_support::{App, ManualClock, PATIENCE, Upstream};
use tower_oauth_refresh::store::{Store as _, StoreError, Swap, TieredStore};
use tower_oauth_refresh::{EventKind, PostgresStore};

/// The number of connections of the pool.
const CONNECTIONS: u32 = 2;

const LIMIT: Duration = Duration::from_secs(1);

/// The number of sessions that are refreshed at once.
const SESSIONS: usize = 16;

/// Makes calls that write wait for a lock.
const LOCK: &str = "BEGIN; LOCK TABLE oauth_refresh.entries IN SHARE ROW EXCLUSIVE MODE";

const WAITING: &str = "SELECT count(*) FROM pg_locks WHERE NOT granted";

fn app(store: PostgresStore, upstream: &Upstream) -> App<TieredStore<PostgresStore>> {
    App::over(
        ManualClock::new(),
        TieredStore::new(store),
        upstream.clone(),
        |builder| builder.rotation_timeout(LIMIT),
    )
}

/// Every connection waits for a lock, and further calls wait for a connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_pool_loses_no_session() {
    let (server, upstream) = (PostgresServer::start().await, Upstream::new());
    let builder = PostgresStore::builder(&server.url()).max_connections(CONNECTIONS);
    let store = builder.command_timeout(LIMIT).connect().await.unwrap();
    let app = [app(store, &upstream)];
    let tokens = log_in_many(&app, SESSIONS).await;

    let lock = server.session(LOCK);
    server
        .until(
            "SELECT count(*) FROM pg_locks WHERE mode = 'ShareRowExclusiveLock' AND granted",
            "1",
        )
        .await;
    let requests = refresh_each(&app, &tokens);
    server.until(WAITING, &CONNECTIONS.to_string()).await;
    let answers = tokio::time::timeout(PATIENCE, requests.join_all()).await;
    answers
        .expect("the calls end in bounded time")
        .iter()
        .for_each(assert_away);
    assert_eq!(upstream.refreshes(), 0, "no request reached the upstream");
    drop(lock);

    let (lost, left) = go_on(&app, &tokens).await;
    app[0].layer.drain().await;
    let emitted = events(&app);
    assert_eq!((lost, left.len()), (0, SESSIONS), "{emitted:?}");
    assert!(
        emitted.contains(&EventKind::StoreUnavailable),
        "{emitted:?}"
    );
    assert!(!emitted.contains(&EventKind::CommitLost), "{emitted:?}");
    assert_eq!(upstream.reuses(), 0);
}

async fn pool(url: &str) -> PgPool {
    PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .test_before_acquire(false)
        .connect(url)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_pool_of_the_program_is_shared() {
    let server = PostgresServer::start().await;
    let pool = pool(&server.url()).await;
    let connect = || {
        let builder = PostgresStore::builder_with_pool(pool.clone());
        builder.command_timeout(PATIENCE).connect()
    };
    let (store, other) = (connect().await.unwrap(), connect().await.unwrap());
    for (call, outcome) in every_call(&store, &random_key()).await {
        outcome.unwrap_or_else(|error| panic!("{call}: {error:?}"));
    }
    let mut announcements = store.announcements().unwrap();
    heard(&other, &mut announcements, "an end").await;
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM oauth_refresh.migrations")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(rows, 1, "the program uses it, too");
    assert!(pool.size() <= CONNECTIONS, "{}", pool.size());
    drop((store, other));
    assert!(!pool.is_closed(), "it belongs to the program");
}

/// The program holds every connection. Its own limit for the wait is longer than that of a call.
#[tokio::test]
async fn a_program_that_takes_the_whole_pool_loses_no_session() {
    let (server, upstream) = (PostgresServer::start().await, Upstream::new());
    let pool = pool(&server.url()).await;
    let builder = PostgresStore::builder_with_pool(pool.clone());
    let store = builder.command_timeout(LIMIT).connect().await.unwrap();
    let app = [app(store, &upstream)];
    let tokens = log_in_many(&app, SESSIONS).await;

    let mut taken = Vec::new();
    for _ in 0..CONNECTIONS {
        taken.push(pool.acquire().await.unwrap());
    }
    let requests = refresh_each(&app, &tokens).join_all();
    let answers = tokio::time::timeout(PATIENCE / 2, requests).await;
    answers
        .expect("the calls end in bounded time")
        .iter()
        .for_each(assert_away);
    assert_eq!(upstream.refreshes(), 0, "no request reached the upstream");
    drop(taken);

    let (lost, left) = go_on(&app, &tokens).await;
    assert_eq!((lost, left.len()), (0, SESSIONS));
    assert_eq!(upstream.reuses(), 0);
}

/// A connection is tested after each call. A network that fails at this moment closes nothing, and
/// must not occupy the connection for ever.
#[tokio::test]
async fn a_partition_after_a_call_does_not_occupy_the_pool() {
    let server = PostgresServer::start().await;
    let network = Relay::in_front_of(server.port()).await;
    let builder = PostgresStore::builder(&network.url()).max_connections(1);
    let store = builder
        .command_timeout(Duration::from_secs(5))
        .connect()
        .await
        .unwrap();
    let (key, other) = (random_key(), random_key());
    insert(&store, &other).await;

    let lock = server.session(LOCK);
    server
        .until(
            "SELECT count(*) FROM pg_locks WHERE mode = 'ShareRowExclusiveLock' AND granted",
            "1",
        )
        .await;
    let writing = tokio::spawn({
        let store = store.clone();
        async move { put(&store, &key, None, 1).await }
    });
    server.until(WAITING, "1").await;
    network.partition();
    drop(lock);
    assert_eq!(writing.await.unwrap().unwrap(), Swap::Swapped);

    let end = Instant::now() + PATIENCE;
    loop {
        match store.get(&other).await {
            Ok(found) => {
                assert_eq!(found, Some(entry(1)));
                break;
            }
            Err(StoreError::Unavailable(error)) => {
                assert!(Instant::now() < end, "the pool stays full: {error}");
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}
