use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::super::{
    Announcements, Announcer, Change, Claim, ClaimTag, Entry, Key, Sidecar, SidecarName, Store,
    StoreError, Swap, Version, decide,
};
use super::builder::RedbStoreBuilder;
use super::error::RedbOpenError;
use super::file::Opened;
use super::leases::Leases;
use super::reader;
use super::tables::SwapArguments;
use super::worker::{Reply, Task, Worker, stopped, task};
use super::writer::{Job, Writer};
use crate::clock::{Clock, Timestamp};

/// Grants in one file, for one process: for deployments on one machine without Redis (feature
/// `redb`).
///
/// A clone is another handle to the same file. Only one store can have the file open; another
/// process gets [`RedbOpenError::InUse`]. Several instances of a server need a store that they can
/// share.
///
/// **A confirmed change is on the disk.** A change is confirmed after it has been committed and
/// synced, so it survives a restart, a `kill -9` and a power cut, provided that the disk honours
/// syncs. Concurrent changes share one commit. Only leases are kept in memory: a lease that
/// outlives its process would only delay the next refresh of the grant.
///
/// Expired entries are absent at once for every caller. They are removed in the background, in
/// batches that are small enough not to delay calls. Their space in the file is reused; the file
/// does not shrink. An entry has at most 128 sidecars.
///
/// **A wrong clock removes nothing.** An entry stays in the file for a week after its expiry.
/// Nothing is removed within an hour after the file was opened, or within a day after the wall
/// clock has gained more than ten minutes on the [monotonic one](crate::Clock::monotonic). So if a
/// clock was ahead and is set back, the grants exist again.
///
/// **The file must stay at its path.** If the file is removed or replaced, a restart would lose all
/// later writes. Therefore claims and swaps fail with [`StoreError::Unavailable`], and an error is
/// logged once a minute. Reads still work. When the file is back at its path, writes work again.
/// (Only on Unix: other systems do not let an open file be removed.)
///
/// A call takes at most [`timeout`](RedbStoreBuilder::timeout), including the time that it waits
/// for other calls. If the disk is full or fails, calls return [`StoreError::Unavailable`]; the
/// store reopens the file, and works again when that succeeds. A record that cannot be read is
/// [`StoreError::Corrupt`]. Calls need a tokio runtime with its timer enabled.
///
/// Dropping the last handle blocks until all queued jobs are done and the file is closed, so that
/// it can be reopened at once.
///
/// ```
/// use tower_oauth_refresh::RedbStore;
/// use tower_oauth_refresh::store::{Key, Store};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("grants.redb");
/// let store = RedbStore::open(path)?;
/// assert_eq!(store.get(&Key::new([7; 32])).await?, None);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedbStore(Arc<Handle>);

struct Handle {
    // The workers end before the file is closed.
    writer: Worker<Job>,
    reader: Worker<Task>,
    shared: Arc<Shared>,
    announcer: Announcer,
    timeout: Duration,
}

/// The state that the threads share.
pub(super) struct Shared {
    pub(super) file: Opened,
    pub(super) leases: Leases,
    pub(super) clock: Arc<dyn Clock>,
}

impl RedbStore {
    /// Opens the file, or creates it, with the default settings.
    ///
    /// Blocks while the whole file is checked: see [`RedbStoreBuilder::open`].
    ///
    /// # Errors
    ///
    /// [`RedbOpenError`] if the file is in use, is damaged, belongs to another program, has an
    /// unknown layout, or cannot be read and written.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, RedbOpenError> {
        Self::builder(path).open()
    }

    /// Returns a builder for a store with other settings.
    pub fn builder(path: impl Into<PathBuf>) -> RedbStoreBuilder {
        RedbStoreBuilder::new(path.into())
    }

    pub(super) fn start(settings: RedbStoreBuilder) -> Result<Self, RedbOpenError> {
        let shared = Arc::new(Shared {
            file: Opened::create(settings.path, settings.cache_size)?,
            leases: Leases::default(),
            clock: settings.clock,
        });
        let writer = Writer::start(Arc::clone(&shared)).map_err(RedbOpenError::io)?;
        let for_reader = Arc::clone(&shared);
        let reader = Worker::start("redb-reader", move |reads| reader::run(&for_reader, reads))
            .map_err(RedbOpenError::io)?;
        Ok(Self(Arc::new(Handle {
            writer,
            reader,
            shared,
            announcer: Announcer::new(),
            timeout: settings.timeout,
        })))
    }

    /// Sends a job to `worker`, and waits for its reply for at most the time-out.
    async fn send<J: Send + 'static, T>(
        &self,
        worker: &Worker<J>,
        job: impl FnOnce(Reply<T>) -> J,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = job(reply);
        let answered = async {
            worker.send(job).await?;
            answer.await.map_err(|_| stopped())?
        };
        timeout(self.0.timeout, answered)
            .await
            .map_err(|_| StoreError::unavailable("the disk did not respond in time"))?
    }
}

redacted_debug!(self: RedbStore { path: self.0.shared.file.path() });

impl Store for RedbStore {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let key = *key;
        let get = move |shared: &Shared| shared.entry(&key);
        self.send(&self.0.reader, |reply| task(reply, get)).await
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
        sidecars: &[Sidecar],
    ) -> Result<Swap, StoreError> {
        decide::check_sidecars(sidecars)?;
        let arguments = SwapArguments {
            key: *key,
            expected,
            change,
            sidecars: sidecars.to_vec(),
        };
        self.send(&self.0.writer, |reply| Job::Swap(arguments, reply))
            .await
    }

    async fn sidecar(&self, key: &Key, name: &SidecarName) -> Result<Option<Bytes>, StoreError> {
        let (key, name) = (*key, *name);
        let get = move |shared: &Shared| shared.sidecar(&key, &name);
        self.send(&self.0.reader, |reply| task(reply, get)).await
    }

    async fn claim(
        &self,
        key: &Key,
        tag: &ClaimTag,
        version: Version,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        let (key, tag) = (*key, *tag);
        let claim = move |shared: &Shared| shared.claim(&key, &tag, version, lease);
        self.send(&self.0.writer, |reply| Job::Claim(task(reply, claim)))
            .await
    }

    async fn announce(&self, ended: &[Key]) -> Result<(), StoreError> {
        ended.iter().for_each(|key| self.0.announcer.ended(*key));
        Ok(())
    }

    fn announcements(&self) -> Option<Announcements> {
        Some(self.0.announcer.subscribe())
    }

    fn now(&self) -> Timestamp {
        self.0.shared.clock.now()
    }

    fn system_name(&self) -> Option<&'static str> {
        Some("redb")
    }
}
