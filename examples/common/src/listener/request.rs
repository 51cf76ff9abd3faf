//! Limits the memory and the time that request bodies use.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use super::refusal::Refusal;

/// The number of bytes that counts as progress, so that a client cannot keep a body open by sending
/// single bytes.
const PROGRESS: usize = 16 << 10;

/// The memory that all request bodies together may hold.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    held: AtomicUsize,
}

impl Budget {
    pub const fn new(limit: usize) -> Self {
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

    fn release(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::SeqCst);
    }

    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }
}

/// The share of the [`Budget`] that one request body holds, its deadline, and its failure.
///
/// Bytes count from their arrival until the request has a response, because a service that buffers
/// a body holds it until then. A service that streams the body calls [`pass_on`](Self::pass_on).
/// Every request with a body has an `Arc` of this type as an extension.
#[derive(Debug)]
pub struct Held {
    budget: Arc<Budget>,
    /// The most bytes that this request can hold.
    most: usize,
    bytes: AtomicUsize,
    /// Whether the service streams the body, so that arriving bytes do not count.
    passed_on: AtomicBool,
    /// The time by which the body must be complete, if the service sets one. If it is not, the
    /// listener answers the request with 408.
    pub deadline: OnceLock<Instant>,
    failure: AtomicU8,
}

impl Held {
    pub const fn new(budget: Arc<Budget>, most: usize) -> Self {
        Self {
            budget,
            most,
            bytes: AtomicUsize::new(0),
            passed_on: AtomicBool::new(false),
            deadline: OnceLock::new(),
            failure: AtomicU8::new(0),
        }
    }

    /// Stops counting arriving bytes, because the service streams the body. The service reports
    /// what it holds to [`keep`](Self::keep).
    pub fn pass_on(&self) {
        self.passed_on.store(true, Ordering::SeqCst);
        self.budget.release(self.bytes.swap(0, Ordering::SeqCst));
    }

    /// Sets the number of bytes that the service holds of a body that it streams.
    ///
    /// Returns an error if the [`Budget`] is exhausted. The listener then answers the request with
    /// 503.
    pub fn keep(&self, bytes: usize) -> Result<(), BodyError> {
        // Only the task that streams the body changes the number.
        let held = self.bytes.load(Ordering::SeqCst);
        if !self.budget.take(bytes.saturating_sub(held)) {
            self.fail(&BodyError::Memory);
            return Err(BodyError::Memory);
        }
        self.budget.release(held.saturating_sub(bytes));
        self.bytes.store(bytes, Ordering::SeqCst);
        Ok(())
    }

    fn add(&self, bytes: usize) -> bool {
        if self.passed_on.load(Ordering::SeqCst) {
            return true;
        }
        // Only the task that reads the body adds to the number.
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

    /// Returns the refusal with which the listener must answer, if it cut the body off.
    pub fn failure(&self) -> Option<Refusal> {
        match self.failure.load(Ordering::SeqCst) {
            1 => Some(Refusal::Memory),
            2 => Some(Refusal::Stalled),
            _ => None,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.release(*self.bytes.get_mut());
    }
}

/// Sets the time limit for the body of a request, unless it has one. The listener answers with 408
/// when it expires.
pub fn limit_body_time<B>(request: Request<B>, limit: Duration) -> Request<B> {
    if let Some(held) = request.extensions().get::<Arc<Held>>() {
        held.deadline.get_or_init(|| Instant::now() + limit);
    }
    request
}

/// The reason why a request body could not be read completely.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The client or its connection failed.
    #[error(transparent)]
    Broken(#[from] hyper::Error),
    /// The [`Budget`] is exhausted.
    #[error("the request bodies use too much memory")]
    Memory,
    /// The body did not arrive in time.
    #[error("the request body did not arrive in time")]
    Stalled,
}

/// The body of a request, as the service receives it.
#[derive(Debug)]
pub struct RequestBody {
    body: Incoming,
    /// `None` for an empty body.
    held: Option<Arc<Held>>,
    limit: Duration,
    /// Created at the first read that must wait.
    timer: Option<Pin<Box<Sleep>>>,
    /// The time when the current wait for the client began; `None` if the service is not waiting.
    waiting: Option<Instant>,
    /// The duration of completed waits since the last progress.
    waited: Duration,
    /// Bytes that arrived since the last progress.
    arrived: usize,
}

impl RequestBody {
    pub const fn new(body: Incoming, held: Option<Arc<Held>>, limit: Duration) -> Self {
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
        // The timer runs only while the service waits for the client. While the client waits for
        // the service, this function is not called.
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

    /// Ends a wait, if there was one. Its duration counts until enough bytes have arrived.
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
