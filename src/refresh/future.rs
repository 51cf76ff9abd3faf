//! The response future of [`Refresh`](crate::Refresh).
//!
//! A request that passes through uses the future of the inner service directly. An intercepted
//! request runs in a boxed future. Once it has begun something that must be completed, such as the
//! call of the inner service in a rotation, it runs to completion: if the client disconnects or has
//! waited too long, the rest moves to a task of its own ([`ToCompletion`]).

use std::future::{self, Future};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Response, StatusCode};
use pin_project::pin_project;
use tokio::time::{Sleep, sleep_until};

use crate::body::ResponseBody;
use crate::error::RefreshError;
use crate::refresh::to_completion::ToCompletion;

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
    PassThrough(#[pin] F),
    Intercepted {
        outcome: ToCompletion<Result<Response<ResponseBody<B>>, E>>,
        deadline: Option<Pin<Box<Sleep>>>,
    },
}

impl<F, B, E> ResponseFuture<F, B, E> {
    pub(crate) fn pass_through(future: F) -> Self {
        Self {
            kind: Kind::PassThrough(future),
        }
    }

    /// Returns a future that resolves to this response immediately.
    pub(crate) fn answered(response: Response<ResponseBody<B>>) -> Self
    where
        B: Send + 'static,
        E: Send + 'static,
    {
        let outcome = Box::pin(future::ready(Ok(response)));
        Self::intercepted(ToCompletion::new(outcome, Arc::default(), |_, _| {}))
    }

    pub(crate) fn intercepted(outcome: ToCompletion<Result<Response<ResponseBody<B>>, E>>) -> Self {
        Self {
            kind: Kind::Intercepted {
                outcome,
                deadline: None,
            },
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
            KindProj::PassThrough(future) => Poll::Ready(
                ready!(future.poll(cx)).map(|response| response.map(ResponseBody::inner)),
            ),
            KindProj::Intercepted { outcome, deadline } => {
                if let Poll::Ready(result) = Pin::new(&mut *outcome).poll(cx) {
                    return Poll::Ready(result);
                }
                let Some(until) = outcome.progress.deadline_of_begun() else {
                    return Poll::Pending;
                };
                let deadline = deadline.get_or_insert_with(|| Box::pin(sleep_until(until)));
                ready!(deadline.as_mut().poll(cx));
                outcome.detach();
                Poll::Ready(Ok(RefreshError::Busy.into_response(StatusCode::BAD_REQUEST)))
            }
        }
    }
}

redacted_debug!(self: <F, B, E> ResponseFuture {
    intercepted: matches!(self.kind, Kind::Intercepted { .. }),
});
