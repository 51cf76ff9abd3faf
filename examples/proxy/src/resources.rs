//! Guarded resources of the upstream: requests for them need an access token of the layer, which is
//! replaced with the upstream's access token.

use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, ORIGIN};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{Either, Full};
use pin_project::pin_project;
use tower::{Layer, Service};
use tower_oauth_refresh::access::{self, Access, AccessBody};
use tower_oauth_refresh::path::{PathMatch, PathPrefix, PathRules, replace_path};
use tower_oauth_refresh::{AccessLayer, ConfigError, Store};

use crate::answer;
use crate::rules::Rule;

const AMBIGUOUS: &str = "the path of the request can be read in more than one way";

/// A layer that puts an [`AccessLayer`] in front of some paths.
pub(crate) struct Resources<St>(Option<Arc<Guard<St>>>);

struct Guard<St> {
    rules: PathRules,
    /// One layer for each guarded prefix.
    layers: Vec<AccessLayer<St>>,
}

/// The result of matching the path of a request.
enum Place<'a, St> {
    Open,
    Guarded {
        layer: &'a AccessLayer<St>,
        /// The URI for the upstream, in the configured spelling of the prefix.
        uri: Uri,
    },
    /// Servers could resolve the path to different resources, or to a resource although it is not
    /// one.
    Refused,
}

impl<St: Store> Resources<St> {
    /// Creates a layer that guards no path.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// Creates a layer that guards all paths at and below the prefixes of these rules. The layers
    /// of all prefixes share the cache of `access`. Requests with an ambiguous path are forwarded
    /// only below the prefixes in `allowed`.
    pub(crate) fn below(
        rules: Vec<Rule>,
        allowed: &[PathPrefix],
        access: &AccessLayer<St>,
    ) -> Result<Self, ConfigError> {
        let prefixes: Vec<_> = rules.iter().map(|rule| rule.prefix.clone()).collect();
        let layer = |rule: Rule| {
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
            Ok(layer)
        };
        let layers = rules.into_iter().map(layer).collect::<Result<_, _>>()?;
        let rules = PathRules::new(prefixes, allowed.iter().cloned());
        Ok(Self(Some(Arc::new(Guard { rules, layers }))))
    }
}

impl<St> Guard<St> {
    fn place<B>(&self, request: &Request<B>) -> Place<'_, St> {
        let path = request.uri().path();
        // The request concerns the server as a whole (RFC 9110 §9.3.7).
        if *request.method() == Method::OPTIONS && path == "*" {
            return Place::Open;
        }
        let index = match self.rules.find(path) {
            PathMatch::Open => return Place::Open,
            PathMatch::Guarded(index) => index,
            _ => return Place::Refused,
        };
        let canonical = self.rules.canonical(index, path);
        let uri = canonical.and_then(|path| replace_path(request.uri().clone(), &path).ok());
        match (self.layers.get(index), uri) {
            (Some(layer), Some(uri)) => Place::Guarded { layer, uri },
            _ => Place::Refused,
        }
    }
}

/// Returns whether this is a CORS preflight (Fetch §3.3.2), which a browser sends without
/// credentials before a request with credentials.
fn is_preflight<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    *request.method() == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

impl<S, St> Layer<S> for Resources<St> {
    type Service = Guarded<S, St>;

    fn layer(&self, inner: S) -> Self::Service {
        Guarded {
            inner,
            guard: self.0.clone(),
        }
    }
}

/// The inner service with its resources guarded.
pub(crate) struct Guarded<S, St> {
    inner: S,
    guard: Option<Arc<Guard<St>>>,
}

impl<S: Clone, St> Clone for Guarded<S, St> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            guard: self.guard.clone(),
        }
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
        let place = self
            .guard
            .as_ref()
            .map_or(Place::Open, |guard| guard.place(&request));
        match place {
            Place::Open => Answer::Open {
                answer: self.inner.call(request),
            },
            Place::Guarded { uri, .. } if is_preflight(&request) => {
                *request.uri_mut() = uri;
                request.headers_mut().remove(AUTHORIZATION);
                Answer::Open {
                    answer: self.inner.call(request),
                }
            }
            Place::Guarded { layer, uri } => {
                *request.uri_mut() = uri;
                // Calls the instance that was polled ready, and keeps the clone.
                let next = self.inner.clone();
                let mut access: Access<S, St> = layer.layer(mem::replace(&mut self.inner, next));
                Answer::Guarded {
                    answer: access.call(request),
                }
            }
            Place::Refused => Answer::Refused,
        }
    }
}

/// The upstream's body, the upstream's body behind the access layer, or the proxy's own body.
pub(crate) type Body<B> = Either<B, Either<AccessBody<B>, Full<Bytes>>>;

/// The future of a response.
#[pin_project(project = AnswerProj)]
pub(crate) enum Answer<F, B, E> {
    Open {
        #[pin]
        answer: F,
    },
    Guarded {
        #[pin]
        answer: access::ResponseFuture<F, B, E>,
    },
    Refused,
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
            AnswerProj::Guarded { answer } => Poll::Ready(
                ready!(answer.poll(cx))
                    .map(|response| response.map(Either::Left).map(Either::Right)),
            ),
            AnswerProj::Refused => {
                let refused = answer::error(StatusCode::BAD_REQUEST, AMBIGUOUS);
                Poll::Ready(Ok(refused.map(Either::Right).map(Either::Right)))
            }
        }
    }
}
