use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::{Clock as _, SystemClock, Timestamp};

/// An estimate of the time of the server, from the time that it puts into every reply.
///
/// The estimate is never ahead: when a reply arrives, the time in it has passed. So a deadline that
/// is computed with it is never later, by the clock of the server, than the moment at which the
/// client gives up.
pub(super) struct ServerTime {
    start: Instant,
    /// The time of the server minus the time since `start`, in milliseconds.
    offset: AtomicI64,
}

impl ServerTime {
    /// Creates an estimate that is the clock of this machine, until the first reply arrives.
    pub(super) fn new() -> Self {
        let now = i64::try_from(SystemClock.now().as_millis()).unwrap_or(i64::MAX);
        Self {
            start: Instant::now(),
            offset: AtomicI64::new(now),
        }
    }

    /// Takes in a reply with this time of the server, which has just arrived.
    pub(super) fn observe(&self, server: i64) {
        let offset = server.saturating_sub(self.since_start(Instant::now()));
        self.offset.store(offset, Ordering::Relaxed);
    }

    /// Returns the time of the server at `instant`, in milliseconds since the Unix epoch.
    pub(super) fn at(&self, instant: Instant) -> i64 {
        self.offset
            .load(Ordering::Relaxed)
            .saturating_add(self.since_start(instant))
    }

    pub(super) fn now(&self) -> Timestamp {
        Timestamp::from_millis(u64::try_from(self.at(Instant::now())).unwrap_or_default())
    }

    fn since_start(&self, instant: Instant) -> i64 {
        millis(instant.saturating_duration_since(self.start))
    }
}

/// Returns the duration in whole milliseconds.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn follows_the_clock_of_the_server() {
        let time = ServerTime::new();
        time.observe(5_000);
        tokio::time::advance(Duration::from_millis(300)).await;
        assert_eq!(time.now(), Timestamp::from_millis(5_300));
        // The clock of the server was set back.
        time.observe(1_000);
        let later = Instant::now() + Duration::from_secs(2);
        assert_eq!(time.at(later), 3_000);
    }
}
