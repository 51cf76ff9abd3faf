//! The state that all services of one layer share: store, settings, clock, locks, and the counter
//! of requests in progress.

use std::error::Error;
use std::sync::Arc;
#[cfg(feature = "access")]
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

#[cfg(feature = "access")]
use crate::access_token::cache::Cache;
use crate::clock::{Clock, Timestamp};
use crate::endpoint::config::Config;
use crate::endpoint::renewals::Renewals;
use crate::epochs::{self, Epochs};
use crate::event::{self, Callback, Detail, EventKind, EventSubject};
use crate::key_lock::KeyLock;
use crate::random::{RandomUnavailable, SecureRandom};
use crate::store::{InstrumentedStore, Key, Store, StoreError};
use crate::wire::client::ClientId;

/// The largest number of commits that are retried in the background at a time.
const BACKGROUND_COMMITS: usize = 4096;

/// The largest number of sessions that are listed or dropped in the background at a time. They have
/// a limit of their own, because a commit matters more.
const BACKGROUND_LISTS: usize = 1024;

/// The largest number of upstream tokens that wait for their revocation at a time. A user has at
/// most 1,000 sessions.
const BACKGROUND_REVOCATIONS: usize = 4096;

/// The largest number of revocations that the inner service gets at a time.
const REVOCATIONS_AT_ONCE: usize = 32;

pub(crate) struct State<St> {
    store: InstrumentedStore<St>,
    config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    random: Arc<dyn SecureRandom>,
    pub(crate) on_event: Option<Callback>,
    pub(crate) key_lock: KeyLock,
    /// The operations in progress, which a shutdown waits for.
    pub(crate) in_flight: TaskTracker,
    /// One for each intercepted request.
    pub(crate) requests: Permits,
    /// One for each commit that is retried in the background.
    pub(crate) commits: Permits,
    /// One for each session that is listed or dropped in the background.
    pub(crate) lists: Permits,
    /// One for each upstream token that waits for its revocation.
    pub(crate) revocations: Permits,
    /// The permits to send a revocation to the inner service.
    pub(crate) revoking: Semaphore,
    pub(crate) epochs: Arc<Epochs>,
    /// The renewals of upstream access tokens that are running.
    pub(crate) renewals: Renewals,
    /// The caches of the access layers that were made from this layer.
    #[cfg(feature = "access")]
    caches: Mutex<Vec<Weak<Cache>>>,
}

/// A limit of the operations of one kind that are in progress.
pub(crate) struct Permits(Arc<Semaphore>);

impl Permits {
    fn new(limit: usize) -> Self {
        Self(Arc::new(Semaphore::new(limit)))
    }

    /// Returns a permit for one more operation, or `None` if the limit is reached.
    pub(crate) fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

impl<St> State<St> {
    pub(crate) fn new(
        store: St,
        config: Config,
        clock: Arc<dyn Clock>,
        random: Arc<dyn SecureRandom>,
        on_event: Option<Callback>,
    ) -> Self {
        let max_in_flight = config.max_in_flight.min(Semaphore::MAX_PERMITS);
        Self {
            store: InstrumentedStore::new(store),
            requests: Permits::new(max_in_flight),
            config,
            clock,
            random,
            on_event,
            key_lock: KeyLock::default(),
            in_flight: TaskTracker::new(),
            epochs: Arc::default(),
            commits: Permits::new(BACKGROUND_COMMITS),
            lists: Permits::new(BACKGROUND_LISTS),
            renewals: Renewals::default(),
            revocations: Permits::new(BACKGROUND_REVOCATIONS),
            revoking: Semaphore::new(REVOCATIONS_AT_ONCE),
            #[cfg(feature = "access")]
            caches: Mutex::default(),
        }
    }

    /// Registers a cache, which [`announce`](Self::announce) then updates before it returns.
    #[cfg(feature = "access")]
    pub(crate) fn register(&self, cache: &Arc<Cache>) {
        let mut caches = self.caches.lock().unwrap_or_else(PoisonError::into_inner);
        caches.retain(|cache| cache.strong_count() > 0);
        caches.push(Arc::downgrade(cache));
    }

    pub(crate) const fn store(&self) -> &InstrumentedStore<St> {
        &self.store
    }

    pub(crate) const fn config(&self) -> &Config {
        &self.config
    }

    /// Returns a number that identifies this layer while it exists.
    pub(crate) fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomUnavailable> {
        self.random.fill(bytes)
    }

    pub(crate) fn random<const N: usize>(&self) -> Result<[u8; N], RandomUnavailable> {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Logs an event and passes it to the callback of the application.
    pub(crate) fn emit(&self, kind: EventKind, subject: EventSubject<'_>, elapsed: Duration) {
        self.emit_with_detail(kind, subject, elapsed, Detail::default());
    }

    /// Emits the event of a store that failed.
    pub(crate) fn emit_failure(
        &self,
        error: &StoreError,
        subject: EventSubject<'_>,
        elapsed: Duration,
    ) {
        let kind = EventKind::of_failure(error);
        self.emit_with_cause(kind, subject, elapsed, error.source());
    }

    /// Like [`emit`](Self::emit), with the cause of the event, which is only logged.
    pub(crate) fn emit_with_cause(
        &self,
        kind: EventKind,
        subject: EventSubject<'_>,
        elapsed: Duration,
        cause: Option<&(dyn Error + 'static)>,
    ) {
        let detail = Detail {
            cause,
            ..Detail::default()
        };
        self.emit_with_detail(kind, subject, elapsed, detail);
    }

    pub(crate) fn emit_with_detail(
        &self,
        kind: EventKind,
        subject: EventSubject<'_>,
        elapsed: Duration,
        detail: Detail<'_>,
    ) {
        event::emit(
            self.on_event.as_ref(),
            "refresh token",
            kind,
            subject,
            elapsed,
            detail,
        );
    }
}

impl<St: Store> State<St> {
    /// Ends every grant that has begun, or every grant of one client, and publishes that.
    pub(crate) async fn begin_epoch(
        self: Arc<Self>,
        client_id: Option<ClientId>,
    ) -> Result<(), StoreError> {
        let started = Instant::now();
        let _in_flight = self.in_flight.token();
        let client_id = client_id.as_ref();
        let subject = EventSubject::client(client_id);
        let begun = epochs::begin(&self.store, &*self.random, client_id, self.now()).await;
        self.epochs.forget();
        #[cfg(feature = "access")]
        self.caches(Cache::forget);
        if let Err(error) = begun {
            self.emit_failure(&error, subject, started.elapsed());
            return Err(error);
        }
        self.emit(EventKind::EndedByApplication, subject, started.elapsed());
        if let Err(error) = self.store.announce(&[*epochs::key()]).await {
            tracing::debug!(%error, "announcing an epoch failed, other instances notice it when they read the epochs again");
        }
        Ok(())
    }

    #[cfg(feature = "access")]
    fn caches(&self, update: impl Fn(&Cache)) {
        let caches = self.caches.lock().unwrap_or_else(PoisonError::into_inner);
        for cache in caches.iter().filter_map(Weak::upgrade) {
            update(&cache);
        }
    }

    /// Publishes that the entry under `key` has ended.
    ///
    /// Updates the caches of this layer first, without the channel of the store. The channel has a
    /// task of its own, and a client that has received its response must not be able to use the
    /// token again before that task has run. Other instances depend on the channel. If it fails,
    /// they accept the token until their cache entry expires.
    pub(crate) async fn announce(&self, key: &Key) {
        #[cfg(feature = "access")]
        self.caches(|cache| cache.end(*key));
        if let Err(error) = self.store.announce(&[*key]).await {
            tracing::debug!(%error, grant = ?key, "announcing an ended token or grant failed, other instances accept it until their cache entries expire");
        }
    }
}

redacted_debug!(self: <St> State { config });
