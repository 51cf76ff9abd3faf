//! PgBouncer in transaction mode, between the store and the server.

use std::time::{Duration, Instant};

use test_support::entries::random_key;
use test_support::postgres::{PgBouncer, PostgresServer};
use test_support::secrets::Log;
use tokio::sync::OnceCell;
use tower_oauth_refresh::store::{Announcement, Store as _};
use tower_oauth_refresh::{PostgresStore, PostgresStoreBuilder};

/// A time limit for a call on a machine that is busy with other tests.
const PATIENT: Duration = Duration::from_secs(60);

/// The pooler of Debian 12 does not track prepared statements.
fn builder(pooler: &PgBouncer) -> PostgresStoreBuilder {
    PostgresStore::builder(&pooler.url())
        .command_timeout(PATIENT)
        .prepared_statements(false)
}

async fn start() -> (PostgresServer, PgBouncer) {
    let server = PostgresServer::start().await;
    let pooler = PgBouncer::in_front_of(&server).await;
    (server, pooler)
}

static POOLED: OnceCell<(PostgresServer, PgBouncer)> = OnceCell::const_new();

tower_oauth_refresh::store_conformance!(async || {
    let (server, pooler) = POOLED.get_or_init(start).await;
    let builder = builder(pooler).max_connections(4).listen_url(&server.url());
    builder.connect().await.unwrap()
});

#[tokio::test]
async fn a_pooler_that_does_not_support_listen_is_detected() {
    let (server, pooler) = start().await;
    let (log, _guard) = Log::capture();
    let short = builder(&pooler).command_timeout(Duration::from_secs(2));
    let store = short.connect().await.unwrap();
    let _announcements = store.announcements().unwrap();
    let end = Instant::now() + PATIENT;
    while !log.text().contains("behind PgBouncer in transaction mode") {
        assert!(Instant::now() < end, "{}", log.text());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // A connection of the first pooler may still listen.
    let pooler = PgBouncer::in_front_of(&server).await;
    let store = builder(&pooler).listen_url(&server.url());
    let store = store.connect().await.unwrap();
    let mut announcements = store.announcements().unwrap();
    assert_eq!(announcements.next().await, Some(Announcement::Lost));
    let (other, key) = (builder(&pooler).connect().await.unwrap(), random_key());
    other.announce(&[key]).await.unwrap();
    let received = tokio::time::timeout(PATIENT, announcements.next()).await;
    assert_eq!(received.unwrap(), Some(Announcement::Ended(key)));
}
