//! Bounds the memory and the time that request bodies take.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use super::refusal::Refusal;

/// How many bytes are progress. A client that sends a body byte by byte does not keep it open.
const PROGRESS: usize = 16 << 10;

/// The memory that all request bodies together may hold.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    held: AtomicUsize,
}

impl Budget {
    pub(crate) const fn new(limit: usize) -> Self {
        Self {
            limit,
            held: AtomicUsize::new(0),
        }
    }

    fn take(&self, bytes: usize) -> bool {
        let sum = |held: usize| held.checked_add(bytes).filter(|held| *held <= self.limit);
        self.held
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, sum)
            .is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::SeqCst);
    }

    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }
}

/// The share of the [`Budget`] that one request body holds, its deadline, and why it failed.
///
/// The bytes count from their arrival until the request has a response, because a service that
/// buffers a body holds it until then. A service that streams the body calls
/// [`pass_on`](Self::pass_on). Requests with a body have this, in an `Arc`, as an extension.
#[derive(Debug)]
pub(crate) struct Held {
    budget: Arc<Budget>,
    /// The most that this request can hold.
    most: usize,
    bytes: AtomicUsize,
    /// Whether bytes that arrive do not count, because the service streams the body.
    passed_on: AtomicBool,
    /// When the body must have arrived, if the service sets it. Beyond it the listener answers the
    /// request with 408.
    pub(crate) deadline: OnceLock<Instant>,
    failure: AtomicU8,
}

impl Held {
    pub(crate) const fn new(budget: Arc<Budget>, most: usize) -> Self {
        Self {
            budget,
            most,
            bytes: AtomicUsize::new(0),
            passed_on: AtomicBool::new(false),
            deadline: OnceLock::new(),
            failure: AtomicU8::new(0),
        }
    }

    /// Stops counting the bytes that arrive, because the service streams the body.
    /// [`keep`](Self::keep) counts instead.
    pub(crate) fn pass_on(&self) {
        self.passed_on.store(true, Ordering::SeqCst);
        self.budget.give_back(self.bytes.swap(0, Ordering::SeqCst));
    }

    /// Counts `bytes` as all that the service holds of a body that it passes on.
    ///
    /// Returns an error if the [`Budget`] has no room for them. The listener then answers the
    /// request with 503.
    pub(crate) fn keep(&self, bytes: usize) -> Result<(), BodyError> {
        // One task streams the body: nothing else changes the number.
        let held = self.bytes.load(Ordering::SeqCst);
        if !self.budget.take(bytes.saturating_sub(held)) {
            self.fail(&BodyError::Memory);
            return Err(BodyError::Memory);
        }
        self.budget.give_back(held.saturating_sub(bytes));
        self.bytes.store(bytes, Ordering::SeqCst);
        Ok(())
    }

    fn add(&self, bytes: usize) -> bool {
        if self.passed_on.load(Ordering::SeqCst) {
            return true;
        }
        // Only the task that reads the body adds to it.
        let held = self.bytes.load(Ordering::SeqCst);
        let added = bytes.min(self.most.saturating_sub(held));
        if !self.budget.take(added) {
            return false;
        }
        self.bytes.store(held + added, Ordering::SeqCst);
        true
    }

    fn fail(&self, error: &BodyError) {
        let failure = match error {
            BodyError::Memory => 1,
            BodyError::Stalled => 2,
            BodyError::Broken(_) => return,
        };
        self.failure.store(failure, Ordering::SeqCst);
    }

    /// Returns why the body could not be read, if the listener must answer for it.
    pub(crate) fn failure(&self) -> Option<Refusal> {
        match self.failure.load(Ordering::SeqCst) {
            1 => Some(Refusal::Memory),
            2 => Some(Refusal::Stalled),
            _ => None,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.give_back(*self.bytes.get_mut());
    }
}

/// The reason why a request body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The client or its connection failed.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    /// The [`Budget`] is exhausted.
    #[error("the request bodies need too much memory")]
    Memory,
    /// It did not arrive in time.
    #[error("the request body did not arrive")]
    Stalled,
}

/// The body of a request, as the service gets it.
#[derive(Debug)]
pub(crate) struct RequestBody {
    body: Incoming,
    /// `None` for an empty body.
    held: Option<Arc<Held>>,
    limit: Duration,
    /// Created at the first read that must wait.
    timer: Option<Pin<Box<Sleep>>>,
    /// When the service began to wait for the client, if it does.
    waiting: Option<Instant>,
    /// How long it has waited since the last progress, in earlier waits.
    waited: Duration,
    /// Bytes that arrived since the last progress.
    arrived: usize,
}

impl RequestBody {
    pub(crate) const fn new(body: Incoming, held: Option<Arc<Held>>, limit: Duration) -> Self {
        Self {
            body,
            held,
            limit,
            timer: None,
            waiting: None,
            waited: Duration::ZERO,
            arrived: 0,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            let Some(frame) = frame else {
                return Poll::Ready(None);
            };
            let frame = frame?;
            let arrived = frame.data_ref().map_or(0, Bytes::len);
            self.record(arrived);
            let fits = self.held.as_ref().is_none_or(|held| held.add(arrived));
            return Poll::Ready(Some(if fits {
                Ok(frame)
            } else {
                Err(BodyError::Memory)
            }));
        }
        // The time runs while the service waits for the client, not while the client waits for the
        // service.
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep(self.limit)));
        if self.waiting.is_none() {
            let now = Instant::now();
            self.waiting = Some(now);
            let stalled = now + self.limit.saturating_sub(self.waited);
            let deadline = self.held.as_ref().and_then(|held| held.deadline.get());
            timer
                .as_mut()
                .reset(deadline.map_or(stalled, |deadline| stalled.min(*deadline)));
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(BodyError::Stalled)))
    }

    /// Ends a wait, if there was one. It counts on until enough has arrived.
    fn record(&mut self, arrived: usize) {
        self.waited += self
            .waiting
            .take()
            .map_or(Duration::ZERO, |since| since.elapsed());
        self.arrived += arrived;
        if self.arrived >= PROGRESS {
            (self.arrived, self.waited) = (0, Duration::ZERO);
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(self.poll(cx));
        if let (Some(Err(error)), Some(held)) = (&frame, &self.held) {
            held.fail(error);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
