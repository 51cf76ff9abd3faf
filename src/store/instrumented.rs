use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

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
        let span = span!("get", self.0);
        in_span(span, Box::pin(async move { self.0.get(key).await }))
    }

    fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
        sidecars: &[Sidecar],
    ) -> impl Future<Output = Result<Swap, StoreError>> + Send {
        let span = span!("swap", self.0);
        in_span(
            span,
            Box::pin(async move { self.0.swap(key, expected, change, sidecars).await }),
        )
    }

    fn sidecar(
        &self,
        key: &Key,
        name: &SidecarName,
    ) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send {
        let span = span!("sidecar", self.0);
        in_span(
            span,
            Box::pin(async move { self.0.sidecar(key, name).await }),
        )
    }

    fn claim(
        &self,
        key: &Key,
        tag: &ClaimTag,
        version: Version,
        lease: Duration,
    ) -> impl Future<Output = Result<Option<Claim>, StoreError>> + Send {
        let span = span!("claim", self.0);
        in_span(
            span,
            Box::pin(async move { self.0.claim(key, tag, version, lease).await }),
        )
    }

    fn peek(&self, key: &Key) -> Option<Hint> {
        catch_unwind(AssertUnwindSafe(|| self.0.peek(key))).unwrap_or_default()
    }

    fn announce(&self, ended: &[Key]) -> impl Future<Output = Result<(), StoreError>> + Send {
        let span = span!("announce", self.0);
        in_span(span, Box::pin(async move { self.0.announce(ended).await }))
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

/// Runs a call in its span, and returns an error if the store panics. The call is boxed, because
/// the future of a store is large, and several futures move it.
fn in_span<T>(
    span: Span,
    call: Pin<Box<impl Future<Output = Result<T, StoreError>>>>,
) -> impl Future<Output = Result<T, StoreError>> {
    let recorded = span.clone();
    // Unwind-safe, because a future that has panicked is never polled again.
    let caught = AssertUnwindSafe(call).catch_unwind().map(move |called| {
        let result = called.unwrap_or_else(|_| Err(StoreError::unavailable("the store panicked")));
        if let Err(error) = &result {
            recorded.record("otel.status_code", "ERROR");
            recorded.record("error.type", error.as_str());
        }
        result
    });
    caught.instrument(span)
}
