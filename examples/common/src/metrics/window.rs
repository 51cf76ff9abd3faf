//! Counts and durations of the last minute.

use std::time::Duration;

/// The length of a slot, in seconds.
const SLOT: u64 = 5;

/// The number of slots of a minute.
const SLOTS: usize = 12;

/// Bucket `n` has the durations below 2ⁿ µs. The last one has everything from 8.4 s.
const BUCKETS: usize = 25;

/// The durations and errors of the last minute, in slots of five seconds.
#[derive(Debug, Default)]
pub(super) struct Window([Slot; SLOTS]);

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// The number of this slot since the start of the program, plus 1; 0 if it was never used.
    number: u64,
    errors: u64,
    buckets: [u64; BUCKETS],
}

/// The figures of a [`Window`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Minute {
    pub count: u64,
    pub errors: u64,
    /// Upper bounds of the median and of the 99th percentile; `None` if nothing was measured.
    pub median: Option<Duration>,
    pub p99: Option<Duration>,
}

impl Window {
    /// Records a duration, `second` seconds after the start of the program.
    pub(super) fn record(&mut self, second: u64, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = (u64::BITS - micros.leading_zeros()) as usize;
        self.slot(second).buckets[bucket.min(BUCKETS - 1)] += 1;
    }

    /// Counts a failure of a call that was recorded.
    pub(super) fn fail(&mut self, second: u64) {
        self.slot(second).errors += 1;
    }

    fn slot(&mut self, second: u64) -> &mut Slot {
        let number = second / SLOT + 1;
        let slot = &mut self.0[(number % SLOTS as u64) as usize];
        if slot.number < number {
            *slot = Slot {
                number,
                ..Slot::default()
            };
        }
        slot
    }

    /// Returns the sums of the slots of the last minute.
    pub(super) fn minute(&self, second: u64) -> Minute {
        let number = second / SLOT + 1;
        let mut buckets = [0; BUCKETS];
        let mut errors = 0;
        let recent = |slot: &&Slot| slot.number > 0 && slot.number + SLOTS as u64 > number;
        for slot in self.0.iter().filter(recent) {
            errors += slot.errors;
            for (sum, count) in buckets.iter_mut().zip(slot.buckets) {
                *sum += count;
            }
        }
        let count = buckets.iter().sum();
        Minute {
            count,
            errors,
            median: quantile(&buckets, count, 50),
            p99: quantile(&buckets, count, 99),
        }
    }
}

/// Returns the upper bound of the bucket that has the quantile.
fn quantile(buckets: &[u64; BUCKETS], count: u64, percent: u64) -> Option<Duration> {
    let mut left = (count * percent).div_ceil(100);
    let bucket = buckets.iter().position(|n| {
        left = left.saturating_sub(*n);
        left == 0 && count > 0
    })?;
    Some(Duration::from_micros(1 << bucket))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_window_has_the_last_minute_only() {
        let mut window = Window::default();
        assert_eq!(window.minute(0), Minute::default());
        window.record(0, MS);
        window.fail(0);
        window.record(4, MS);
        window.record(30, MS);
        let counts = |second| {
            let minute = window.minute(second);
            (minute.count, minute.errors)
        };
        assert_eq!(counts(30), (3, 1));
        assert_eq!(counts(59), (3, 1));
        assert_eq!(counts(60), (1, 0));
        assert_eq!(counts(90), (0, 0));
        assert_eq!(counts(1_000_000), (0, 0));
    }

    #[test]
    fn a_slot_is_used_again_after_a_minute() {
        let mut window = Window::default();
        window.record(2, MS);
        window.record(62, MS);
        assert_eq!(window.minute(62).count, 1);
        // A recording that was delayed counts in the newer slot.
        window.record(2, MS);
        assert_eq!(window.minute(62).count, 2);
    }

    #[test]
    fn quantiles_are_upper_bounds() {
        let mut window = Window::default();
        for _ in 0..98 {
            window.record(0, 3 * MS);
        }
        window.record(0, Duration::ZERO);
        window.record(0, Duration::MAX);
        let minute = window.minute(0);
        assert_eq!(minute.median, Some(Duration::from_micros(4096)));
        assert_eq!(minute.p99, Some(Duration::from_micros(4096)));
        window.record(0, Duration::MAX);
        window.record(0, Duration::MAX);
        assert_eq!(window.minute(0).p99, Some(Duration::from_micros(1 << 24)));
    }
}
