//! `PostgresStore` keeps the contract of `Store` over a real server.

use std::time::Duration;

use test_support::entries::{LEASE, TAG, every_call, insert, put, random_key, version};
use test_support::postgres::PostgresServer;
use tokio::sync::OnceCell;
use tower_oauth_refresh::store::{Store as _, Swap};
use tower_oauth_refresh::{PostgresStore, PostgresStoreBuilder, TieredStore};

/// A time limit for a call on a machine that is busy with other tests.
const PATIENT: Duration = Duration::from_secs(60);

static SERVER: OnceCell<PostgresServer> = OnceCell::const_new();

async fn builder() -> PostgresStoreBuilder {
    let server = SERVER.get_or_init(PostgresServer::start).await;
    PostgresStore::builder(&server.url())
        .command_timeout(PATIENT)
        .max_connections(4)
}

mod prepared {
    use super::*;

    tower_oauth_refresh::store_conformance!(async || builder().await.connect().await.unwrap());
}

/// Without prepared statements, as behind a pooler that does not track them.
mod unprepared {
    use super::*;

    tower_oauth_refresh::store_conformance!(async || {
        let builder = builder()
            .await
            .schema("unprepared")
            .prepared_statements(false);
        builder.connect().await.unwrap()
    });
}

/// With the strictest isolation as the default of the database: the server undoes transactions that
/// conflict, and the store repeats them.
mod serializable {
    use super::*;

    static SERVER: OnceCell<PostgresServer> = OnceCell::const_new();

    async fn start() -> PostgresServer {
        let server = PostgresServer::start().await;
        server.sql("ALTER DATABASE postgres SET default_transaction_isolation = 'serializable'");
        server
    }

    tower_oauth_refresh::store_conformance!(async || {
        let url = SERVER.get_or_init(start).await.url();
        let builder = PostgresStore::builder(&url).command_timeout(PATIENT);
        builder.max_connections(4).connect().await.unwrap()
    });
}

mod tiered {
    use super::*;

    tower_oauth_refresh::store_conformance!(async || TieredStore::new(
        builder().await.connect().await.unwrap()
    ));
}

/// The server logs every message that makes it parse, bind or execute a statement.
#[tokio::test]
async fn a_claim_and_a_swap_are_one_prepared_statement_each() {
    const ROUNDS: u64 = 10;
    let server = PostgresServer::start_with("log_min_duration_statement=0").await;
    let builder = PostgresStore::builder(&server.url()).command_timeout(PATIENT);
    let builder = builder.max_connections(1).purge_every(Duration::ZERO);
    let (store, key) = (builder.connect().await.unwrap(), random_key());
    for (call, outcome) in every_call(&store, &random_key()).await {
        outcome.unwrap_or_else(|error| panic!("{call}: {error:?}"));
    }
    insert(&store, &key).await;
    let before = server.log().len();
    for round in 0..ROUNDS {
        let claimed = 100 + round;
        let claim = store.claim(&key, &TAG, version(claimed), LEASE).await;
        assert_eq!(claim.unwrap().unwrap().entry.version, version(claimed));
        let swapped = put(&store, &key, Some(claimed), round).await;
        assert_eq!(swapped.unwrap(), Swap::Swapped);
    }
    let log = server.log().split_off(before);
    let mut messages: Vec<_> = log
        .lines()
        .filter_map(|line| line.split_once(" ms  "))
        .map(|(_, message)| {
            (
                message.starts_with("bind "),
                message.starts_with("execute "),
            )
        })
        .collect();
    messages.sort_unstable();
    let once = usize::try_from(2 * ROUNDS).unwrap();
    let expected = [vec![(false, true); once], vec![(true, false); once]].concat();
    assert_eq!(messages, expected, "{log}");
}
