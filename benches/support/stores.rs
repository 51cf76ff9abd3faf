//! Stores to measure.

use std::time::Duration;

use tempfile::TempDir;
use tower_oauth_refresh::RedisStore;

use super::RedisServer;

/// A store in this server that waits for as long as it takes, however many ask at once.
pub(crate) async fn redis_store(server: &RedisServer) -> RedisStore {
    RedisStore::builder(&server.url())
        .command_timeout(Duration::from_secs(60))
        .connect()
        .await
        .expect("a server")
}

/// A directory on a disk, where that for temporary files may be one in memory.
pub(crate) fn directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}
