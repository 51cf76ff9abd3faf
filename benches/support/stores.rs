//! Stores to measure.

use std::time::Duration;

use tempfile::TempDir;
use tower_oauth_refresh::{PostgresStore, RedisStore};

use super::{PostgresServer, RedisServer};

/// Returns a store in this server without a practical time limit, for any number of concurrent
/// calls.
pub async fn redis_store(server: &RedisServer) -> RedisStore {
    RedisStore::builder(&server.url())
        .command_timeout(Duration::from_secs(60))
        .connect()
        .await
        .expect("a server")
}

/// Returns a store in this server without a practical time limit, with a schema of its own.
pub async fn postgres_store(server: &PostgresServer, schema: &str) -> PostgresStore {
    PostgresStore::builder(&server.url())
        .schema(schema)
        .command_timeout(Duration::from_secs(60))
        .max_connections(32)
        .connect()
        .await
        .expect("a server")
}

/// Returns a new directory in `parent`, which should be on a disk: the one for temporary files may
/// be in memory.
pub fn directory(parent: &str) -> TempDir {
    tempfile::tempdir_in(parent).expect("a directory")
}
