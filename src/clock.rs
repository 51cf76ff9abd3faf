//! The clock of the crate.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point in time, in milliseconds since the Unix epoch. It is the only unit of wall-clock time in
/// this crate.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

/// 1 January 2026. A clock that shows an earlier time has not been set.
pub(crate) const EARLIEST: Timestamp = Timestamp::from_millis(1_767_225_600_000);

/// The longest duration that the layer accepts as a setting, or computes with. Longer lifetimes of
/// tokens and of stored entries are reduced to it.
pub(crate) const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

impl Timestamp {
    /// Returns the time `millis` milliseconds after the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Returns the milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Returns this time plus `duration`, rounded down to whole milliseconds. Saturates at the
    /// latest `Timestamp`.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// Returns the time from `earlier` to this time, or zero if `earlier` is later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl From<SystemTime> for Timestamp {
    /// Converts the time. A time before 1970 becomes the Unix epoch.
    fn from(time: SystemTime) -> Self {
        Self::default().saturating_add(time.duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

impl From<Timestamp> for SystemTime {
    /// Converts the time. A time that the operating system cannot represent (on Windows, after the
    /// year 30828) becomes the latest one that it can.
    fn from(time: Timestamp) -> Self {
        saturating_add(UNIX_EPOCH, time.0)
    }
}

/// Returns `time` plus `millis`, or the latest time that can be represented and is a whole number
/// of milliseconds after `time`.
fn saturating_add(time: SystemTime, millis: u64) -> SystemTime {
    let bits = || {
        (0..u64::BITS)
            .rev()
            .map(|bit| Duration::from_millis(1 << bit))
    };
    let sum = time.checked_add(Duration::from_millis(millis));
    sum.unwrap_or_else(|| bits().fold(time, |time, bit| time.checked_add(bit).unwrap_or(time)))
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

/// The source of the current time.
///
/// All lifetimes and windows are measured with it. The default is [`SystemClock`]. A test moves the
/// time with a [`ManualClock`], set with
/// [`RefreshLayerBuilder::clock`](crate::RefreshLayerBuilder::clock).
pub trait Clock: Send + Sync + 'static {
    /// Returns the current time. It should not go back, but the layer tolerates that.
    fn now(&self) -> Timestamp;

    /// Returns the time that has passed since a fixed moment in this process, by a clock that is
    /// never set. The default is [`Instant`].
    ///
    /// It shows whether [`now`](Self::now) was set: `RedbStore` removes nothing for good while the
    /// two disagree.
    fn monotonic(&self) -> Duration {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed()
    }
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }
}

/// A clock for tests, which stands still until the test moves it.
///
/// Give it to the layer and to the store, so that both measure the same time. Clones are the same
/// clock. It begins at 1,800,000,000 seconds after the Unix epoch, which is in January 2027.
///
/// It moves neither the time of tokio, with which time-outs are measured, nor the age of entries in
/// the caches of `TieredStore` and `AccessLayer`.
///
/// # Example
///
/// The test of an app that moves the time past the
/// [`retry_window`](crate::RefreshLayerBuilder::retry_window):
///
/// ```
/// use std::time::Duration;
///
/// use axum::body::{Body, to_bytes};
/// use axum::{Json, Router, routing::post};
/// use serde_json::{Value, json};
/// use tower::ServiceExt as _;
/// use tower_oauth_refresh::{ManualClock, MemoryStore, RefreshLayer};
///
/// /// The token endpoint of the app.
/// async fn token() -> Json<Value> {
///     Json(json!({ "access_token": "a", "token_type": "Bearer", "refresh_token": "r" }))
/// }
///
/// /// Sends a token request and returns the refresh token of the response, if it has one.
/// async fn send(app: &Router, form: &str) -> Option<String> {
///     let request = http::Request::post("/token")
///         .header("content-type", "application/x-www-form-urlencoded")
///         .body(Body::from(format!("client_id=app&{form}")))
///         .unwrap();
///     let response = app.clone().oneshot(request).await.unwrap();
///     let body = to_bytes(response.into_body(), 4096).await.unwrap();
///     let body: Value = serde_json::from_slice(&body).unwrap();
///     body["refresh_token"].as_str().map(str::to_owned)
/// }
///
/// // #[tokio::test]
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// #     an_old_token_is_rejected_after_the_retry_window().await;
/// # }
/// async fn an_old_token_is_rejected_after_the_retry_window() {
///     let clock = ManualClock::new();
///     let refresh = RefreshLayer::builder(MemoryStore::with_clock(clock.clone()))
///         .clock(clock.clone())
///         .retry_window(Duration::from_secs(60))
///         .recovery_window(Duration::ZERO)
///         .build()
///         .unwrap();
///     let app = Router::new().route("/token", post(token)).layer(refresh);
///
///     let first = send(&app, "grant_type=authorization_code&code=c").await.unwrap();
///     let form = format!("grant_type=refresh_token&refresh_token={first}");
///     let second = send(&app, &form).await;
///     assert!(second.is_some());
///
///     clock.advance(Duration::from_secs(59));
///     assert_eq!(send(&app, &form).await, second, "the response is replayed");
///     clock.advance(Duration::from_secs(1));
///     assert_eq!(send(&app, &form).await, None, "the window is over");
/// }
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<ManualTimes>);

/// Milliseconds since the Unix epoch, and since the clock was created.
#[derive(Debug)]
struct ManualTimes {
    wall: AtomicU64,
    monotonic: AtomicU64,
}

impl ManualClock {
    /// Creates a clock. Every new clock shows the same time.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(ManualTimes {
            wall: AtomicU64::new(1_800_000_000_000),
            monotonic: AtomicU64::new(0),
        }))
    }

    /// Lets time pass: moves [`now`](Clock::now) and [`monotonic`](Clock::monotonic) forward by
    /// `duration`, rounded down to whole milliseconds.
    pub fn advance(&self, duration: Duration) {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        for time in [&self.0.monotonic, &self.0.wall] {
            let add = |time: u64| Some(time.saturating_add(millis));
            // This cannot fail, because `add` returns a value for every time.
            let _ = time.fetch_update(Ordering::SeqCst, Ordering::SeqCst, add);
        }
    }

    /// Sets the wall clock, forward or back, as an administrator or NTP does: changes only
    /// [`now`](Clock::now), because no time passes. To let time pass, use
    /// [`advance`](Self::advance).
    pub fn set(&self, time: Timestamp) {
        self.0.wall.store(time.as_millis(), Ordering::SeqCst);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
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

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn monotonic(&self) -> Duration {
        (**self).monotonic()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_survives_conversion_to_system_time() {
        let now = SystemTime::now();
        assert!(
            now.duration_since(Timestamp::from(now).into())
                .is_ok_and(|cut| cut < Duration::from_millis(1))
        );
        for millis in [0, 1, 999, 1_800_000_000_123, 1 << 48, (1 << 48) + 1] {
            let time = SystemTime::from(Timestamp::from_millis(millis));
            assert_eq!(
                time.duration_since(UNIX_EPOCH).unwrap(),
                Duration::from_millis(millis)
            );
            assert_eq!(Timestamp::from(time), Timestamp::from_millis(millis));
        }
    }

    #[test]
    fn every_timestamp_converts_to_a_system_time() {
        let times = [1 << 48, 1 << 60, u64::MAX - 1, u64::MAX]
            .map(|millis| SystemTime::from(Timestamp(millis)));
        assert!(times.is_sorted(), "{times:?}");

        let mut last = UNIX_EPOCH;
        while let Some(later) = last.checked_add(Duration::from_millis(u64::MAX)) {
            last = later;
        }
        let last = saturating_add(last, u64::MAX);
        assert_eq!(
            last.checked_add(Duration::from_millis(1)),
            None,
            "the next millisecond can be represented"
        );
        assert_eq!(saturating_add(last, 1), last);
    }
}
