//! The clock of the crate.

use std::fmt;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point in time, in milliseconds since the Unix epoch. It is the only unit of wall-clock time in
/// this crate.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

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
/// All lifetimes and windows are measured with it. The default is [`SystemClock`]. A test can move
/// the time with a clock of its own, set with
/// [`RefreshLayerBuilder::clock`](crate::RefreshLayerBuilder::clock).
pub trait Clock: Send + Sync + 'static {
    /// Returns the current time. It should not go back, but the layer tolerates that.
    fn now(&self) -> Timestamp;

    /// Returns the time that has passed since a fixed moment in this process, by a clock that is
    /// never set. The default is [`Instant`].
    ///
    /// It shows whether [`now`](Self::now) was set: `RedbStore` removes nothing for good while the
    /// two disagree. A clock for tests advances both by the same amount to let time pass, and only
    /// `now` to set the wall clock.
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

impl<C: Clock + ?Sized> Clock for std::sync::Arc<C> {
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
