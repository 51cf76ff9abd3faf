//! The response future of [`Access`](crate::access::Access).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
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
            KindProj::Refused { response } => match response.take() {
                Some(response) => Poll::Ready(Ok(response)),
                None => panic!("`ResponseFuture` polled after completion"),
            },
            KindProj::Loading { loading } => loading.as_mut().poll(cx),
        }
    }
}

impl<F, B, E> fmt::Debug for ResponseFuture<F, B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Inner { .. } => "inner",
            Kind::Refused { .. } => "refused",
            Kind::Loading { .. } => "loading",
        };
        f.debug_struct("ResponseFuture")
            .field("kind", &kind)
            .finish_non_exhaustive()
    }
}
