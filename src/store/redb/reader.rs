use bytes::Bytes;
use redb::{ReadTransaction, ReadableDatabase as _};
use tokio::sync::mpsc::Receiver;

use super::super::{Entry, Key, SidecarName, StoreError};
use super::error::Failure;
use super::leases::with_lease;
use super::store::Shared;
use super::tables::{read_record, read_sidecar};
use super::worker::Task;

/// Answers reads from the committed data.
///
/// This is a thread of its own instead of `spawn_blocking`. A read usually takes some microseconds,
/// less than waking a thread of a pool. The thread needs no runtime, and reads do not queue behind
/// other blocking work of the process.
pub(super) fn run(shared: &Shared, mut reads: Receiver<Task>) {
    while let Some(read) = reads.blocking_recv() {
        read(Ok(shared));
    }
}

impl Shared {
    pub(super) fn entry(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let claimed = self.leases.get(key);
        let found = self.read(|read| read_record(read, key))?;
        let now = self.clock.now();
        let live = found.filter(|record| record.end > now);
        Ok(live.map(|record| with_lease(record.entry, claimed)))
    }

    pub(super) fn sidecar(
        &self,
        key: &Key,
        name: &SidecarName,
    ) -> Result<Option<Bytes>, StoreError> {
        self.read(|read| {
            let now = self.clock.now();
            match read_record(read, key)? {
                Some(record) if record.end > now => read_sidecar(read, key, name, now),
                Some(_) | None => Ok(None),
            }
        })
    }

    /// Runs `work` on the data that is committed now.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        self.file.with(|database| work(&database.begin_read()?))
    }
}
