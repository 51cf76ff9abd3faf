//! Request and response bodies.
//!
//! [`RequestBody`] and [`ResponseBody`] are either the body that the layer was given, unchanged, or
//! bytes that the layer wrote. [`read`] collects a body up to a limit.

use std::future::poll_fn;
use std::mem;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;

#[pin_project(project = KindProj)]
enum Kind<B> {
    Inner {
        #[pin]
        body: B,
    },
    /// The bytes that are left.
    Full { bytes: Bytes },
}

impl<B: Body<Data = Bytes>> Body for Kind<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project() {
            KindProj::Inner { body } => body.poll_frame(cx),
            KindProj::Full { bytes } if bytes.is_empty() => Poll::Ready(None),
            KindProj::Full { bytes } => Poll::Ready(Some(Ok(Frame::data(mem::take(bytes))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Inner { body } => body.is_end_stream(),
            Self::Full { bytes } => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Inner { body } => body.size_hint(),
            Self::Full { bytes } => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}

macro_rules! public_body {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[pin_project]
        pub struct $name<B> {
            #[pin]
            kind: Kind<B>,
        }

        impl<B> $name<B> {
            pub(crate) fn inner(body: B) -> Self {
                Self { kind: Kind::Inner { body } }
            }

            pub(crate) fn full(bytes: Bytes) -> Self {
                Self { kind: Kind::Full { bytes } }
            }
        }

        // Omits the bytes, because they contain tokens.
        redacted_debug!(self: <B> $name {
            len: match &self.kind {
                Kind::Inner { .. } => None,
                Kind::Full { bytes } => Some(bytes.len()),
            }
        });

        impl<B> Default for $name<B> {
            /// Returns an empty body.
            fn default() -> Self {
                Self::full(Bytes::new())
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
    /// The request body that [`Refresh`](crate::Refresh) sends to the inner service: the original
    /// body, unchanged, or a form that the layer wrote.
    RequestBody
}
public_body! {
    /// The response body of [`Refresh`](crate::Refresh): the body of the inner service, unchanged,
    /// or one that the layer wrote.
    ResponseBody
}

/// The reason why a body could not be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    TooLarge,
    Broken,
}

/// Reads a body of at most `limit` bytes. Drops trailers. A body that arrives in one frame is not
/// copied.
///
/// While the body is incomplete, its frames are copied instead of kept: a frame of one byte may be
/// a slice of a read buffer of many KiB. The copy grows with the bytes that have arrived, not with
/// the announced length.
pub(crate) async fn read<B: Body<Data = Bytes>>(body: B, limit: usize) -> Result<Bytes, ReadError> {
    if body.size_hint().lower() > limit as u64 {
        return Err(ReadError::TooLarge);
    }
    let mut body = pin!(body);
    let mut only = Bytes::new();
    let mut copied = BytesMut::new();
    loop {
        let frame = poll_fn(|cx| {
            let frame = body.as_mut().poll_frame(cx);
            if frame.is_pending() {
                copied.extend_from_slice(&mem::take(&mut only));
            }
            frame
        });
        let Some(frame) = frame.await else { break };
        let Ok(data) = frame.map_err(|_| ReadError::Broken)?.into_data() else {
            continue;
        };
        if only.len() + copied.len() + data.len() > limit {
            return Err(ReadError::TooLarge);
        }
        if only.is_empty() && copied.is_empty() {
            only = data;
        } else {
            copied.extend_from_slice(&mem::take(&mut only));
            copied.extend_from_slice(&data);
        }
    }
    if copied.is_empty() {
        Ok(only)
    } else {
        Ok(copied.freeze())
    }
}
