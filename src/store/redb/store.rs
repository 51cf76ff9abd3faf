use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::super::{
    Announcements, Announcer, Beside, Change, Claim, Entry, Key, Name, Store, StoreError, Swap,
    Tag, Version,
};
use super::builder::RedbStoreBuilder;
use super::error::{NoAnswer, RedbOpenError};
use super::file::Opened;
use super::leases::Leases;
use super::reader::{self, Read};
use super::tables::Asked;
use super::threads::Worker;
use super::writer::{AskedClaim, Job, Writer};
use crate::clock::{Clock, Timestamp};

/// Grants in one file, for one process: for those who have one machine and no Redis (feature
/// `redb`).
///
/// A clone is another handle on the same file. The file belongs to one store at a time: while it is
/// open, another process is refused. Several instances of a server need a store that they can
/// share.
///
/// **What is answered is on the disk.** A change is answered when it is committed and synced, so it
/// is there again after a restart, a `kill -9` or a power cut, as far as the disk keeps its word.
/// Changes that come at the same time share one commit. Leases alone are held in memory: one that
/// its process has not outlived would keep its grant from being refreshed for nothing.
///
/// Expired entries are absent at once for every caller. They are removed in the background, in
/// portions that delay no call, and their space is used again; the file does not shrink. An entry
/// has at most eight sidecars.
///
/// **A wrong clock removes nothing.** An entry stays in the file for a week past its end. Nothing
/// is removed within an hour after the file was opened, nor within a day after the wall clock has
/// gained more than ten minutes on the [monotonic one](crate::Clock::monotonic). So when a clock
/// that was ahead is set back, the grants exist again.
///
/// **The file must stay at its path.** When the path leads to no file or to another one, claims and
/// swaps fail with [`StoreError::Unavailable`], and an error is logged once a minute, because a
/// restart would lose the writes. Reads still work. When the file is back at its path, writes work
/// again. (Only on Unix: elsewhere an open file cannot be removed.)
///
/// A call takes no longer than [`timeout`](RedbStoreBuilder::timeout) allows, however many come at
/// once: they wait for each other. A disk that is full or fails is [`StoreError::Unavailable`]; the
/// store then opens the file anew, and goes on when that succeeds. A record that cannot be read is
/// [`StoreError::Corrupt`]. Calls need a tokio runtime with its timer.
///
/// Dropping the last handle waits until what was asked for is done and the file is closed, so that
/// it can be opened again at once.
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
    reader: Worker<Read>,
    shared: Arc<Shared>,
    announcer: Announcer,
    timeout: Duration,
}

/// What the threads have in common.
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
    /// [`RedbOpenError`]: the file is in use, damaged, not ours, of a newer layout, or cannot be read and written.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, RedbOpenError> {
        Self::builder(path).open()
    }

    /// Settings to open the file with.
    pub fn builder(path: impl Into<PathBuf>) -> RedbStoreBuilder {
        RedbStoreBuilder::new(path.into())
    }

    pub(super) fn start(settings: RedbStoreBuilder) -> Result<Self, RedbOpenError> {
        let RedbStoreBuilder {
            path,
            clock,
            cache_size,
            timeout,
        } = settings;
        let file = Opened::create(path, cache_size)?;
        let shared = Arc::new(Shared {
            file,
            leases: Leases::default(),
            clock,
        });
        let writer = Writer::new(Arc::clone(&shared));
        let writer = Worker::start("redb-writer", move |jobs| writer.run(&jobs))?;
        let for_reader = Arc::clone(&shared);
        let reader = Worker::start("redb-reader", move |jobs| reader::run(&for_reader, &jobs))?;
        Ok(Self(Arc::new(Handle {
            writer,
            reader,
            shared,
            announcer: Announcer::new(),
            timeout,
        })))
    }

    /// What the worker answers, within the time that a call may take.
    async fn ask<J: Send + 'static, T>(
        &self,
        worker: &Worker<J>,
        job: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> J,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = job(reply);
        let answered = async {
            worker.send(job).await?;
            answer.await.map_err(|_| NoAnswer::Stopped)?
        };
        timeout(self.0.timeout, answered)
            .await
            .map_err(|_| NoAnswer::TimedOut)?
    }
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore")
            .field("path", &self.0.shared.file.path())
            .finish_non_exhaustive()
    }
}

impl Store for RedbStore {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.ask(&self.0.reader, |reply| Read::Entry(*key, reply))
            .await
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
        also: Option<Beside>,
    ) -> Result<Swap, StoreError> {
        self.ask(&self.0.writer, |reply| {
            Job::Swap(
                Asked {
                    key: *key,
                    expected,
                    change,
                    also,
                },
                reply,
            )
        })
        .await
    }

    async fn beside(&self, key: &Key, name: &Name) -> Result<Option<Bytes>, StoreError> {
        self.ask(&self.0.reader, |reply| Read::Beside(*key, *name, reply))
            .await
    }

    async fn claim(
        &self,
        key: &Key,
        tag: &Tag,
        version: Version,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        self.ask(&self.0.writer, |reply| {
            Job::Claim(
                AskedClaim {
                    key: *key,
                    tag: *tag,
                    version,
                    lease,
                },
                reply,
            )
        })
        .await
    }

    async fn announce(&self, ended: &[Key]) -> Result<(), StoreError> {
        for key in ended {
            self.0.announcer.ended(*key);
        }
        Ok(())
    }

    fn announcements(&self) -> Option<Announcements> {
        Some(self.0.announcer.subscribe())
    }

    fn now(&self) -> Timestamp {
        self.0.shared.clock.now()
    }
}
