use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

use super::super::StoreError;
use super::store::Shared;

/// The most jobs in the queue of one thread. Further callers wait until there is room.
const QUEUE: usize = 1024;

/// A thread with a bounded queue. Dropping the worker blocks until the queued jobs are done and the
/// thread has ended.
pub(super) struct Worker<J> {
    jobs: Option<Sender<J>>,
    thread: Option<JoinHandle<()>>,
}

impl<J: Send + 'static> Worker<J> {
    pub(super) fn start(
        name: &str,
        run: impl FnOnce(Receiver<J>) + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, receiver) = channel(QUEUE);
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(receiver))?;
        Ok(Self {
            jobs: Some(sender),
            thread: Some(thread),
        })
    }

    /// Queues the job as soon as there is room.
    pub(super) async fn send(&self, job: J) -> Result<(), StoreError> {
        let jobs = self.jobs.as_ref().ok_or_else(stopped)?;
        jobs.send(job).await.map_err(|_| stopped())
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

/// The channel for the reply to a call.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// Replies to a call that only needs the shared state, or with the error of that.
pub(super) type Task = Box<dyn FnOnce(Result<&Shared, StoreError>) + Send>;

/// Returns a task that replies with the result of `work`. It does nothing if the caller has gone: a
/// lease that it took would not be released.
pub(super) fn task<T: Send + 'static>(
    reply: Reply<T>,
    work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
) -> Task {
    Box::new(move |shared: Result<&Shared, StoreError>| {
        if !reply.is_closed() {
            let result = shared.and_then(|shared| without_panic(|| work(shared)));
            // Sending fails if the caller has given up since.
            let _ = reply.send(result);
        }
    })
}

/// Returns the error of a call that gets no reply.
pub(super) fn stopped() -> StoreError {
    StoreError::unavailable("the worker thread of the store has stopped")
}

/// Runs `work`, and converts a panic of the database into an error. redb panics on some damaged
/// pages, because it does not check what it reads.
pub(super) fn without_panic<T>(
    work: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    // The panic hook reports the panic.
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(StoreError::unavailable("the database panicked")))
}
