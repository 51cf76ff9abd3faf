//! What all services of one layer share.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::event::{self, Callback, EventKind, Subject};
use crate::queue::Queues;
use crate::random::{RandomUnavailable, SecureRandom};
use crate::running::Running;
use crate::store::{Key, Store};

/// How many commits may wait for the store in the background.
const BACKGROUND_COMMITS: usize = 4096;

pub(crate) struct Shared<St> {
    store: St,
    config: Config,
    clock: Arc<dyn Clock>,
    random: Arc<dyn SecureRandom>,
    on_event: Option<Callback>,
    queues: Queues,
    running: Running,
    background: Arc<Semaphore>,
}

impl<St> Shared<St> {
    pub(crate) fn new(
        store: St,
        config: Config,
        clock: Arc<dyn Clock>,
        random: Arc<dyn SecureRandom>,
        on_event: Option<Callback>,
    ) -> Self {
        Self {
            store,
            config,
            clock,
            random,
            on_event,
            queues: Queues::default(),
            running: Running::new(),
            background: Arc::new(Semaphore::new(BACKGROUND_COMMITS)),
        }
    }

    pub(crate) const fn store(&self) -> &St {
        &self.store
    }

    pub(crate) const fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) const fn queues(&self) -> &Queues {
        &self.queues
    }

    pub(crate) const fn running(&self) -> &Running {
        &self.running
    }

    #[cfg(feature = "tiered")]
    pub(crate) fn on_event(&self) -> Option<Callback> {
        self.on_event.clone()
    }

    #[cfg(feature = "tiered")]
    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
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

    /// The right to go on with one more commit in the background; none if there are too many.
    pub(crate) fn background(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.background).try_acquire_owned().ok()
    }

    /// Tells the log and the program of an event.
    pub(crate) fn tell(&self, kind: EventKind, subject: Subject<'_>, elapsed: Duration) {
        event::tell(self.on_event.as_ref(), "refresh token", kind, subject, elapsed);
    }
}

impl<St: Store> Shared<St> {
    /// Tells whoever remembers access tokens that what is under `key` has ended. If they cannot be told, they forget
    /// by themselves, a little later.
    pub(crate) async fn announce(&self, key: &Key) {
        if let Err(error) = self.store.announce(&[*key]).await {
            tracing::debug!(%error, grant = ?key, "an end could not be announced");
        }
    }
}

impl<St> fmt::Debug for Shared<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}
