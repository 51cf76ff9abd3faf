//! Limits the rate of log lines that clients can cause.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The shortest time between two log lines.
const INTERVAL: Duration = Duration::from_secs(10);

/// A limit of one log line every ten seconds, so that an attack cannot fill the log.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    suppressed: u64,
}

impl Throttle {
    /// Returns the number of lines that were suppressed since the last one; `None` if this line
    /// must be suppressed, too.
    pub fn line(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if state.last.is_some_and(|last| now - last < INTERVAL) {
            state.suppressed += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_in_ten_seconds_passes_and_counts_the_others() {
        let throttle = Throttle::default();
        let second = Duration::from_secs(1);
        assert_eq!(throttle.line(), Some(0), "the first");
        for _ in 0..9 {
            advance(second).await;
            assert_eq!(throttle.line(), None);
        }
        advance(second - Duration::from_millis(1)).await;
        assert_eq!(throttle.line(), None, "just before the interval ends");
        advance(Duration::from_millis(1)).await;
        assert_eq!(throttle.line(), Some(10), "at ten seconds");
        // The interval begins with a line that passes, not with one that is suppressed.
        assert_eq!(throttle.line(), None);
        advance(INTERVAL).await;
        assert_eq!(throttle.line(), Some(1));
        advance(100 * INTERVAL).await;
        assert_eq!(throttle.line(), Some(0), "none was suppressed");
    }
}
