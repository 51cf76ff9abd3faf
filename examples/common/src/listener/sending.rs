//! Ends HTTP/2 streams whose client does not read.
//!
//! HTTP/2 has its own flow control: a client that keeps a window at zero and answers pings looks
//! alive, while its stream holds a connection to the upstream. hyper polls the body for a frame,
//! then waits for the window, and does not poll the body again. Therefore the body alone cannot
//! detect such a client. Three types work together:
//!
//! - [`Chunk`] is the data of a response. The HTTP/2 implementation advances it when bytes have
//!   been framed, which requires an open window. So the number of waiting bytes is known exactly.
//! - [`Sending`] counts the waiting bytes and records the time of the last progress.
//! - [`StreamExecutor`] runs the task of a stream, and drops the task when its [`Sending`] has made
//!   no progress in time. This resets the stream and drops the response body with the resources
//!   that it holds.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use pin_project::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

/// The number of bytes that counts as progress, so that a client cannot keep a stream open by
/// opening the window byte by byte.
const PROGRESS: usize = 16 << 10;

tokio::task_local! {
    static SENDING: Arc<Sending>;
}

/// The data that waits to be sent on one HTTP/2 stream.
#[derive(Debug)]
pub(crate) struct Sending {
    limit: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    waiting: usize,
    /// Bytes sent since `progress`.
    sent: usize,
    /// The time of the last progress, or of the beginning of the wait.
    progress: Instant,
    drained: Option<Waker>,
}

impl Sending {
    fn new(limit: Duration) -> Self {
        let state = State {
            waiting: 0,
            sent: 0,
            progress: Instant::now(),
            drained: None,
        };
        Self {
            limit,
            state: Mutex::new(state),
        }
    }

    /// Returns the instance of the stream whose task is running; `None` on HTTP/1.
    pub(crate) fn current() -> Option<Arc<Self>> {
        SENDING.try_with(Arc::clone).ok()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, bytes: usize) {
        let mut state = self.state();
        if state.waiting == 0 {
            state.sent = 0;
            state.progress = Instant::now();
        }
        state.waiting += bytes;
    }

    fn sent(&self, bytes: usize) {
        let mut state = self.state();
        state.waiting = state.waiting.saturating_sub(bytes);
        state.sent += bytes;
        if state.sent >= PROGRESS {
            state.sent = 0;
            state.progress = Instant::now();
        }
        if state.waiting == 0
            && let Some(waker) = state.drained.take()
        {
            waker.wake();
        }
    }

    /// Returns whether at most [`PROGRESS`] bytes wait to be sent. The body may then end before
    /// they are sent.
    pub(crate) fn is_little(&self) -> bool {
        self.state().waiting <= PROGRESS
    }

    /// Waits until all data is sent.
    pub(crate) fn poll_drained(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.waiting == 0 {
            return Poll::Ready(());
        }
        state.drained = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Returns the time at which the stream is reset unless it makes progress; `None` while no data
    /// waits.
    fn deadline(&self) -> Option<Instant> {
        let state = self.state();
        (state.waiting > 0).then(|| state.progress + self.limit)
    }
}

/// Data of a response, which reports to its [`Sending`] when it is sent.
#[derive(Debug)]
pub(crate) struct Chunk {
    bytes: Bytes,
    sending: Option<Arc<Sending>>,
}

impl Chunk {
    pub(crate) fn new(bytes: Bytes, sending: Option<&Arc<Sending>>) -> Self {
        if let Some(sending) = sending {
            sending.add(bytes.len());
        }
        Self {
            bytes,
            sending: sending.cloned(),
        }
    }

    fn sent(&self, bytes: usize) {
        if let Some(sending) = &self.sending
            && bytes > 0
        {
            sending.sent(bytes);
        }
    }
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, bytes: usize) {
        self.bytes.advance(bytes);
        self.sent(bytes);
    }

    fn copy_to_bytes(&mut self, bytes: usize) -> Bytes {
        let copied = self.bytes.copy_to_bytes(bytes);
        self.sent(bytes);
        copied
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.sent(self.bytes.len());
    }
}

/// Runs the tasks of HTTP/2 streams.
#[derive(Clone, Debug)]
pub(crate) struct StreamExecutor {
    limit: Duration,
}

impl StreamExecutor {
    /// Creates an executor that resets a stream after `limit` without progress.
    pub(crate) const fn new(limit: Duration) -> Self {
        Self { limit }
    }
}

impl<F> hyper::rt::Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        tokio::spawn(StreamTask {
            task,
            sending: Arc::new(Sending::new(self.limit)),
            timer: None,
        });
    }
}

/// The task of a stream. It completes when the stream is finished or makes no progress.
#[pin_project]
struct StreamTask<F> {
    #[pin]
    task: F,
    sending: Arc<Sending>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<F: Future<Output = ()>> Future for StreamTask<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let task = this.task;
        if SENDING
            .sync_scope(Arc::clone(this.sending), || task.poll(cx))
            .is_ready()
        {
            return Poll::Ready(());
        }
        // The body yields data only in the poll above, so data never begins to wait unnoticed.
        loop {
            let Some(deadline) = this.sending.deadline() else {
                return Poll::Pending;
            };
            if deadline <= Instant::now() {
                tracing::debug!("a response made no progress: its stream is reset");
                return Poll::Ready(());
            }
            let timer = this
                .timer
                .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if timer.is_elapsed() {
                timer.as_mut().reset(deadline);
            }
            // Progress moves the deadline but not the timer, so the timer may fire too early, but
            // never too late.
            ready!(timer.as_mut().poll(cx));
        }
    }
}
