//! The progress of an intercepted request, shared between the request and its response future.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant;

/// The state of an intercepted request: whether it must run to completion without its client.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    begun: AtomicBool,
    detached: AtomicBool,
    deadline: OnceLock<Instant>,
}

impl Progress {
    /// Makes the request run to completion from now on, even if its client disconnects.
    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Reverts [`begin`](Self::begin): the request has nothing in progress that could be lost, so
    /// it ends when its client disconnects.
    pub(crate) fn rest(&self) {
        self.begun.store(false, Ordering::Relaxed);
    }

    /// Sets the time at which the client gets an error if its request has begun work that is not
    /// complete. Without a deadline the client waits.
    pub(crate) fn set_deadline(&self, deadline: Instant) {
        let _ = self.deadline.set(deadline);
    }

    /// Returns whether the client has disconnected or got an error.
    pub(crate) fn detached(&self) -> bool {
        self.detached.load(Ordering::Relaxed)
    }

    /// Records that the client has disconnected or got an error.
    pub(crate) fn detach(&self) {
        self.detached.store(true, Ordering::Relaxed);
    }

    /// Returns whether the request must run to completion.
    pub(crate) fn begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Returns the deadline of a request that must run to completion.
    pub(crate) fn deadline_of_begun(&self) -> Option<Instant> {
        if !self.begun() {
            return None;
        }
        self.deadline.get().copied()
    }
}
