//! The [`Refresh`] middleware: decides for each request whether the layer intercepts it.
//!
//! Requests for guarded endpoints go to `endpoint`, probes of
//! [`RefreshLayer::check`](crate::RefreshLayer::check) are answered here, and all other requests
//! are passed to the inner service unchanged.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower::Service;

use crate::body::{RequestBody, ResponseBody};
use crate::endpoint;
use crate::endpoint::config::Target;
use crate::endpoint::progress::Progress;
use crate::endpoint::state::State;
use crate::error::RefreshError;
use crate::refresh::check::{self, Probe};
use crate::refresh::future::{Intercepted, ResponseFuture};
use crate::store::Store;

const AMBIGUOUS: &str = "the path of the request can be read in more than one way";

/// Middleware that binds refresh tokens to clients and rotates them.
///
/// Created by [`RefreshLayer`](crate::RefreshLayer). It intercepts POST requests to the token path,
/// the revocation path and, if one is set, the introspection path, and answers them with the help
/// of the inner service. The method is compared without case. The inner service gets such a request
/// as `POST` and under the configured path. All other requests pass unchanged, except that
/// [`match_normalized_paths`](crate::RefreshLayerBuilder::match_normalized_paths) rejects POST
/// requests with an ambiguous path. The service must run in a tokio runtime with time enabled.
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

impl<S: fmt::Debug, St> fmt::Debug for Refresh<S, St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refresh")
            .field("inner", &self.inner)
            .field("config", self.shared.config())
            .finish()
    }
}

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
        let endpoint = match self.target(&request) {
            Target::Endpoint(endpoint) => endpoint,
            Target::Refused => {
                return ResponseFuture::refused(RefreshError::InvalidRequest(AMBIGUOUS));
            }
            Target::Other => {
                return ResponseFuture::pass_through(
                    self.inner.call(request.map(RequestBody::inner)),
                );
            }
        };
        if Probe::note(request.extensions(), self.shared.address(), endpoint) {
            let answer = std::future::ready(Ok(check::answer()));
            return ResponseFuture::intercepted(Intercepted::new(
                Box::pin(answer),
                Arc::default(),
                |_, _| {},
            ));
        }
        let Some(permit) = self.shared.request() else {
            return ResponseFuture::refused(RefreshError::Overloaded);
        };
        // The instance that was polled ready may hold a permit of the inner service. This request
        // waits for locks and leases first, so it drops that instance, and polls a clone for
        // readiness right before the call.
        let inner = self.inner.clone();
        drop(mem::replace(&mut self.inner, inner.clone()));
        let progress = Arc::new(Progress::default());
        let exchange = endpoint::run(
            endpoint,
            Arc::clone(&self.shared),
            Arc::clone(&progress),
            inner,
            request,
            permit,
        );
        ResponseFuture::intercepted(Intercepted::new(
            Box::pin(exchange),
            progress,
            |handle, exchange| {
                handle.spawn(async move { drop(exchange.await) });
            },
        ))
    }
}

impl<S, St> Refresh<S, St> {
    fn target<B>(&self, request: &Request<B>) -> Target {
        // Methods are case-sensitive (RFC 9110 §9.1), but some servers ignore their case.
        if !request.method().as_str().eq_ignore_ascii_case("POST") {
            return Target::Other;
        }
        self.shared.config().paths.target(request.uri().path())
    }
}
