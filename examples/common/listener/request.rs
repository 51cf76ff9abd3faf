//! Bounds the memory and the time that request bodies take.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use super::refusal::Refusal;

/// The memory that all request bodies together may hold.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    held: AtomicUsize,
}

impl Budget {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { limit, held: AtomicUsize::new(0) }
    }

    fn take(&self, bytes: usize) -> bool {
        let sum = |held: usize| held.checked_add(bytes).filter(|held| *held <= self.limit);
        self.held.fetch_update(Ordering::SeqCst, Ordering::SeqCst, sum).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::SeqCst);
    }

    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }
}

/// The share of the [`Budget`] that one request body holds, and why the body failed.
///
/// The bytes count from their arrival until the request has a response, because a service that buffers a body holds it
/// until then.
#[derive(Debug)]
pub(crate) struct Held {
    budget: Arc<Budget>,
    /// The most that this request can hold.
    most: usize,
    bytes: AtomicUsize,
    failure: AtomicU8,
}

impl Held {
    pub(crate) const fn new(budget: Arc<Budget>, most: usize) -> Self {
        Self { budget, most, bytes: AtomicUsize::new(0), failure: AtomicU8::new(0) }
    }

    fn add(&self, bytes: usize) -> bool {
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
    /// Nothing of it arrived in time.
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
    waiting: bool,
}

impl RequestBody {
    pub(crate) const fn new(body: Incoming, held: Option<Arc<Held>>, limit: Duration) -> Self {
        Self { body, held, limit, timer: None, waiting: false }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.waiting = false;
            let Some(frame) = frame else { return Poll::Ready(None) };
            let frame = frame?;
            let arrived = frame.data_ref().map_or(0, Bytes::len);
            let fits = self.held.as_ref().is_none_or(|held| held.add(arrived));
            return Poll::Ready(Some(if fits { Ok(frame) } else { Err(BodyError::Memory) }));
        }
        // The time runs while the service waits for the client, not while the client waits for the service.
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.limit)));
        if !self.waiting {
            self.waiting = true;
            timer.as_mut().reset(Instant::now() + self.limit);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(BodyError::Stalled)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
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
