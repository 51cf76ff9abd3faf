use bytes::Bytes;

use super::super::{Change, Entry, Key, Sidecar, SidecarName, Store, StoreError, Swap, Version};
use crate::clock::Timestamp;

/// A store that uses the default [`claim`](Store::claim) of the trait instead of its own. With it
/// the suite tests that `get` and `swap` are sufficient for the default.
#[derive(Clone, Debug)]
pub struct Provided<S>(S);

impl<S: Store> Provided<S> {
    /// Wraps `store` and hides its own `claim`.
    pub const fn new(store: S) -> Self {
        Self(store)
    }
}

impl<S: Store> Store for Provided<S> {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.0.get(key).await
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
        sidecars: &[Sidecar],
    ) -> Result<Swap, StoreError> {
        self.0.swap(key, expected, change, sidecars).await
    }

    async fn sidecar(&self, key: &Key, name: &SidecarName) -> Result<Option<Bytes>, StoreError> {
        self.0.sidecar(key, name).await
    }

    fn now(&self) -> Timestamp {
        self.0.now()
    }
}

/// Returns a factory for [`Provided`] stores.
pub fn provided<S: Store>(make: impl AsyncFn() -> S) -> impl AsyncFn() -> Provided<S> {
    async move || Provided::new(make().await)
}
