//! Request and response bodies.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    #[project = KindProj]
    enum Kind<B> {
        Inner { #[pin] body: B },
        Full { bytes: Option<Bytes> },
    }
}

impl<B: fmt::Debug> fmt::Debug for Kind<B> {
    /// What the layer wrote has a token in it: only its length is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inner { body } => f.debug_tuple("Inner").field(body).finish(),
            Self::Full { bytes } => f.debug_tuple("Full").field(&bytes.as_ref().map_or(0, Bytes::len)).finish(),
        }
    }
}

impl<B: Body<Data = Bytes>> Body for Kind<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project() {
            KindProj::Inner { body } => body.poll_frame(cx),
            KindProj::Full { bytes } => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Inner { body } => body.is_end_stream(),
            Self::Full { bytes } => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Inner { body } => body.size_hint(),
            Self::Full { bytes } => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
        }
    }
}

macro_rules! public_body {
    ($(#[$doc:meta])* $name:ident) => {
        pin_project! {
            $(#[$doc])*
            #[derive(Debug)]
            pub struct $name<B> {
                #[pin]
                kind: Kind<B>,
            }
        }

        impl<B> $name<B> {
            pub(crate) fn inner(body: B) -> Self {
                Self { kind: Kind::Inner { body } }
            }

            pub(crate) fn full(bytes: Bytes) -> Self {
                Self { kind: Kind::Full { bytes: Some(bytes).filter(|bytes| !bytes.is_empty()) } }
            }
        }

        impl<B> Default for $name<B> {
            /// An empty body.
            fn default() -> Self {
                Self { kind: Kind::Full { bytes: None } }
            }
        }

        impl<B: Body<Data = Bytes>> Body for $name<B> {
            type Data = Bytes;
            type Error = B::Error;

            fn poll_frame(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
                self.project().kind.poll_frame(cx)
            }

            fn is_end_stream(&self) -> bool {
                self.kind.is_end_stream()
            }

            fn size_hint(&self) -> SizeHint {
                self.kind.size_hint()
            }
        }
    };
}

public_body! {
    /// The request body that the inner service of [`Refresh`](crate::Refresh) gets: the original one, untouched, or the
    /// form that the layer wrote in its place.
    RequestBody
}
public_body! {
    /// The response body of [`Refresh`](crate::Refresh): that of the inner service, untouched, or one that the layer
    /// wrote.
    ResponseBody
}

/// Why a body could not be read to its end.
#[derive(Debug)]
pub(crate) enum ReadError {
    TooLarge,
    Broken,
}

/// Reads a body of at most `limit` bytes. Trailers are dropped; a body in one piece is not copied.
pub(crate) async fn read<B: Body<Data = Bytes>>(body: B, limit: usize) -> Result<Bytes, ReadError> {
    if body.size_hint().lower() > limit as u64 {
        return Err(ReadError::TooLarge);
    }
    let mut body = pin!(body);
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let Ok(data) = frame.map_err(|_| ReadError::Broken)?.into_data() else { continue };
        if first.len() + rest.len() + data.len() > limit {
            return Err(ReadError::TooLarge);
        }
        if first.is_empty() {
            first = data;
        } else {
            rest.extend_from_slice(&data);
        }
    }
    if rest.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(first.len() + rest.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&rest);
    Ok(whole.freeze())
}
