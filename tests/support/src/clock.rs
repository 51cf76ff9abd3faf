//! A clock that tests set.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tower_oauth_refresh::{Clock, Timestamp};

/// A clock that stands still until it is moved. Clones are the same clock.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Times>);

/// Monotonic and wall clock time, in milliseconds.
#[derive(Debug)]
struct Times {
    wall: AtomicU64,
    monotonic: AtomicU64,
}

impl ManualClock {
    pub fn new() -> Self {
        Self(Arc::new(Times {
            wall: AtomicU64::new(1_800_000_000_000),
            monotonic: AtomicU64::new(0),
        }))
    }

    pub fn advance(&self, duration: Duration) {
        let millis = u64::try_from(duration.as_millis()).unwrap();
        self.0.monotonic.fetch_add(millis, Ordering::SeqCst);
        self.0.wall.fetch_add(millis, Ordering::SeqCst);
    }

    /// Sets the wall clock, as an administrator or NTP does, without time passing.
    pub fn set(&self, time: Timestamp) {
        self.0.wall.store(time.as_millis(), Ordering::SeqCst);
    }

    pub fn advance_secs(&self, seconds: u64) {
        self.advance(Duration::from_secs(seconds));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.wall.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.monotonic.load(Ordering::SeqCst))
    }
}
