use std::time::Duration;

use crate::random::{OsRandom, SecureRandom as _};

/// The pauses between attempts to connect: none before the first one, then increasing.
pub(in crate::store) struct Pauses {
    number: u32,
    longest: Duration,
}

impl Pauses {
    const FIRST: Duration = Duration::from_millis(50);

    pub(in crate::store) fn up_to(longest: Duration) -> Self {
        Self { number: 0, longest }
    }

    /// Returns a random time between half of the current pause and all of it, so that instances
    /// that lost the server together do not reconnect together.
    pub(in crate::store) fn next(&mut self) -> Duration {
        let number = self.number;
        self.number = number.saturating_add(1);
        if number == 0 {
            return Duration::ZERO;
        }
        let due = Self::FIRST
            .saturating_mul(1 << (number - 1).min(10))
            .min(self.longest);
        jittered(due)
    }
}

/// Returns a random time between half of `due` and all of it.
pub(in crate::store) fn jittered(due: Duration) -> Duration {
    let mut random = [0];
    // If the random number generator fails, it is half of the time.
    let _ = OsRandom.fill(&mut random);
    due / 2 + (due / 2) * u32::from(random[0]) / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        let longest = Duration::from_secs(2);
        let mut pauses = Pauses::up_to(longest);
        assert_eq!(pauses.next(), Duration::ZERO);
        for number in 0..100 {
            let due = Duration::from_millis(50 << number.min(6)).min(longest);
            let pause = pauses.next();
            assert!(pause >= due / 2 && pause <= due, "{pause:?} for {due:?}");
        }
    }
}
