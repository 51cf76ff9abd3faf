//! `PostgresStore` keeps the contract of `Store` over a real server.

use std::time::Duration;

use test_support::postgres::PostgresServer;
use tokio::sync::OnceCell;
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
