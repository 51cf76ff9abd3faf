//! Forwards the body of a request to the upstream.

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, sleep_until};

use super::front_channel::BodyCheck;
use super::listener::Held;

type BoxError = Box<dyn StdError + Send + Sync>;

/// A request body that records its progress, and is checked while it streams if `check` is set.
#[derive(Debug)]
pub struct Upload<B> {
    body: B,
    progress: Arc<Progress>,
    check: Option<BodyCheck>,
    /// The counter for the bytes that the check holds back.
    held: Option<Arc<Held>>,
    trailers: Option<HeaderMap>,
}

impl<B: Body> Upload<B> {
    /// Creates an upload. `held` is the extension of the request; it is `None` if other code holds
    /// the body in memory and counts its bytes.
    pub fn new(body: B, check: Option<BodyCheck>, held: Option<Arc<Held>>) -> Self {
        if let Some(held) = &held {
            held.pass_on();
        }
        Self {
            body,
            progress: Arc::default(),
            check,
            held,
            trailers: None,
        }
    }

    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Upload<B>
where
    B::Error: Into<BoxError>,
{
    fn poll_checked(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            let frame = match self.trailers.take() {
                Some(trailers) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                None => ready!(Pin::new(&mut self.body).poll_frame(cx))
                    .transpose()
                    .map_err(Into::into)?,
            };
            let Some(check) = &mut self.check else {
                return Poll::Ready(frame.map(Ok));
            };
            let data = match frame.map(Frame::into_data) {
                Some(Ok(data)) => check.feed(&data)?,
                Some(Err(other)) => {
                    self.trailers = other.into_trailers().ok();
                    check.finish()?
                }
                None => {
                    let held = check.finish()?;
                    return Poll::Ready((!held.is_empty()).then(|| Ok(Frame::data(held))));
                }
            };
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
    }
}

impl<B: Body + Default> Default for Upload<B> {
    fn default() -> Self {
        Self::new(B::default(), None, None)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Upload<B>
where
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut frame = self.poll_checked(cx);
        if let (Some(check), Some(held)) = (&self.check, &self.held)
            && let Err(error) = held.keep(check.held())
        {
            frame = Poll::Ready(Some(Err(error.into())));
        }
        self.progress.record(frame.is_pending());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
            && self.trailers.is_none()
            && self.check.as_ref().is_none_or(|check| check.held() == 0)
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.check.as_ref().map_or(0, BodyCheck::held) as u64;
        let rest = self.body.size_hint();
        let mut hint = SizeHint::new();
        // The upper bound is set first, because the lower bound must not exceed it.
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint.set_lower(rest.lower().saturating_add(held));
        hint
    }
}

/// The progress of an upload: whether it waits for the client or for the upstream.
#[derive(Debug)]
pub struct Progress(Mutex<State>);

#[derive(Clone, Copy, Debug)]
enum State {
    /// The client has not sent the next part yet.
    WaitsForClient,
    /// The upstream has not polled for more since this time, when it received a part.
    WaitsForUpstream(Instant),
}

impl Default for Progress {
    fn default() -> Self {
        Self(Mutex::new(State::WaitsForUpstream(Instant::now())))
    }
}

impl Progress {
    fn record(&self, waits_for_client: bool) {
        let state = if waits_for_client {
            State::WaitsForClient
        } else {
            State::WaitsForUpstream(Instant::now())
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    fn last(&self) -> Instant {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            State::WaitsForClient => Instant::now(),
            State::WaitsForUpstream(since) => since,
        }
    }

    /// Completes when the upstream has made no progress for `limit`. Time spent waiting for the
    /// client does not count: the listener ends request bodies that stall.
    pub async fn stalled(&self, limit: Duration) {
        let mut since = self.last();
        while let Some(end) = since.checked_add(limit) {
            sleep_until(end).await;
            let last = self.last();
            if last <= since {
                return;
            }
            since = last;
        }
        std::future::pending().await
    }
}
