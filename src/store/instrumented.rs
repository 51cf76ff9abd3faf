use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use pin_project::pin_project;
use tracing::Span;
use tracing::field::Empty;

use super::{
    Announcements, Change, Claim, ClaimTag, Entry, Hint, Key, Sidecar, SidecarName, Store,
    StoreError, Swap, Version,
};
use crate::clock::Timestamp;

/// A store whose calls run in a span each, and return an error if they panic.
///
/// The spans follow the semantic conventions of OpenTelemetry for database clients. The operation
/// is that of the [`Store`], not the command of the database.
///
/// A panic that unwinds through a rotation would lose the response of the inner service and hold
/// the lease of the grant until it expires. Converted to [`StoreError::Unavailable`], it is handled
/// as any other failure: the lease is released, and a commit is retried in the background.
pub(crate) struct InstrumentedStore<St>(St);

/// Returns the span of one call.
macro_rules! span {
    ($operation:literal, $store:expr) => {
        tracing::debug_span!(
            $operation,
            // A span without a kind is internal.
            otel.kind = $store.system_name().map(|_| "client"),
            otel.status_code = Empty,
            db.system.name = $store.system_name(),
            db.operation.name = $operation,
            error.type = Empty,
        )
    };
}

impl<St> InstrumentedStore<St> {
    pub(crate) const fn new(store: St) -> Self {
        Self(store)
    }
}

impl<St: Store> Store for InstrumentedStore<St> {
    fn get(&self, key: &Key) -> impl Future<Output = Result<Option<Entry>, StoreError>> + Send {
        StoreCall::new(span!("get", self.0), || self.0.get(key))
    }

    fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
        sidecars: &[Sidecar],
    ) -> impl Future<Output = Result<Swap, StoreError>> + Send {
        StoreCall::new(span!("swap", self.0), || {
            self.0.swap(key, expected, change, sidecars)
        })
    }

    fn sidecar(
        &self,
        key: &Key,
        name: &SidecarName,
    ) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send {
        StoreCall::new(span!("sidecar", self.0), || self.0.sidecar(key, name))
    }

    fn claim(
        &self,
        key: &Key,
        tag: &ClaimTag,
        version: Version,
        lease: Duration,
    ) -> impl Future<Output = Result<Option<Claim>, StoreError>> + Send {
        StoreCall::new(span!("claim", self.0), || {
            self.0.claim(key, tag, version, lease)
        })
    }

    fn peek(&self, key: &Key) -> Option<Hint> {
        catch_unwind(AssertUnwindSafe(|| self.0.peek(key))).unwrap_or_default()
    }

    fn announce(&self, ended: &[Key]) -> impl Future<Output = Result<(), StoreError>> + Send {
        StoreCall::new(span!("announce", self.0), || self.0.announce(ended))
    }

    fn announcements(&self) -> Option<Announcements> {
        self.0.announcements()
    }

    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn system_name(&self) -> Option<&'static str> {
        self.0.system_name()
    }
}

/// A store call that runs in its span and returns an error if it panics.
#[pin_project]
struct StoreCall<F> {
    // `None` if the store panicked before it returned a future.
    #[pin]
    call: Option<F>,
    span: Span,
}

impl<F> StoreCall<F> {
    fn new(span: Span, call: impl FnOnce() -> F) -> Self {
        Self {
            call: span.in_scope(|| catch_unwind(AssertUnwindSafe(call)).ok()),
            span,
        }
    }
}

impl<T, F: Future<Output = Result<T, StoreError>>> Future for StoreCall<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let _entered = this.span.enter();
        // Unwind-safe, because a future that has panicked is never polled again.
        let polled = this
            .call
            .as_pin_mut()
            .and_then(|call| catch_unwind(AssertUnwindSafe(|| call.poll(cx))).ok());
        let polled = polled
            .unwrap_or_else(|| Poll::Ready(Err(StoreError::unavailable("the store panicked"))));
        if let Poll::Ready(Err(error)) = &polled {
            this.span.record("otel.status_code", "ERROR");
            this.span.record("error.type", error.as_str());
        }
        polled
    }
}
