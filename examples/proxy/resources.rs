//! The resources behind the proxy: requests for them need an access token of the layer, and reach the upstream with its
//! own.

use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, ORIGIN};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tower_oauth_refresh::access::{self, Access};
use tower_oauth_refresh::{AccessLayer, ConfigError, ResponseBody, Store};

use crate::answer;
use crate::rules::Rule;

/// Puts an [`AccessLayer`] in front of some paths.
pub(crate) struct Resources<St>(Option<Arc<Guard<St>>>);

struct Guard<St> {
    /// The innermost first.
    places: Vec<(Rule, AccessLayer<St>)>,
}

/// What a path is.
enum Place<'a, St> {
    Open,
    Guarded(&'a AccessLayer<St>),
    /// There are servers that take it for a resource of one rule, and servers that take it for one of another.
    Unclear,
}

impl<St: Store> Resources<St> {
    /// There are none.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// Everything below the prefixes of these rules, which share what `access` remembers.
    pub(crate) fn below(rules: Vec<Rule>, access: &AccessLayer<St>) -> Result<Self, ConfigError> {
        let place = |rule: Rule| {
            let mut layer = access.clone();
            for scope in &rule.scopes {
                layer = layer.and_scope(scope)?;
            }
            if let Some(resource) = &rule.resource {
                layer = layer.with_resource(resource)?;
            }
            if let Some(metadata) = &rule.metadata {
                layer = layer.with_resource_metadata(metadata)?;
            }
            Ok((rule, layer))
        };
        let places = rules.into_iter().map(place).collect::<Result<_, _>>()?;
        Ok(Self(Some(Arc::new(Guard { places }))))
    }
}

impl<St> Guard<St> {
    /// What the path is below. A path in an odd spelling may be below several: then a token must be good enough for
    /// whichever the upstream takes it for.
    fn place(&self, path: &str) -> Place<'_, St> {
        let mut below = self.places.iter().filter(|(rule, _)| rule.prefix.covers(path));
        let Some((rule, layer)) = below.next() else { return Place::Open };
        if below.all(|(other, _)| rule.includes(other)) {
            return Place::Guarded(layer);
        }
        let below = || self.places.iter().filter(|(rule, _)| rule.prefix.covers(path));
        let strictest = below().find(|(rule, _)| below().all(|(other, _)| rule.includes(other)));
        strictest.map_or(Place::Unclear, |(_, layer)| Place::Guarded(layer))
    }
}

/// Whether this is a preflight of CORS (Fetch §3.3.2), which a browser sends without credentials before it asks for
/// what needs some.
fn is_preflight<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    *request.method() == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
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
    type Response = Response<Body<ResBody>>;
    type Error = S::Error;
    type Future = Answer<S::Future, ResBody, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let place = self.guard.as_ref().map_or(Place::Open, |guard| guard.place(request.uri().path()));
        match place {
            Place::Open => Answer::Open { answer: self.inner.call(request) },
            Place::Guarded(_) | Place::Unclear if is_preflight(&request) => {
                request.headers_mut().remove(AUTHORIZATION);
                Answer::Open { answer: self.inner.call(request) }
            }
            Place::Guarded(layer) => {
                // The instance that was polled ready is the one to be called.
                let next = self.inner.clone();
                let mut access: Access<S, St> = layer.layer(mem::replace(&mut self.inner, next));
                Answer::Guarded { answer: access.call(request) }
            }
            Place::Unclear => Answer::Unclear,
        }
    }
}

/// The upstream's body, the same behind the layer, or the proxy's own.
pub(crate) type Body<B> = Either<B, Either<ResponseBody<B>, Full<Bytes>>>;

pin_project! {
    /// The answer to one request.
    #[project = AnswerProj]
    pub(crate) enum Answer<F, B, E> {
        Open { #[pin] answer: F },
        Guarded { #[pin] answer: access::ResponseFuture<F, B, E> },
        Unclear,
    }
}

impl<F, B, E> Future for Answer<F, B, E>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<Body<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            AnswerProj::Open { answer } => {
                Poll::Ready(ready!(answer.poll(cx)).map(|response| response.map(Either::Left)))
            }
            AnswerProj::Guarded { answer } => {
                Poll::Ready(ready!(answer.poll(cx)).map(|response| response.map(Either::Left).map(Either::Right)))
            }
            AnswerProj::Unclear => {
                let refused = answer::error(StatusCode::BAD_REQUEST, "the path could be that of several resources");
                Poll::Ready(Ok(refused.map(Either::Right).map(Either::Right)))
            }
        }
    }
}
