//! The [`Refresh`] middleware: decides for each request whether the layer intercepts it.
//!
//! Requests for guarded endpoints go to `endpoint`, probes of
//! [`RefreshLayer::check`](crate::RefreshLayer::check) are answered here, and all other requests
//! are passed to the inner service unchanged.

use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use tower::Service;

use crate::body::{RequestBody, ResponseBody};
use crate::endpoint::config::Target;
use crate::endpoint::progress::Progress;
use crate::endpoint::state::State;
use crate::endpoint::{self, Endpoint};
use crate::error::RefreshError;
use crate::refresh::check::{self, Probe};
use crate::refresh::future::ResponseFuture;
use crate::refresh::to_completion::ToCompletion;
use crate::store::Store;
use crate::wire::token_request::names_a_param;

const AMBIGUOUS: &str = "the path of the request can be read in more than one way";

const NOT_POST: &str = "a token request must use POST";

/// Middleware that binds refresh tokens to clients and rotates them.
///
/// Created by [`RefreshLayer`](crate::RefreshLayer). It intercepts POST requests to the token path,
/// the revocation path and, if one is set, the introspection path, and answers them with the help
/// of the inner service. The method is compared without case. The inner service gets such a request
/// as `POST` and under the configured path.
///
/// Some servers accept token requests with any method. At these paths, the layer therefore lets
/// GET, HEAD and OPTIONS requests pass only if they have no content and no parameter of a token
/// request in the query (400 `invalid_request`), and no other method (405).
///
/// All other requests pass unchanged, except that
/// [`match_normalized_paths`](crate::RefreshLayerBuilder::match_normalized_paths) rejects requests
/// with an ambiguous path. The service must run in a tokio runtime with time enabled.
pub struct Refresh<S, St> {
    inner: S,
    shared: Arc<State<St>>,
}

impl<S, St> Refresh<S, St> {
    pub(crate) fn new(inner: S, shared: Arc<State<St>>) -> Self {
        Self { inner, shared }
    }

    /// Gets a reference to the underlying service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Gets a mutable reference to the underlying service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Consumes `self`, returning the underlying service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S: Clone, St> Clone for Refresh<S, St> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            shared: Arc::clone(&self.shared),
        }
    }
}

redacted_debug!(self: <S: std::fmt::Debug, St> Refresh { inner, config: self.shared.config() });

impl<S, St, B, ResBody> Service<Request<B>> for Refresh<S, St>
where
    S: Service<Request<RequestBody<B>>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    St: Store,
    B: Body<Data = Bytes> + Send + 'static,
    ResBody: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, ResBody, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let endpoint = match self.route(&request) {
            Route::Intercept(endpoint) => endpoint,
            Route::Refuse(error) => {
                return ResponseFuture::answered(error.into_response(StatusCode::BAD_REQUEST));
            }
            Route::PassWithoutContent => {
                let request = request.map(|_| RequestBody::full(Bytes::new()));
                return ResponseFuture::pass_through(self.inner.call(request));
            }
            Route::Pass => {
                return ResponseFuture::pass_through(
                    self.inner.call(request.map(RequestBody::inner)),
                );
            }
        };
        if Probe::note(request.extensions(), self.shared.address(), endpoint) {
            return ResponseFuture::answered(check::answer());
        }
        // The instance that was polled ready may hold a permit of the inner service. This request
        // waits for locks and leases first, so it drops that instance, and polls a clone for
        // readiness right before the call.
        let inner = self.inner.clone();
        drop(mem::replace(&mut self.inner, inner.clone()));
        let progress = Arc::new(Progress::default());
        let outcome = endpoint::run(
            endpoint,
            Arc::clone(&self.shared),
            Arc::clone(&progress),
            inner,
            request,
        );
        ResponseFuture::intercepted(ToCompletion::new(
            Box::pin(outcome),
            progress,
            |handle, outcome| {
                handle.spawn(async move { drop(outcome.await) });
            },
        ))
    }
}

/// The way of a request.
enum Route {
    Intercept(Endpoint),
    Refuse(RefreshError),
    Pass,
    /// A request whose content may arrive although nothing announces it, as over HTTP/2.
    PassWithoutContent,
}

impl<S, St> Refresh<S, St> {
    fn route<B: Body>(&self, request: &Request<B>) -> Route {
        let paths = &self.shared.config().paths;
        let path = request.uri().path();
        // Methods are case-sensitive (RFC 9110 §9.1), but some servers ignore their case.
        if request.method().as_str().eq_ignore_ascii_case("POST") {
            return match paths.target(path) {
                Target::Endpoint(endpoint) => Route::Intercept(endpoint),
                Target::Refused => Route::Refuse(RefreshError::InvalidRequest(AMBIGUOUS)),
                Target::Other => Route::Pass,
            };
        }
        let target = paths.target_of_other_method(path);
        if target == Target::Other {
            return Route::Pass;
        }
        let is_safe = [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
        match target {
            _ if is_safe && may_be_token_request(request) => {
                Route::Refuse(RefreshError::InvalidRequest(NOT_POST))
            }
            _ if is_safe => Route::PassWithoutContent,
            Target::Refused => Route::Refuse(RefreshError::InvalidRequest(AMBIGUOUS)),
            Target::Endpoint(_) | Target::Other => Route::Refuse(RefreshError::MethodNotAllowed),
        }
    }
}

/// Returns whether a server that accepts token requests with any method may find one in this
/// request: it has a parameter in its query, or content.
fn may_be_token_request<B: Body>(request: &Request<B>) -> bool {
    let (headers, body) = (request.headers(), request.body());
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    request.uri().query().is_some_and(names_a_param)
        || headers.contains_key(TRANSFER_ENCODING)
        || lengths.any(|length| length != "0")
        || body.size_hint().lower() > 0
        // Not every body knows that it is empty, but content without a type is no form.
        || (headers.contains_key(CONTENT_TYPE) && !body.is_end_stream())
}
