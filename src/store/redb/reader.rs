use std::sync::Arc;

use bytes::Bytes;
use redb::{ReadTransaction, ReadableDatabase as _};
use tokio::sync::oneshot;

use super::super::{Entry, Key, SidecarName, StoreError};
use super::error::store_error;
use super::store::Shared;
use super::tables::{read_record, read_sidecar, with_lease};
use super::threads::{Jobs, without_panic};

/// A read, and the channel for its reply.
pub(super) enum Read {
    Entry(Key, oneshot::Sender<Result<Option<Entry>, StoreError>>),
    Sidecar(
        Key,
        SidecarName,
        oneshot::Sender<Result<Option<Bytes>, StoreError>>,
    ),
}

/// Answers reads from the committed data.
///
/// This is a thread of its own instead of `spawn_blocking`. A read usually takes some microseconds,
/// less than waking a thread of a pool. The thread needs no runtime, and reads do not queue behind
/// other blocking work of the process.
pub(super) fn run(shared: &Arc<Shared>, jobs: &Jobs<Read>) {
    for job in jobs.all() {
        match job {
            Read::Entry(key, reply) => answer(reply, || entry(shared, &key)),
            Read::Sidecar(key, name, reply) => answer(reply, || sidecar(shared, &key, &name)),
        }
    }
}

fn answer<T>(
    reply: oneshot::Sender<Result<T, StoreError>>,
    read: impl FnOnce() -> Result<T, StoreError>,
) {
    if !reply.is_closed() {
        // Sending fails if the caller has given up since.
        let _ = reply.send(without_panic(read));
    }
}

fn entry(shared: &Shared, key: &Key) -> Result<Option<Entry>, StoreError> {
    let claimed = shared.leases.get(key);
    let found = shared.read(|read| Ok(read_record(read, key)?))?;
    let now = shared.clock.now();
    Ok(found
        .filter(|record| record.end > now)
        .map(|record| with_lease(record.entry, claimed)))
}

fn sidecar(shared: &Shared, key: &Key, name: &SidecarName) -> Result<Option<Bytes>, StoreError> {
    shared.read(|read| {
        let now = shared.clock.now();
        if read_record(read, key)?.is_none_or(|record| record.end <= now) {
            return Ok(None);
        }
        let live = read_sidecar(read, key, name, |sidecar| {
            (sidecar.end > now).then(|| Bytes::copy_from_slice(sidecar.value))
        })?;
        Ok(live.flatten())
    })
}

impl Shared {
    /// Runs `work` on the data that is committed now.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.file.with(|database| {
            work(
                &database
                    .begin_read()
                    .map_err(|error| store_error(error.into()))?,
            )
        })
    }
}
