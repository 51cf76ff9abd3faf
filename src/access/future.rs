//! The response future of [`Access`](crate::access::Access).

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use pin_project::pin_project;

use crate::access::body::AccessBody;
use crate::access::watch::Watch;
use crate::body::ResponseBody;

/// The boxed future of a request whose token is read from the store.
pub(crate) type Loading<B, E> =
    Pin<Box<dyn Future<Output = Result<Response<AccessBody<B>>, E>> + Send>>;

/// Response future of [`Access`](crate::access::Access).
#[must_use = "futures do nothing unless polled"]
#[pin_project]
pub struct ResponseFuture<F, B, E> {
    #[pin]
    kind: Kind<F, B, E>,
}

#[pin_project(project = KindProj)]
enum Kind<F, B, E> {
    Inner {
        #[pin]
        future: F,
        watch: Option<Box<Watch>>,
    },
    Preflight {
        #[pin]
        future: F,
    },
    Refused {
        response: Option<Response<AccessBody<B>>>,
    },
    Loading {
        loading: Loading<B, E>,
    },
}

impl<F, B, E> ResponseFuture<F, B, E> {
    pub(crate) fn inner(future: F, watch: Option<Box<Watch>>) -> Self {
        Self {
            kind: Kind::Inner { future, watch },
        }
    }

    /// The response has no content: browsers need only the headers, and a handler that does not
    /// distinguish methods answers with what it guards.
    pub(crate) fn preflight(future: F) -> Self {
        Self {
            kind: Kind::Preflight { future },
        }
    }

    pub(crate) fn refused(response: Response<AccessBody<B>>) -> Self {
        Self {
            kind: Kind::Refused {
                response: Some(response),
            },
        }
    }

    pub(crate) fn loading(loading: Loading<B, E>) -> Self {
        Self {
            kind: Kind::Loading { loading },
        }
    }
}

impl<F, B, E> Future for ResponseFuture<F, B, E>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<AccessBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProj::Inner { future, watch } => {
                let response = ready!(future.poll(cx));
                let watched = |body| AccessBody::new(ResponseBody::inner(body), watch.take());
                Poll::Ready(response.map(|response| response.map(watched)))
            }
            KindProj::Preflight { future } => {
                let response = ready!(future.poll(cx));
                Poll::Ready(response.map(|mut response| {
                    let headers = response.headers_mut();
                    for name in [
                        CONTENT_LENGTH,
                        CONTENT_TYPE,
                        CONTENT_ENCODING,
                        TRANSFER_ENCODING,
                    ] {
                        headers.remove(name);
                    }
                    response.map(|_| AccessBody::default())
                }))
            }
            KindProj::Refused { response } => match response.take() {
                Some(response) => Poll::Ready(Ok(response)),
                None => panic!("`ResponseFuture` polled after completion"),
            },
            KindProj::Loading { loading } => loading.as_mut().poll(cx),
        }
    }
}

redacted_debug!(self: <F, B, E> ResponseFuture {
    kind: match self.kind {
        Kind::Inner { .. } => "inner",
        Kind::Preflight { .. } => "preflight",
        Kind::Refused { .. } => "refused",
        Kind::Loading { .. } => "loading",
    },
});
