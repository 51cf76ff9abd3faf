//! The schema: migrations, the rights that a role needs, and expired rows.

use std::time::Duration;

use bytes::Bytes;
use test_support::entries::{NAME, every_call, insert, put_with, random_key};
use test_support::postgres::PostgresServer;
use tokio::task::JoinSet;
use tower_oauth_refresh::store::{Store as _, StoreError, Swap, Ttl};
use tower_oauth_refresh::{PostgresConnectError, PostgresStore, PostgresStoreBuilder};

/// A time limit for a call on a machine that is busy with other tests.
const PATIENT: Duration = Duration::from_secs(60);

/// The rights that the documentation says a role needs.
const RIGHTS: [&str; 6] = [
    "USAGE ON SCHEMA oauth_refresh",
    "SELECT ON oauth_refresh.migrations",
    "SELECT ON oauth_refresh.entries, oauth_refresh.sidecars",
    "INSERT ON oauth_refresh.entries, oauth_refresh.sidecars",
    "UPDATE ON oauth_refresh.entries, oauth_refresh.sidecars",
    "DELETE ON oauth_refresh.entries, oauth_refresh.sidecars",
];

fn builder(url: &str) -> PostgresStoreBuilder {
    PostgresStore::builder(url).command_timeout(PATIENT)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_instances_that_start_at_once_create_one_schema() {
    let server = PostgresServer::start().await;
    let mut instances = JoinSet::new();
    for _ in 0..8 {
        let builder = builder(&server.url());
        instances.spawn(async move { builder.connect().await.unwrap() });
    }
    let instances = instances.join_all().await;
    assert_eq!(
        server.sql("SELECT version FROM oauth_refresh.migrations"),
        "1"
    );
    let key = random_key();
    insert(&instances[0], &key).await;
    for instance in &instances {
        assert!(instance.get(&key).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_store_that_may_not_migrate_needs_the_schema() {
    let server = PostgresServer::start().await;
    let refused = builder(&server.url()).migrate(false).connect().await;
    assert!(
        matches!(
            refused,
            Err(PostgresConnectError::Schema {
                found: 0,
                needed: 1
            })
        ),
        "{refused:?}"
    );
    assert_eq!(server.sql("SELECT to_regnamespace('login') IS NULL"), "t");
    server.sql(&PostgresStore::schema_sql("login", 0).unwrap());
    let store = builder(&server.url()).schema("login").migrate(false);
    insert(&store.connect().await.unwrap(), &random_key()).await;
    assert_eq!(server.sql("SELECT count(*) FROM login.entries"), "1");
    // Nothing is left to do.
    builder(&server.url())
        .schema("login")
        .connect()
        .await
        .unwrap();
}

#[tokio::test]
async fn schemas_of_one_database_are_independent() {
    let server = PostgresServer::start().await;
    let first = builder(&server.url())
        .schema("one")
        .connect()
        .await
        .unwrap();
    let second = builder(&server.url())
        .schema("two")
        .connect()
        .await
        .unwrap();
    let key = random_key();
    insert(&first, &key).await;
    assert_eq!(second.get(&key).await.unwrap(), None);
}

#[tokio::test]
async fn a_role_needs_exactly_the_documented_rights() {
    let server = PostgresServer::start().await;
    builder(&server.url()).connect().await.unwrap();
    server.sql("CREATE ROLE app LOGIN");
    for right in RIGHTS {
        server.sql(&format!("GRANT {right} TO app"));
    }
    let store = builder(&server.url_as("app")).connect().await.unwrap();
    let key = random_key();
    for (call, done) in every_call(&store, &key).await {
        assert!(done.is_ok(), "{call}: {done:?}");
    }
    store.announce(&[key]).await.unwrap();
    for right in RIGHTS {
        server.sql(&format!("REVOKE {right} FROM app"));
        let refused = builder(&server.url_as("app")).connect().await;
        assert!(
            matches!(refused, Err(PostgresConnectError::Permission(_))),
            "without {right}: {refused:?}"
        );
        server.sql(&format!("GRANT {right} TO app"));
    }
    server.sql("CREATE ROLE other LOGIN");
    let refused = builder(&server.url_as("other"))
        .schema("other")
        .connect()
        .await;
    assert!(
        matches!(refused, Err(PostgresConnectError::Permission(_))),
        "it may not create a schema: {refused:?}"
    );
}

#[tokio::test]
async fn any_instance_purges_expired_rows_in_batches() {
    const ROWS: &str = "SELECT (SELECT count(*) FROM oauth_refresh.entries),
        (SELECT count(*) FROM oauth_refresh.sidecars)";
    let server = PostgresServer::start().await;
    let store = builder(&server.url())
        .purge_every(Duration::ZERO)
        .connect()
        .await
        .unwrap();
    let (alive, locked) = (random_key(), random_key());
    insert(&store, &alive).await;
    let short = Ttl::After(Duration::from_millis(1));
    let inserted = put_with(&store, &locked, None, 1, short, None)
        .await
        .unwrap();
    assert_eq!(inserted, Swap::Swapped);
    // More than two batches of rows that have expired.
    server.sql(
        "INSERT INTO oauth_refresh.entries SELECT int4send(n), '', '', NULL, false, '', 1
            FROM generate_series(1, 1100) n;
        INSERT INTO oauth_refresh.sidecars SELECT int4send(n), '', '', 1
            FROM generate_series(1, 1100) n",
    );
    assert_eq!(server.sql(ROWS), "1102|1101");

    let day = builder(&server.url()).purge_every(Duration::from_millis(10));
    let day = day.connect().await.unwrap();
    server.until(ROWS, "2|1").await;
    drop(day);
    assert!(
        store.get(&locked).await.unwrap().is_none(),
        "an expired entry is absent"
    );

    let lock = "BEGIN; SELECT FROM oauth_refresh.entries FOR UPDATE";
    let lock = server.session(lock);
    let idle = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'";
    server.until(idle, "1").await;
    server.sql("INSERT INTO oauth_refresh.entries SELECT 'x', '', '', NULL, false, '', 1");
    let now = builder(&server.url()).purge_every(Duration::from_millis(10));
    let _now = now.keep_expired(Duration::ZERO).connect().await.unwrap();
    server.until(ROWS, "2|1").await;
    assert_eq!(
        server.sql(idle),
        "1",
        "the purge does not wait for a locked row"
    );
    drop(lock);
    server.until(ROWS, "1|1").await;
    assert_eq!(
        store.sidecar(&alive, &NAME).await.unwrap(),
        Some(Bytes::from_static(b"sidecar"))
    );
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_an_error() {
    let server = PostgresServer::start().await;
    let store = builder(&server.url()).connect().await.unwrap();
    for broken in ["version = 'short'", "tag = ''", "lease = -1"] {
        let key = random_key();
        insert(&store, &key).await;
        server.sql(&format!("UPDATE oauth_refresh.entries SET {broken}"));
        let read = store.get(&key).await;
        assert!(
            matches!(read, Err(StoreError::Corrupt(_))),
            "{broken}: {read:?}"
        );
        server.sql("DELETE FROM oauth_refresh.entries");
    }
}
