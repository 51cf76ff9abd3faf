//! The response future of [`Refresh`](crate::Refresh).
//!
//! A request that passes through uses the future of the inner service directly. An intercepted
//! request runs in a boxed future. Once it has begun something that must be completed, such as the
//! call of the inner service in a rotation, it runs to completion: if the client disconnects or has
//! waited too long, the rest moves to a task of its own. [`Progress`] is the state that the future
//! and the request share for this.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Response, StatusCode};
use pin_project::pin_project;
use tokio::runtime::Handle;
use tokio::time::Sleep;

use crate::body::ResponseBody;
use crate::endpoint::progress::Progress;
use crate::error::RefreshError;

/// The boxed future of an intercepted request.
pub(crate) type BoxedOutcome<B, E> =
    Pin<Box<dyn Future<Output = Result<Response<ResponseBody<B>>, E>> + Send>>;

/// Response future of [`Refresh`](crate::Refresh).
///
/// If it is dropped during a rotation, an adoption or a revocation, it moves the rest to a task
/// of the current tokio runtime, so that the response of the inner service reaches the store.
#[must_use = "futures do nothing unless polled"]
#[pin_project]
pub struct ResponseFuture<F, B, E> {
    #[pin]
    kind: Kind<F, B, E>,
}

#[pin_project(project = KindProj)]
enum Kind<F, B, E> {
    PassThrough {
        #[pin]
        future: F,
    },
    Intercepted {
        intercepted: Intercepted<B, E>,
    },
    // Boxed, so that the future of a request that passes through stays small.
    Refused {
        response: Option<Box<Response<ResponseBody<B>>>>,
    },
}

impl<F, B, E> ResponseFuture<F, B, E> {
    pub(crate) fn pass_through(future: F) -> Self {
        Self {
            kind: Kind::PassThrough { future },
        }
    }

    /// Returns a future that resolves to an error response immediately.
    pub(crate) fn refused(error: RefreshError) -> Self {
        Self {
            kind: Kind::Refused {
                response: Some(Box::new(error.into_response(StatusCode::BAD_REQUEST))),
            },
        }
    }

    pub(crate) fn intercepted(intercepted: Intercepted<B, E>) -> Self {
        Self {
            kind: Kind::Intercepted { intercepted },
        }
    }
}

impl<F, B, E> Future for ResponseFuture<F, B, E>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProj::PassThrough { future } => Poll::Ready(
                ready!(future.poll(cx)).map(|response| response.map(ResponseBody::inner)),
            ),
            KindProj::Intercepted { intercepted } => intercepted.poll(cx),
            KindProj::Refused { response } => match response.take() {
                Some(response) => Poll::Ready(Ok(*response)),
                None => panic!("`ResponseFuture` polled after completion"),
            },
        }
    }
}

impl<F, B, E> fmt::Debug for ResponseFuture<F, B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let intercepted = matches!(self.kind, Kind::Intercepted { .. });
        f.debug_struct("ResponseFuture")
            .field("intercepted", &intercepted)
            .finish_non_exhaustive()
    }
}

/// An intercepted request whose client is still connected.
pub(crate) struct Intercepted<B, E> {
    /// `None` while it is polled, so that nothing is detached after a panic, and after completion.
    outcome: Option<BoxedOutcome<B, E>>,
    progress: Arc<Progress>,
    /// Spawns the rest as a task. It is a function pointer because only the caller of `new` knows
    /// that the types are `Send + 'static`, and this type then needs no such bounds.
    detach: fn(&Handle, BoxedOutcome<B, E>),
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<B, E> Intercepted<B, E> {
    pub(crate) fn new(
        outcome: BoxedOutcome<B, E>,
        progress: Arc<Progress>,
        detach: fn(&Handle, BoxedOutcome<B, E>),
    ) -> Self {
        Self {
            outcome: Some(outcome),
            progress,
            detach,
            deadline: None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<ResponseBody<B>>, E>> {
        let Some(mut outcome) = self.outcome.take() else {
            panic!("`ResponseFuture` polled after completion");
        };
        if let Poll::Ready(result) = outcome.as_mut().poll(cx) {
            return Poll::Ready(result);
        }
        self.outcome = Some(outcome);
        let Some(deadline) = self.progress.deadline_of_begun() else {
            return Poll::Pending;
        };
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        ready!(deadline.as_mut().poll(cx));
        self.detach();
        Poll::Ready(Ok(RefreshError::Busy.into_response(StatusCode::BAD_REQUEST)))
    }

    fn detach(&mut self) {
        let Some(outcome) = self.outcome.take() else {
            return;
        };
        self.progress.detach();
        // Without a runtime the work stops here. Its lease then expires.
        if let Ok(handle) = Handle::try_current() {
            (self.detach)(&handle, outcome);
        }
    }
}

impl<B, E> Drop for Intercepted<B, E> {
    fn drop(&mut self) {
        if self.progress.begun() {
            self.detach();
        }
    }
}
