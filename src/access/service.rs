//! The [`Access`] middleware.
//!
//! A request with a cached token goes directly to the inner service. For another token the store is
//! read first, in a boxed future.

use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response};
use tower::{Service, ServiceExt as _};

use crate::access::body::AccessBody;
use crate::access::challenge::AccessError;
use crate::access::future::ResponseFuture;
use crate::access::guard::{Guard, Lookup};
use crate::access::policy::{Place, ValidatedPolicy};
use crate::body::ResponseBody;
use crate::store::Store;

/// Middleware that accepts only requests with a valid access token of the layer.
///
/// Created by [`AccessLayer`](crate::AccessLayer). A request with a cached token goes directly to
/// the inner service. For another token the store is read first, which must happen in a tokio
/// runtime if the store needs one.
pub struct Access<S, St> {
    pub(super) inner: S,
    pub(super) guard: Arc<Guard<St>>,
    pub(super) policy: Arc<ValidatedPolicy>,
}

impl<S, St> Access<S, St> {
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

impl<S: Clone, St> Clone for Access<S, St> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            guard: Arc::clone(&self.guard),
            policy: Arc::clone(&self.policy),
        }
    }
}

redacted_debug!(self: <S: std::fmt::Debug, St> Access { inner, policy });

impl<S, St, B, ResBody> Service<Request<B>> for Access<S, St>
where
    S: Service<Request<B>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    St: Store,
    B: Send + 'static,
    ResBody: Send + 'static,
{
    type Response = Response<AccessBody<ResBody>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, ResBody, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let route = match self.policy.place(&mut request) {
            Ok(Place::Open) => return ResponseFuture::inner(self.inner.call(request), None),
            Ok(Place::Preflight) => return ResponseFuture::preflight(self.inner.call(request)),
            Ok(Place::Guarded(route)) => route,
            Err(error) => return ResponseFuture::refused(error.respond(None)),
        };
        let admitted = match self.guard.look(&request) {
            Ok(Lookup::Alive(parsed, valid)) => {
                let admitted = self.guard.admit(route, &mut request, &parsed, valid);
                admitted.inspect_err(|error| self.guard.report(error, &parsed, Duration::ZERO))
            }
            Ok(Lookup::Unknown(parsed)) => {
                // The instance that was polled ready may hold a permit of the inner service, and
                // the store may be slow. So drop it, and poll a clone for readiness right before
                // the call.
                let inner = self.inner.clone();
                drop(mem::replace(&mut self.inner, inner.clone()));
                let guard = Arc::clone(&self.guard);
                let route = Arc::clone(route);
                return ResponseFuture::loading(Box::pin(async move {
                    let started = Instant::now();
                    let loaded = guard.load(&parsed).await;
                    let admitted = loaded
                        .and_then(|valid| guard.admit(&route, &mut request, &parsed, valid))
                        .inspect_err(|error| guard.report(error, &parsed, started.elapsed()));
                    drop(guard);
                    drop(parsed);
                    let watch = match admitted {
                        Ok(watch) => watch,
                        Err(error) => return Ok(route.refuse(error)),
                    };
                    let response = inner.oneshot(request).await?;
                    Ok(response.map(|body| AccessBody::new(ResponseBody::inner(body), watch)))
                }));
            }
            Err(AccessError::TokenMissing) if self.policy.allows_anonymous() => {
                #[cfg(feature = "axum")]
                route.mark_anonymous(&mut request);
                Ok(None)
            }
            Err(error) => Err(error),
        };
        match admitted {
            Ok(watch) => ResponseFuture::inner(self.inner.call(request), watch),
            Err(error) => ResponseFuture::refused(route.refuse(error)),
        }
    }
}
