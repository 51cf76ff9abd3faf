use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::StoreError;
use super::error::NoAnswer;

/// The most jobs in the queue of one thread. Further callers wait until there is room.
const QUEUE: usize = 1024;

/// A thread with a bounded queue. Dropping the worker blocks until the queued jobs are done and the
/// thread has ended.
pub(super) struct Worker<J> {
    jobs: Option<Sender<Queued<J>>>,
    room: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
}

/// A job, and the permit for its place in the queue.
type Queued<J> = (J, OwnedSemaphorePermit);

impl<J: Send + 'static> Worker<J> {
    pub(super) fn start(
        name: &str,
        run: impl FnOnce(Jobs<J>) + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, receiver) = channel();
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(Jobs(receiver)))?;
        Ok(Self {
            jobs: Some(sender),
            room: Arc::new(Semaphore::new(QUEUE)),
            thread: Some(thread),
        })
    }

    /// Queues the job as soon as there is room.
    pub(super) async fn send(&self, job: J) -> Result<(), NoAnswer> {
        let jobs = self.jobs.as_ref().ok_or(NoAnswer::Stopped)?;
        let place = Arc::clone(&self.room)
            .acquire_owned()
            .await
            .map_err(|_| NoAnswer::Stopped)?;
        jobs.send((job, place)).map_err(|_| NoAnswer::Stopped)
    }
}

/// The jobs of a thread, in the order in which they were sent.
pub(super) struct Jobs<J>(Receiver<Queued<J>>);

impl<J> Jobs<J> {
    /// Returns the next job, if one arrives within `patience`.
    pub(super) fn recv_timeout(&self, patience: Duration) -> Result<J, RecvTimeoutError> {
        self.0.recv_timeout(patience).map(|(job, _)| job)
    }

    /// Returns the jobs that are queued now.
    pub(super) fn waiting(&self) -> impl Iterator<Item = J> {
        self.0.try_iter().map(|(job, _)| job)
    }

    /// Returns all jobs, until the worker is dropped.
    pub(super) fn all(&self) -> impl Iterator<Item = J> {
        self.0.iter().map(|(job, _)| job)
    }
}

impl<J> Drop for Worker<J> {
    fn drop(&mut self) {
        self.jobs = None;
        let Some(thread) = self.thread.take() else {
            return;
        };
        // A reply may have woken the last caller on this very thread, which then drops the worker.
        // A thread cannot join itself.
        if thread.thread().id() != thread::current().id() && thread.join().is_err() {
            tracing::error!("a worker thread of the store panicked");
        }
    }
}

/// Runs `work`, and converts a panic of the database into an error. redb panics on some damaged
/// pages, because it does not check what it reads.
pub(super) fn without_panic<T>(
    work: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic: Box<dyn Any + Send>| {
        // The panic hook has already reported it.
        drop(panic);
        Err(NoAnswer::Panicked.into())
    })
}
