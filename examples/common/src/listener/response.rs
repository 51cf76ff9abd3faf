//! Response bodies. A request is open until its response body is finished or dropped.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::activity::OpenRequest;
use super::sending::{Chunk, Sending};

/// The resources that a request holds until its response is finished or dropped.
#[derive(Debug)]
pub(crate) struct Holds {
    pub _open: OpenRequest,
    /// `None` if the request is refused.
    pub _in_flight: Option<OwnedSemaphorePermit>,
}

/// The body of a response, as the connection receives it.
#[pin_project]
pub(crate) struct ResponseBody<B> {
    #[pin]
    body: B,
    /// The end of the body, once the body has returned it.
    end: Option<End>,
    /// Completes when the body must end at a shutdown. `None` if it must not end early.
    ending: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    sending: Option<Arc<Sending>>,
    _holds: Holds,
}

/// The end of a body.
enum End {
    Trailers(Frame<Chunk>),
    Plain,
}

impl<B> ResponseBody<B> {
    /// Creates the body of a response. `sending` belongs to the HTTP/2 stream; it is `None` on
    /// HTTP/1.
    pub(crate) fn new(
        body: B,
        sending: Option<Arc<Sending>>,
        ending: Option<WaitForCancellationFutureOwned>,
        holds: Holds,
    ) -> Self {
        Self {
            body,
            end: None,
            ending: ending.map(Box::pin),
            sending,
            _holds: holds,
        }
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Chunk;
    type Error = B::Error;

    /// Holds the end of the body back until all data is sent. Otherwise the stream would count as
    /// finished while its last chunk, which may be large, waits for a window that never opens.
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, B::Error>>> {
        let this = self.project();
        if let Some(ending) = this.ending
            && this.end.is_none()
            && ending.as_mut().poll(cx).is_ready()
        {
            *this.end = Some(End::Plain);
        }
        if this.end.is_none() {
            let frame = match ready!(this.body.poll_frame(cx)).transpose() {
                Ok(frame) => frame
                    .map(|frame| frame.map_data(|bytes| Chunk::new(bytes, this.sending.as_ref()))),
                Err(error) => return Poll::Ready(Some(Err(error))),
            };
            match frame {
                Some(frame) if !frame.is_trailers() => return Poll::Ready(Some(Ok(frame))),
                Some(trailers) => *this.end = Some(End::Trailers(trailers)),
                None => *this.end = Some(End::Plain),
            }
        }
        if let Some(sending) = this.sending {
            ready!(sending.poll_drained(cx));
        }
        match this.end.replace(End::Plain) {
            Some(End::Trailers(trailers)) => Poll::Ready(Some(Ok(trailers))),
            _ => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
            && self
                .sending
                .as_ref()
                .is_none_or(|sending| sending.is_little())
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
