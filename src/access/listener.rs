use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::cache::Cache;
use crate::store::{Announcement, Announcements, Store};

const IDLE: u8 = 0;
const LISTENING: u8 = 1;
/// The store has no channel.
const DEAF: u8 = 2;

/// The one task of a cache that hears of what ends. It ends when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Listener {
    state: Arc<AtomicU8>,
    task: Mutex<Option<AbortHandle>>,
}

impl Listener {
    /// Begins to listen, if nobody does: when first called inside a runtime, and again when that
    /// one was shut down.
    ///
    /// To be called before a load: what is read before anybody listens is not remembered.
    pub(crate) fn ensure<St: Store>(&self, store: &St, cache: &Arc<Cache>) {
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
            self.state.store(DEAF, Ordering::Release);
            return;
        };
        // Another request may have begun to read when this one had not yet subscribed.
        cache.forget();
        let hearing = Hearing {
            state: Arc::clone(&self.state),
            cache: Arc::clone(cache),
            after: IDLE,
        };
        let task = handle.spawn(hearing.run(announcements)).abort_handle();
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

/// The task while it runs. When its runtime is shut down under it, the next request begins anew.
struct Hearing {
    state: Arc<AtomicU8>,
    cache: Arc<Cache>,
    after: u8,
}

impl Hearing {
    async fn run(mut self, mut announcements: Announcements) {
        while let Some(announcement) = announcements.next().await {
            match announcement {
                Announcement::Ended(key) => self.cache.end(key),
                Announcement::Lost => self.cache.forget(),
            }
        }
        // The store has closed its channel, for good: from here on the time to live is all there
        // is.
        self.after = DEAF;
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        // In this order: what is loaded in between begins after somebody listens again, or is
        // forgotten.
        self.state.store(self.after, Ordering::Release);
        self.cache.forget();
    }
}
