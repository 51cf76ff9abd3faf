//! Measures the calls of a store.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tower_oauth_refresh::Timestamp;
use tower_oauth_refresh::store::{
    Announcements, Change, Claim, ClaimTag, Entry, Hint, Key, Sidecar, SidecarName, Store,
    StoreError, Swap, Version,
};

use crate::metrics::{Metrics, StoreOp};

/// A store that records the duration and the errors of the calls of another store.
#[derive(Debug)]
pub struct Metered<S> {
    inner: S,
    metrics: Metrics,
}

impl<S> Metered<S> {
    pub const fn new(inner: S, metrics: Metrics) -> Self {
        Self { inner, metrics }
    }

    async fn measured<T>(
        &self,
        op: StoreOp,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        if !self.metrics.enabled() {
            return call.await;
        }
        let start = Instant::now();
        let result = call.await;
        self.metrics
            .store_call(op, start.elapsed(), result.is_err());
        result
    }
}

impl<S: Store> Store for Metered<S> {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.measured(StoreOp::Get, self.inner.get(key)).await
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
        sidecars: &[Sidecar],
    ) -> Result<Swap, StoreError> {
        self.measured(
            StoreOp::Swap,
            self.inner.swap(key, expected, change, sidecars),
        )
        .await
    }

    async fn sidecar(&self, key: &Key, name: &SidecarName) -> Result<Option<Bytes>, StoreError> {
        self.measured(StoreOp::Sidecar, self.inner.sidecar(key, name))
            .await
    }

    async fn claim(
        &self,
        key: &Key,
        tag: &ClaimTag,
        version: Version,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        self.measured(StoreOp::Claim, self.inner.claim(key, tag, version, lease))
            .await
    }

    async fn announce(&self, ended: &[Key]) -> Result<(), StoreError> {
        self.inner.announce(ended).await
    }

    fn announcements(&self) -> Option<Announcements> {
        self.inner.announcements()
    }

    fn peek(&self, key: &Key) -> Option<Hint> {
        self.inner.peek(key)
    }

    fn now(&self) -> Timestamp {
        self.inner.now()
    }
}
