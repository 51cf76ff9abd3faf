//! Stores to measure.

use std::time::Duration;

use tempfile::TempDir;
use tower_oauth_refresh::RedisStore;

use super::RedisServer;

/// Returns a store in this server without a practical time limit, for any number of concurrent
/// calls.
pub(crate) async fn redis_store(server: &RedisServer) -> RedisStore {
    RedisStore::builder(&server.url())
        .command_timeout(Duration::from_secs(60))
        .connect()
        .await
        .expect("a server")
}

/// Returns a directory on a disk, because the one for temporary files may be in memory.
pub(crate) fn directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}
