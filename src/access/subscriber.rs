//! The subscription of a cache to the announcements of the store.
//!
//! One task per cache applies announcements. It starts with the first request, because a layer may
//! be built before there is a runtime.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use crate::access_token::cache::Cache;
use crate::epochs::{self, Epochs};
use crate::store::{Announcement, Announcements, Store};

const IDLE: u8 = 0;
const LISTENING: u8 = 1;
/// The store has no channel.
const NO_CHANNEL: u8 = 2;

/// The subscription: a task that applies announcements to a cache. The task stops when this is
/// dropped.
#[derive(Debug, Default)]
pub(crate) struct Subscriber {
    state: Arc<AtomicU8>,
    task: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl Subscriber {
    /// Starts the task if it is not running: at the first call inside a runtime, and again after
    /// that runtime was shut down.
    ///
    /// Must be called before a read from the store, because tokens that are read before the
    /// subscription begins are invalidated.
    pub(crate) fn ensure<St: Store>(&self, store: &St, cache: &Arc<Cache>, epochs: &Arc<Epochs>) {
        if self.state.load(Ordering::Acquire) != IDLE {
            return;
        }
        let Ok(handle) = Handle::try_current() else {
            return;
        };
        if self
            .state
            .compare_exchange(IDLE, LISTENING, Ordering::AcqRel, Ordering::Acquire)
            .is_err()
        {
            return;
        }
        let Some(announcements) = store.announcements() else {
            self.state.store(NO_CHANNEL, Ordering::Release);
            return;
        };
        // Another request may have started a read before this one subscribed.
        epochs.forget();
        cache.forget();
        let subscription = Subscription {
            state: Arc::clone(&self.state),
            cache: Arc::clone(cache),
            epochs: Arc::clone(epochs),
            after: IDLE,
        };
        // Locked before the task starts: if it ends at once, the task of the next request must not
        // be replaced by this one.
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        let running = handle.spawn(subscription.run(announcements));
        *task = Some(AbortOnDropHandle::new(running));
    }
}

/// The running task. If its runtime is shut down, the next request starts it again.
struct Subscription {
    state: Arc<AtomicU8>,
    cache: Arc<Cache>,
    epochs: Arc<Epochs>,
    after: u8,
}

impl Subscription {
    async fn run(mut self, mut announcements: Announcements) {
        while let Some(announcement) = announcements.next().await {
            match announcement {
                Announcement::Ended(key) if key != *epochs::key() => self.cache.end(key),
                Announcement::Ended(_) | Announcement::Lost => self.forget(),
            }
        }
        // The store has closed its channel for good. From now on tokens end only with the time to
        // live of the cache.
        self.after = NO_CHANNEL;
    }
}

impl Subscription {
    /// Invalidates what was read. The epochs come first, because a token that is read after the
    /// second step counts as valid.
    fn forget(&self) {
        self.epochs.forget();
        self.cache.forget();
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // The order matters: a read that starts in between either has a new subscription, or is
        // invalidated here.
        self.state.store(self.after, Ordering::Release);
        self.forget();
    }
}
