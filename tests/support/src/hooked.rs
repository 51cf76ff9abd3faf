//! A store whose calls a test can change or delay.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tower_oauth_refresh::Timestamp;
use tower_oauth_refresh::store::{
    Announcements, Change, Claim, ClaimTag, Entry, Hint, Key, Sidecar, SidecarName, Store,
    StoreError, Swap, Version,
};

/// A call of the store.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    Get,
    Sidecar,
    Claim,
    Swap {
        expected: Option<Version>,
        change: Change,
        sidecars: Vec<Sidecar>,
    },
    Announce,
}

impl Call {
    pub fn is_swap(&self) -> bool {
        matches!(self, Self::Swap { .. })
    }

    /// Returns whether this is the write that commits a rotation with its replay.
    pub fn is_commit(&self) -> bool {
        matches!(
            self,
            Self::Swap {
                expected: Some(_),
                sidecars,
                ..
            } if !sidecars.is_empty()
        )
    }
}

/// The fate of a call.
pub enum Plan {
    Pass,
    /// Fails as unavailable without having any effect.
    Lose,
    /// Takes effect, then fails as unavailable.
    LoseAnswer,
    /// Fails as corrupt.
    Corrupt,
    /// Waits for this future, then passes.
    After(Pin<Box<dyn Future<Output = ()> + Send>>),
    /// Is suspended once before it takes effect and once after.
    Slow,
    /// Takes effect, then waits for this future.
    Before(Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl Plan {
    pub fn after(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self::After(Box::pin(future))
    }

    pub fn before(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self::Before(Box::pin(future))
    }
}

type Hook = Box<dyn FnMut(&Key, &Call) -> Plan + Send>;

/// Returns the key of the entry that ends all grants of a client, or every grant, at once.
pub fn epochs_key() -> Key {
    use sha2::Digest as _;
    Key::new(sha2::Sha256::digest(b"tower-oauth-refresh v1 epochs").into())
}

/// Forwards to `inner` what the hook lets through. Reads of the epochs are neither hooked nor
/// logged unless [`hook_epochs`](Hooked::hook_epochs) was called: every instance makes one per
/// second, at the same time as another call. Clones share the hook and the log.
#[derive(Clone)]
pub struct Hooked<S> {
    pub inner: S,
    hook: Arc<Mutex<Option<Hook>>>,
    log: Arc<Mutex<Vec<(Key, Call)>>>,
    epochs: Arc<AtomicBool>,
}

impl<S: Store> Hooked<S> {
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            hook: Arc::default(),
            log: Arc::default(),
            epochs: Arc::default(),
        }
    }

    pub fn hook_epochs(&self) {
        self.epochs.store(true, Ordering::Relaxed);
    }

    pub fn hook(&self, hook: impl FnMut(&Key, &Call) -> Plan + Send + 'static) {
        *self.hook.lock().unwrap() = Some(Box::new(hook));
    }

    /// Applies the plan to the first call that fits, and passes the others.
    pub fn once(&self, fits: impl Fn(&Call) -> bool + Send + 'static, plan: Plan) {
        let mut plan = Some(plan);
        self.hook(move |_, call| {
            if fits(call) {
                plan.take().unwrap_or(Plan::Pass)
            } else {
                Plan::Pass
            }
        });
    }

    pub fn unhook(&self) {
        *self.hook.lock().unwrap() = None;
    }

    /// Returns the calls since the last call of this function.
    pub fn calls(&self) -> Vec<Call> {
        self.log
            .lock()
            .unwrap()
            .drain(..)
            .map(|(_, call)| call)
            .collect()
    }

    /// Returns the calls since the last call of this function, with their keys.
    pub fn writes(&self) -> Vec<(Key, Call)> {
        self.log.lock().unwrap().drain(..).collect()
    }

    fn plan(&self, key: &Key, call: Call) -> Plan {
        let plan = self
            .hook
            .lock()
            .unwrap()
            .as_mut()
            .map_or(Plan::Pass, |hook| hook(key, &call));
        self.log.lock().unwrap().push((*key, call));
        plan
    }

    async fn run<T>(
        plan: Plan,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match plan {
            Plan::Pass => call.await,
            Plan::Lose => Err(StoreError::unavailable("lost")),
            Plan::LoseAnswer => {
                let _ = call.await;
                Err(StoreError::unavailable("its reply lost"))
            }
            Plan::Corrupt => Err(StoreError::corrupt("damaged")),
            Plan::After(first) => {
                first.await;
                call.await
            }
            Plan::Slow => {
                tokio::task::yield_now().await;
                let result = call.await;
                tokio::task::yield_now().await;
                result
            }
            Plan::Before(then) => {
                let result = call.await;
                then.await;
                result
            }
        }
    }
}

impl<S: Store> Store for Hooked<S> {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        if *key == epochs_key() && !self.epochs.load(Ordering::Relaxed) {
            return self.inner.get(key).await;
        }
        Self::run(self.plan(key, Call::Get), self.inner.get(key)).await
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
        sidecars: &[Sidecar],
    ) -> Result<Swap, StoreError> {
        let plan = self.plan(
            key,
            Call::Swap {
                expected,
                change: change.clone(),
                sidecars: sidecars.to_vec(),
            },
        );
        Self::run(plan, self.inner.swap(key, expected, change, sidecars)).await
    }

    async fn sidecar(&self, key: &Key, name: &SidecarName) -> Result<Option<Bytes>, StoreError> {
        Self::run(self.plan(key, Call::Sidecar), self.inner.sidecar(key, name)).await
    }

    async fn claim(
        &self,
        key: &Key,
        tag: &ClaimTag,
        version: Version,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        Self::run(
            self.plan(key, Call::Claim),
            self.inner.claim(key, tag, version, lease),
        )
        .await
    }

    async fn announce(&self, ended: &[Key]) -> Result<(), StoreError> {
        for key in ended {
            Self::run(self.plan(key, Call::Announce), self.inner.announce(&[*key])).await?;
        }
        Ok(())
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

    fn system_name(&self) -> Option<&'static str> {
        Some("hooked")
    }
}
