//! The resources behind the proxy: requests for them need an access token of the layer, and reach the upstream with its
//! own.

use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use http_body_util::Either;
use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tower_oauth_refresh::access::{self, Access};
use tower_oauth_refresh::{AccessLayer, ResponseBody, Store};

use crate::prefix::Prefix;

/// Puts an [`AccessLayer`] in front of some paths.
pub(crate) struct Resources<St>(Option<Arc<Guard<St>>>);

struct Guard<St> {
    layer: AccessLayer<St>,
    prefixes: Vec<Prefix>,
}

impl<St> Resources<St> {
    /// There are none.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// Everything below these.
    pub(crate) fn below(prefixes: Vec<Prefix>, layer: AccessLayer<St>) -> Self {
        Self(Some(Arc::new(Guard { layer, prefixes })))
    }
}

impl<S, St> Layer<S> for Resources<St> {
    type Service = Guarded<S, St>;

    fn layer(&self, inner: S) -> Self::Service {
        Guarded { inner, guard: self.0.clone() }
    }
}

/// The upstream with its resources guarded.
pub(crate) struct Guarded<S, St> {
    inner: S,
    guard: Option<Arc<Guard<St>>>,
}

impl<S: Clone, St> Clone for Guarded<S, St> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), guard: self.guard.clone() }
    }
}

impl<S, St, B, ResBody> Service<Request<B>> for Guarded<S, St>
where
    S: Service<Request<B>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    St: Store,
    B: Send + 'static,
    ResBody: Send + 'static,
{
    type Response = Response<Either<ResBody, ResponseBody<ResBody>>>;
    type Error = S::Error;
    type Future = Answer<S::Future, ResBody, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let path = request.uri().path();
        match self.guard.as_ref().filter(|guard| guard.prefixes.iter().any(|prefix| prefix.covers(path))) {
            None => Answer::Open { answer: self.inner.call(request) },
            Some(guard) => {
                // The instance that was polled ready is the one to be called.
                let next = self.inner.clone();
                let mut access: Access<S, St> = guard.layer.layer(mem::replace(&mut self.inner, next));
                Answer::Guarded { answer: access.call(request) }
            }
        }
    }
}

pin_project! {
    /// The answer to one request.
    #[project = AnswerProj]
    pub(crate) enum Answer<F, B, E> {
        Open { #[pin] answer: F },
        Guarded { #[pin] answer: access::ResponseFuture<F, B, E> },
    }
}

impl<F, B, E> Future for Answer<F, B, E>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Either<B, ResponseBody<B>>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            AnswerProj::Open { answer } => {
                Poll::Ready(ready!(answer.poll(cx)).map(|response| response.map(Either::Left)))
            }
            AnswerProj::Guarded { answer } => {
                Poll::Ready(ready!(answer.poll(cx)).map(|response| response.map(Either::Right)))
            }
        }
    }
}
