use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use super::super::StoreError;
use super::error::NoAnswer;

/// How many calls wait for one thread at most.
const QUEUE: usize = 1024;

/// A thread with a bounded queue. When it is dropped, what is queued is done first, then the thread has ended.
pub(super) struct Worker<J> {
    jobs: Option<SyncSender<J>>,
    thread: Option<JoinHandle<()>>,
}

impl<J: Send + 'static> Worker<J> {
    pub(super) fn start(name: &str, run: impl FnOnce(Receiver<J>) + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || run(receiver))?;
        Ok(Self { jobs: Some(sender), thread: Some(thread) })
    }

    pub(super) fn send(&self, job: J) -> Result<(), NoAnswer> {
        let jobs = self.jobs.as_ref().ok_or(NoAnswer::Stopped)?;
        jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => NoAnswer::QueueFull,
            TrySendError::Disconnected(_) => NoAnswer::Stopped,
        })
    }
}

impl<J> Drop for Worker<J> {
    fn drop(&mut self) {
        self.jobs = None;
        let Some(thread) = self.thread.take() else { return };
        // An answer may have woken, and so dropped, the last caller: then this is the thread itself.
        if thread.thread().id() != thread::current().id() && thread.join().is_err() {
            tracing::error!("a thread of the store has panicked");
        }
    }
}

/// Runs `work`, and turns a panic of the database (it trusts the pages that it reads) into an error.
pub(super) fn without_panic<T>(work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic: Box<dyn Any + Send>| {
        // The panic hook has told what it was.
        drop(panic);
        Err(NoAnswer::Panicked.into())
    })
}
