use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use pin_project::pin_project;

use super::{
    Announcements, Change, Claim, ClaimTag, Entry, Hint, Key, Sidecar, SidecarName, Store,
    StoreError, Swap, Version,
};
use crate::clock::Timestamp;

/// A store that turns the panics of another one into errors.
///
/// A panic that unwinds through a rotation would lose the response of the inner service and hold
/// the lease of the grant until it expires. Converted to [`StoreError::Unavailable`], it is handled
/// as any other failure: the lease is released, and a commit is retried in the background.
pub(crate) struct CatchPanics<St>(St);

impl<St> CatchPanics<St> {
    pub(crate) const fn new(store: St) -> Self {
        Self(store)
    }

    #[cfg(feature = "access")]
    pub(crate) const fn get_ref(&self) -> &St {
        &self.0
    }
}

impl<St: Store> Store for CatchPanics<St> {
    fn get(&self, key: &Key) -> impl Future<Output = Result<Option<Entry>, StoreError>> + Send {
        Caught::new(|| self.0.get(key))
    }

    fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
        sidecars: &[Sidecar],
    ) -> impl Future<Output = Result<Swap, StoreError>> + Send {
        Caught::new(|| self.0.swap(key, expected, change, sidecars))
    }

    fn sidecar(
        &self,
        key: &Key,
        name: &SidecarName,
    ) -> impl Future<Output = Result<Option<Bytes>, StoreError>> + Send {
        Caught::new(|| self.0.sidecar(key, name))
    }

    fn claim(
        &self,
        key: &Key,
        tag: &ClaimTag,
        version: Version,
        lease: Duration,
    ) -> impl Future<Output = Result<Option<Claim>, StoreError>> + Send {
        Caught::new(|| self.0.claim(key, tag, version, lease))
    }

    fn peek(&self, key: &Key) -> Option<Hint> {
        catch_unwind(AssertUnwindSafe(|| self.0.peek(key))).unwrap_or_default()
    }

    fn announce(&self, ended: &[Key]) -> impl Future<Output = Result<(), StoreError>> + Send {
        Caught::new(|| self.0.announce(ended))
    }

    fn announcements(&self) -> Option<Announcements> {
        self.0.announcements()
    }

    fn now(&self) -> Timestamp {
        self.0.now()
    }
}

/// A call that returns an error if it panics.
#[pin_project]
struct Caught<F> {
    // `None` if the store panicked before it returned a future.
    #[pin]
    call: Option<F>,
}

impl<F> Caught<F> {
    fn new(call: impl FnOnce() -> F) -> Self {
        Self {
            call: catch_unwind(AssertUnwindSafe(call)).ok(),
        }
    }
}

impl<T, F: Future<Output = Result<T, StoreError>>> Future for Caught<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Unwind-safe, because a future that has panicked is never polled again.
        let polled = self
            .project()
            .call
            .as_pin_mut()
            .and_then(|call| catch_unwind(AssertUnwindSafe(|| call.poll(cx))).ok());
        polled.unwrap_or_else(|| Poll::Ready(Err(StoreError::unavailable("the store panicked"))))
    }
}
