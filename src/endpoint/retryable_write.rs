use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::endpoint::state::State;
use crate::store::{Store, StoreError};

const PATIENCE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause between two attempts. It is shorter than the second after which a client
/// retries, so that the commit arrives before another instance uses the same upstream token.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// The number of times that one attempt overrides a lease that another request has taken over.
pub(crate) const OVERRIDES: usize = 32;

/// Returns the error of a write that other requests have overridden in each of [`OVERRIDES`]
/// attempts.
pub(crate) fn overridden() -> StoreError {
    StoreError::unavailable(
        "failed to write the entry: other requests changed it during each of 32 attempts",
    )
}

/// A write that must reach the store.
pub(crate) trait RetryableWrite: Send {
    /// The result of the write.
    type Done: Send;

    /// Tries once. Safe to repeat.
    fn attempt<St: Store>(
        &mut self,
        shared: &State<St>,
    ) -> impl Future<Output = Result<Self::Done, StoreError>> + Send;
}

/// Retries a write for up to a minute while the store is unavailable. Returns `None` if the write
/// did not succeed in that time, or if the stored entry is corrupt.
pub(crate) async fn persist<W: RetryableWrite, St: Store>(
    write: &mut W,
    shared: &State<St>,
) -> Option<W::Done> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = FIRST_PAUSE;
    while Instant::now() < deadline {
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        match write.attempt(shared).await {
            Ok(done) => return Some(done),
            Err(StoreError::Unavailable(_)) => {}
            Err(StoreError::Corrupt(_)) => return None,
        }
    }
    None
}
