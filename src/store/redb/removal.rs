//! Decides when expired entries may be removed for good.
//!
//! A read treats an expired entry as absent. So a wall clock that is wrong for some time does no
//! harm: when it is corrected, the entry can be read again. A removal cannot be undone. So entries
//! are kept for [`GRACE`] after their expiry, and nothing is removed while the wall clock may be
//! wrong: in the first hour after the file was opened, and for a day after the wall clock has moved
//! ahead of the monotonic one.

use std::time::Duration;

use crate::clock::{Clock, Timestamp};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The time for which an entry is kept after its expiry.
pub(super) const GRACE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The time without removals after the file was opened. A machine may boot with a wrong clock.
const AFTER_OPEN: Duration = HOUR;

/// The time without removals after the wall clock has jumped ahead.
const AFTER_JUMP: Duration = DAY;

/// The most that the wall clock may gain on the monotonic one within [`WINDOW`].
const TOLERANCE: Duration = Duration::from_secs(10 * 60);

/// The longest time for which the two clocks are compared from one starting point. A slewed clock
/// gains slowly, and must not count as a jump.
const WINDOW: Duration = HOUR;

/// Compares the wall clock with the monotonic one, and holds removals back after a jump.
pub(super) struct RemovalGate {
    wall: Timestamp,
    monotonic: Duration,
    resume_at: Duration,
}

impl RemovalGate {
    pub(super) fn new(clock: &dyn Clock) -> Self {
        let monotonic = clock.monotonic();
        Self {
            wall: clock.now(),
            monotonic,
            resume_at: monotonic.saturating_add(AFTER_OPEN),
        }
    }

    /// Returns the time up to which due entries may be removed; `None` while no entry may be
    /// removed.
    ///
    /// It must be called often: all changes of the clocks between two calls count as one step.
    pub(super) fn horizon(&mut self, clock: &dyn Clock) -> Option<Timestamp> {
        let (now, monotonic) = (clock.now(), clock.monotonic());
        let passed = monotonic.saturating_sub(self.monotonic);
        let gained = now.saturating_since(self.wall).saturating_sub(passed);
        if gained > TOLERANCE {
            self.resume_at = monotonic.saturating_add(AFTER_JUMP);
            tracing::warn!(
                minutes = gained.as_secs() / MINUTE.as_secs(),
                "the wall clock has jumped ahead: expired grants stay in the store's file for a day"
            );
        }
        if gained > TOLERANCE || now < self.wall || passed >= WINDOW {
            (self.wall, self.monotonic) = (now, monotonic);
        }
        (monotonic >= self.resume_at).then_some(now)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A wall clock and a monotonic clock, in milliseconds.
    #[derive(Default)]
    struct TwoClocks(Mutex<(u64, u64)>);

    impl TwoClocks {
        fn advance(&self, wall: Duration, monotonic: Duration) {
            let mut clocks = self.0.lock().unwrap();
            clocks.0 += u64::try_from(wall.as_millis()).unwrap();
            clocks.1 += u64::try_from(monotonic.as_millis()).unwrap();
        }

        fn back(&self, wall: Duration) {
            self.0.lock().unwrap().0 -= u64::try_from(wall.as_millis()).unwrap();
        }
    }

    impl Clock for TwoClocks {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.0.lock().unwrap().0)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.0.lock().unwrap().1)
        }
    }

    #[test]
    fn nothing_is_removed_in_the_first_hour() {
        let clock = TwoClocks::default();
        let mut gate = RemovalGate::new(&clock);
        for minute in 0..180 {
            assert_eq!(
                gate.horizon(&clock).is_some(),
                minute >= 60,
                "minute {minute}"
            );
            clock.advance(MINUTE, MINUTE);
        }
    }

    #[test]
    fn a_jump_of_the_wall_clock_holds_removals_back_for_a_day() {
        for jump in [MINUTE * 11, HOUR, DAY * 31, DAY * 365 * 50] {
            let clock = TwoClocks::default();
            let mut gate = RemovalGate::new(&clock);
            clock.advance(HOUR * 2, HOUR * 2);
            assert_eq!(gate.horizon(&clock), Some(clock.now()));
            clock.advance(jump, Duration::from_millis(2500));
            assert_eq!(gate.horizon(&clock), None, "{jump:?} ahead");
            clock.back(jump);
            for hour in 0..30 {
                assert_eq!(
                    gate.horizon(&clock).is_some(),
                    hour >= 24,
                    "{jump:?} ahead and back, hour {hour}"
                );
                clock.advance(HOUR, HOUR);
            }
        }
    }

    #[test]
    fn slewing_or_setting_back_the_clock_does_not_hold_removals_back() {
        let clock = TwoClocks::default();
        let mut gate = RemovalGate::new(&clock);
        clock.advance(HOUR, HOUR);
        gate.horizon(&clock);
        for _ in 0..1000 {
            clock.advance(MINUTE + MINUTE / 10, MINUTE);
            assert!(gate.horizon(&clock).is_some());
        }
        clock.back(HOUR);
        assert_eq!(gate.horizon(&clock), Some(clock.now()));
    }
}
