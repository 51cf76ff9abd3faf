use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::error::RedbOpenError;
use super::store::RedbStore;
use crate::clock::{Clock, SystemClock};

/// Settings of a [`RedbStore`], from [`RedbStore::builder`].
#[must_use = "a builder does nothing until `open` is called"]
pub struct RedbStoreBuilder {
    pub(super) path: PathBuf,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) cache_size: usize,
    pub(super) timeout: Duration,
}

impl RedbStoreBuilder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            clock: Arc::new(SystemClock),
            cache_size: 64 * 1024 * 1024,
            timeout: Duration::from_secs(5),
        }
    }

    /// Sets the clock that measures times to live and leases, so that a test can control them.
    /// Default: the system clock.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the maximum number of bytes of the file to cache in memory. Default: 64 MiB.
    pub const fn cache_size(mut self, bytes: usize) -> Self {
        self.cache_size = bytes;
        self
    }

    /// Sets how long a call waits for the disk before it returns
    /// [`StoreError::Unavailable`](crate::StoreError). Default: 5 seconds, because a busy disk may
    /// need several for one commit. At least a millisecond. A very long time, such as
    /// [`Duration::MAX`], breaks the promise of [`Store`](crate::Store) that every call returns in
    /// bounded time.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Opens the file, or creates it if it does not exist. Only the owner can read a new file. Its
    /// directory must exist.
    ///
    /// Blocks while the whole file is checked, which takes longer the larger the file is.
    ///
    /// # Errors
    ///
    /// [`RedbOpenError`] if a setting is invalid, or if the file is in use, is damaged, belongs to
    /// another program, has an unknown layout, or cannot be read and written.
    pub fn open(self) -> Result<RedbStore, RedbOpenError> {
        if self.timeout < Duration::from_millis(1) {
            let reason = "it must be at least a millisecond";
            return Err(RedbOpenError::Setting {
                setting: "timeout",
                reason,
            });
        }
        RedbStore::start(self)
    }
}

redacted_debug!(self: RedbStoreBuilder { path, cache_size, timeout });
