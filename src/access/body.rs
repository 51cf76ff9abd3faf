//! The response body of [`Access`](crate::access::Access), which can end before the body of the
//! inner service.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;

use crate::access::watch::Watch;
use crate::body::ResponseBody;

/// The reason why [`end_responses`](crate::AccessLayerBuilder::end_responses) ended a response
/// early. It is the error of the response body, which servers log for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseEnded {
    /// The access token was revoked, or its grant has ended.
    #[error("the grant of the access token has ended")]
    GrantEnded,
    /// The access token has expired.
    #[error("the access token has expired")]
    TokenExpired,
    /// The token could not be read again before its last read became too old, because the store
    /// failed.
    #[error("the store failed, so the access token could not be confirmed")]
    Unconfirmed,
}

/// The response body of [`Access`](crate::access::Access): the body of the inner service, or
/// one that the layer wrote.
///
/// With [`end_responses`](crate::AccessLayerBuilder::end_responses) it fails with
/// [`ResponseEnded`] when the access token or its grant ends.
#[pin_project]
pub struct AccessBody<B> {
    #[pin]
    body: ResponseBody<B>,
    watch: Option<Box<Watch>>,
    ended: bool,
}

impl<B> AccessBody<B> {
    pub(crate) fn new(body: ResponseBody<B>, watch: Option<Box<Watch>>) -> Self {
        Self {
            body,
            watch,
            ended: false,
        }
    }
}

impl<B> Body for AccessBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.project();
        if *this.ended {
            return Poll::Ready(None);
        }
        let Some(watch) = this.watch else {
            return this.body.poll_frame(cx).map_err(Into::into);
        };
        let mut verdict = watch.poll(cx);
        if verdict == Poll::Ready(Ok(())) {
            let frame = this.body.poll_frame(cx);
            if frame.is_ready() {
                return frame.map_err(Into::into);
            }
            verdict = watch.wait(cx);
        }
        let Poll::Ready(Err(ended)) = verdict else {
            return Poll::Pending;
        };
        tracing::debug!(reason = %ended, "a response was cut off");
        *this.watch = None;
        *this.ended = true;
        Poll::Ready(Some(Err(ended.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Default for AccessBody<B> {
    /// Returns an empty body.
    fn default() -> Self {
        Self::new(ResponseBody::default(), None)
    }
}

redacted_debug!(self: <B> AccessBody { body });
