use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Handles, Metrics, StoreCallHandles};
use crate::clock::Timestamp;
use crate::store::{
    Announcements, Change, Claim, ClaimTag, Entry, Hint, Key, Sidecar, SidecarName, Store,
    StoreError, Swap, Version,
};

/// A [`Store`] that records the duration and the errors of the calls of another store.
///
/// [`Metrics::store`] creates it. A call that is cancelled is not recorded. Without a cache in
/// front of the store, every lookup is a miss.
#[derive(Clone, Debug)]
pub struct MeteredStore<S> {
    pub(super) inner: S,
    pub(super) metrics: Metrics,
}

impl<S> MeteredStore<S> {
    /// Returns the store whose calls are measured.
    #[must_use]
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns the store whose calls were measured.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }
}

async fn measured<T>(
    handles: &StoreCallHandles,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let start = Instant::now();
    let result = call.await;
    handles.duration.record(start.elapsed());
    if result.is_err() {
        handles.errors.increment(1);
    }
    result
}

impl<S: Store> Store for MeteredStore<S> {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        measured(&self.metrics.0.get, self.inner.get(key)).await
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
        sidecars: &[Sidecar],
    ) -> Result<Swap, StoreError> {
        let call = self.inner.swap(key, expected, change, sidecars);
        measured(&self.metrics.0.swap, call).await
    }

    async fn sidecar(&self, key: &Key, name: &SidecarName) -> Result<Option<Bytes>, StoreError> {
        let call = self.inner.sidecar(key, name);
        measured(&self.metrics.0.sidecar, call).await
    }

    async fn claim(
        &self,
        key: &Key,
        tag: &ClaimTag,
        version: Version,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        let call = self.inner.claim(key, tag, version, lease);
        measured(&self.metrics.0.claim, call).await
    }

    fn peek(&self, key: &Key) -> Option<Hint> {
        let hint = self.inner.peek(key);
        let Handles { hits, misses, .. } = &*self.metrics.0;
        if hint.is_some() { hits } else { misses }.increment(1);
        hint
    }

    async fn announce(&self, ended: &[Key]) -> Result<(), StoreError> {
        let call = self.inner.announce(ended);
        measured(&self.metrics.0.announce, call).await
    }

    fn announcements(&self) -> Option<Announcements> {
        self.inner.announcements()
    }

    fn now(&self) -> Timestamp {
        self.inner.now()
    }

    fn system_name(&self) -> Option<&'static str> {
        self.inner.system_name()
    }
}
