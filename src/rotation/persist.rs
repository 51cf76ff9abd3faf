use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::shared::Shared;
use crate::store::{Store, StoreError};

const PATIENCE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// Shorter than the second after which a client tries again: no other instance shall use the same
/// upstream token first.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// How often one attempt overrides a lease that was merely taken over.
pub(super) const OVERRIDES: usize = 32;

/// A write that must reach the store.
pub(crate) trait Write: Send {
    /// What became of it.
    type Done: Send;

    /// Tries once. Safe to repeat.
    fn attempt<St: Store>(
        &mut self,
        shared: &Shared<St>,
    ) -> impl Future<Output = Result<Self::Done, StoreError>> + Send;
}

/// Repeats what the store could not do, for a minute at most; `None` if it came to nothing.
pub(crate) async fn persist<W: Write, St: Store>(
    write: &mut W,
    shared: &Shared<St>,
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
