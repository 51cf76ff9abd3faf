use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::error::RedbOpenError;
use super::store::RedbStore;
use crate::clock::{Clock, SystemClock};

/// Settings of a [`RedbStore`], from [`RedbStore::builder`].
#[must_use = "nothing is opened before `open` is called"]
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

    /// The clock that times to live and leases go by, so that a test can move them. By default that
    /// of the operating system.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// How many bytes of the file are kept in memory, at most. By default 64 MiB.
    pub const fn cache_size(mut self, bytes: usize) -> Self {
        self.cache_size = bytes;
        self
    }

    /// How long a call waits for the disk until it ends with
    /// [`StoreError::Unavailable`](crate::StoreError). By default 5 seconds: a disk that is busy
    /// can need some for one commit. At least a millisecond. One that is too long to come to its
    /// end, as [`Duration::MAX`] is, gives up the bound that the contract of
    /// [`Store`](crate::Store) wants.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Opens the file, or creates it where there is none (readable for its owner alone; its
    /// directory has to be there).
    ///
    /// Checks the whole file, so it takes the longer the larger the file is, and blocks for as
    /// long.
    ///
    /// # Errors
    ///
    /// [`RedbOpenError`]: a setting makes no sense, or the file is in use, damaged, not ours, of a newer layout, or
    /// cannot be read and written.
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

impl fmt::Debug for RedbStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStoreBuilder")
            .field("path", &self.path)
            .field("cache_size", &self.cache_size)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
