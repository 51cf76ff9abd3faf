//! The subscription of a cache to the announcements of the store.
//!
//! One task per cache applies announcements. It starts with the first request, because a layer may
//! be built before there is a runtime.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use crate::access_token::cache::Cache;
use crate::epochs::{self, Epochs};
use crate::store::{Announcement, Announcements, Store};

/// The subscription: a task that applies announcements to a cache. The task stops when this is
/// dropped.
#[derive(Debug, Default)]
pub(crate) struct Subscriber {
    /// Whether the task runs, or the store has no channel.
    subscribed: Arc<AtomicBool>,
    task: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl Subscriber {
    /// Starts the task if it is not running: at the first call inside a runtime, and again after
    /// that runtime was shut down.
    ///
    /// Must be called before a read from the store, because tokens that are read before the
    /// subscription begins are invalidated.
    pub(crate) fn ensure<St: Store>(&self, store: &St, cache: &Arc<Cache>, epochs: &Arc<Epochs>) {
        if self.subscribed.load(Ordering::Acquire) {
            return;
        }
        let Ok(handle) = Handle::try_current() else {
            return;
        };
        if self.subscribed.swap(true, Ordering::AcqRel) {
            return;
        }
        let Some(announcements) = store.announcements() else {
            return;
        };
        let subscription = Subscription {
            subscribed: Arc::clone(&self.subscribed),
            cache: Arc::clone(cache),
            epochs: Arc::clone(epochs),
            closed: false,
        };
        // Another request may have started a read before this one subscribed.
        subscription.forget();
        // Locked before the task starts: if it ends at once, the task of the next request must not
        // be replaced by this one.
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        let running = handle.spawn(subscription.run(announcements));
        *task = Some(AbortOnDropHandle::new(running));
    }
}

/// The running task. If its runtime is shut down, the next request starts it again.
struct Subscription {
    subscribed: Arc<AtomicBool>,
    cache: Arc<Cache>,
    epochs: Arc<Epochs>,
    /// Whether the store has closed its channel for good. From then on, tokens end only with the
    /// time to live of the cache.
    closed: bool,
}

impl Subscription {
    async fn run(mut self, mut announcements: Announcements) {
        while let Some(announcement) = announcements.next().await {
            match announcement {
                Announcement::Ended(key) if key != *epochs::key() => self.cache.end(key),
                Announcement::Ended(_) | Announcement::Lost => self.forget(),
            }
        }
        self.closed = true;
    }

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
        self.subscribed.store(self.closed, Ordering::Release);
        self.forget();
    }
}
