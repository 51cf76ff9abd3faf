//! What all services of one layer share.

use std::fmt;
use std::sync::Arc;

use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::event::Event;
use crate::queue::Queues;
use crate::random::{RandomUnavailable, SecureRandom};
use crate::running::Running;

pub(crate) type Callback = Arc<dyn Fn(&Event) + Send + Sync>;

pub(crate) struct Shared<St> {
    store: St,
    config: Config,
    clock: Arc<dyn Clock>,
    random: Arc<dyn SecureRandom>,
    on_event: Option<Callback>,
    queues: Queues,
    running: Running,
}

impl<St> Shared<St> {
    pub(crate) fn new(
        store: St,
        config: Config,
        clock: Arc<dyn Clock>,
        random: Arc<dyn SecureRandom>,
        on_event: Option<Callback>,
    ) -> Self {
        Self { store, config, clock, random, on_event, queues: Queues::default(), running: Running::new() }
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

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn random<const N: usize>(&self) -> Result<[u8; N], RandomUnavailable> {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Tells the log and the program of `event`.
    pub(crate) fn emit(&self, event: &Event) {
        if event.kind.is_warning() {
            tracing::warn!(kind = %event.kind, client_id = event.client_id.as_ref().map(tracing::field::display), grant = event.grant.as_ref().map(tracing::field::display), generation = event.generation, "grant");
        } else {
            tracing::debug!(kind = %event.kind, client_id = event.client_id.as_ref().map(tracing::field::display), grant = event.grant.as_ref().map(tracing::field::display), generation = event.generation, "grant");
        }
        if let Some(callback) = &self.on_event {
            callback(event);
        }
    }
}

impl<St> fmt::Debug for Shared<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}
