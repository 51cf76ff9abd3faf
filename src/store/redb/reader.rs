use std::sync::Arc;

use bytes::Bytes;
use redb::{ReadTransaction, ReadableDatabase as _};
use tokio::sync::oneshot;

use super::super::{Entry, Key, Name, StoreError};
use super::error::store_error;
use super::store::Shared;
use super::tables::{read_beside, read_record, with_lease};
use super::threads::{Jobs, without_panic};

/// What the reader is asked, and where to.
pub(super) enum Read {
    Entry(Key, oneshot::Sender<Result<Option<Entry>, StoreError>>),
    Beside(
        Key,
        Name,
        oneshot::Sender<Result<Option<Bytes>, StoreError>>,
    ),
}

/// Answers reads from what is committed.
///
/// A thread of its own, and not `spawn_blocking`: a read takes some microseconds as a rule, less
/// than it takes to wake a pool; it needs no runtime, and does not queue behind the blocking work
/// of the rest of the program.
pub(super) fn run(shared: &Arc<Shared>, jobs: &Jobs<Read>) {
    for job in jobs.all() {
        match job {
            Read::Entry(key, reply) => answer(reply, || entry(shared, &key)),
            Read::Beside(key, name, reply) => answer(reply, || beside(shared, &key, &name)),
        }
    }
}

fn answer<T>(
    reply: oneshot::Sender<Result<T, StoreError>>,
    read: impl FnOnce() -> Result<T, StoreError>,
) {
    if !reply.is_closed() {
        // Who has gone in the meantime needs no answer.
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

fn beside(shared: &Shared, key: &Key, name: &Name) -> Result<Option<Bytes>, StoreError> {
    shared.read(|read| {
        let now = shared.clock.now();
        if read_record(read, key)?.is_none_or(|record| record.end <= now) {
            return Ok(None);
        }
        let live = read_beside(read, key, name, |beside| {
            (beside.end > now).then(|| Bytes::copy_from_slice(beside.value))
        })?;
        Ok(live.flatten())
    })
}

impl Shared {
    /// Runs `work` on what is committed now.
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
