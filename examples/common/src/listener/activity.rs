//! Tracks which connections have an open request, and how long the others have been idle.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// The activity of one connection.
///
/// A connection is idle while it has no open request and no bytes wait to be written. A new
/// connection is idle: a request opens when its head is complete, and bytes before that do not end
/// the idle time.
#[derive(Debug)]
pub(crate) struct Activity {
    accepted: Instant,
    requests: AtomicUsize,
    writing: AtomicBool,
    /// The time when the connection was last busy, in milliseconds after `accepted`.
    busy_until: AtomicU64,
    evicted: Notify,
}

impl Activity {
    fn new() -> Self {
        Self {
            accepted: Instant::now(),
            requests: AtomicUsize::new(0),
            writing: AtomicBool::new(false),
            busy_until: AtomicU64::new(0),
            evicted: Notify::new(),
        }
    }

    /// Counts a request as open until the returned guard is dropped.
    pub(crate) fn open(self: &Arc<Self>) -> OpenRequest {
        self.requests.fetch_add(1, Ordering::SeqCst);
        OpenRequest(Arc::clone(self))
    }

    /// Sets whether bytes wait to be written.
    pub(crate) fn set_writing(&self, writing: bool) {
        self.touch();
        self.writing.store(writing, Ordering::SeqCst);
    }

    fn touch(&self) {
        let elapsed = self.accepted.elapsed().as_millis();
        self.busy_until
            .store(u64::try_from(elapsed).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Returns the time since which the connection has been idle; `None` if it is busy.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        if self.requests.load(Ordering::SeqCst) > 0 || self.writing.load(Ordering::SeqCst) {
            return None;
        }
        Some(self.accepted + Duration::from_millis(self.busy_until.load(Ordering::SeqCst)))
    }

    /// Waits until the connection has been idle for `time`. Idle time before `from` does not count.
    ///
    /// The timer fires only at the earliest possible time, so that requests need not wake this
    /// task.
    pub(crate) async fn idle_for(&self, time: Duration, from: Instant) {
        let mut end = from + time;
        loop {
            sleep_until(end).await;
            let idle_from = self.idle_since().map(|since| since.max(from));
            match idle_from {
                Some(since) if since + time <= Instant::now() => return,
                Some(since) => end = since + time,
                // Waits at least 100 ms, because with a `time` of zero the loop would spin.
                None => end = Instant::now() + time.max(Duration::from_millis(100)),
            }
        }
    }

    /// Waits until the connection is evicted to make room for another one.
    pub(crate) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

/// A guard for a request whose response is not finished.
#[derive(Debug)]
pub(crate) struct OpenRequest(Arc<Activity>);

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.touch();
        self.0.requests.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The connections of a listener.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    next: u64,
    connections: HashMap<u64, Arc<Activity>>,
}

impl Registry {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a connection, which is removed when the returned entry is dropped.
    pub(crate) fn add(&self) -> Entry {
        let activity = Arc::new(Activity::new());
        let mut entries = self.entries();
        let id = entries.next;
        entries.next += 1;
        entries.connections.insert(id, Arc::clone(&activity));
        Entry {
            registry: self.clone(),
            id,
            activity,
        }
    }

    /// Closes up to `most` idle connections, starting with the one that has been idle longest.
    /// Returns how many it closes.
    ///
    /// An honest client sends its request within a round trip, so its connection has been idle for
    /// only a short time. Therefore silent connections displace each other, not the clients that
    /// are served.
    pub(crate) fn evict(&self, most: usize) -> usize {
        let entries = self.entries();
        let idle = entries
            .connections
            .values()
            .filter_map(|activity| Some((activity.idle_since()?, activity)));
        let mut idle: Vec<_> = idle.collect();
        idle.sort_unstable_by_key(|(since, _)| *since);
        idle.truncate(most);
        for (_, activity) in &idle {
            activity.evicted.notify_one();
        }
        idle.len()
    }
}

/// A connection in a [`Registry`].
#[derive(Debug)]
pub(crate) struct Entry {
    registry: Registry,
    id: u64,
    pub activity: Arc<Activity>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.registry.entries().connections.remove(&self.id);
    }
}
