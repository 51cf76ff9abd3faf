use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::Instrument as _;

use crate::endpoint::context::RequestContext;
use crate::endpoint::state::State;
use crate::event::{EventKind, EventSubject};
use crate::key_lock::KeyLockGuard;
use crate::store::{Store, StoreError};

const PATIENCE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause between two attempts. It is shorter than the second after which a client
/// retries, so that the commit arrives before another instance uses the same upstream token.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

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

/// Retries the write of a request in a background task, and emits the event that `event` returns
/// for the result. The write exists only in the memory of this process. A shutdown waits for it,
/// and so does the next request with the same token on this instance, because the task has the
/// lock. If too many writes are retried already, this one has failed.
pub(crate) fn settle<St: Store, W: RetryableWrite + 'static>(
    context: &RequestContext<St>,
    mut write: W,
    in_flight: Option<TaskTrackerToken>,
    guard: KeyLockGuard,
    subject: EventSubject<'_>,
    event: impl FnOnce(&W, Option<W::Done>, &Arc<State<St>>) -> EventKind + Send + 'static,
) {
    let shared = Arc::clone(&context.shared);
    let started = context.started;
    let client_id = subject.client_id.cloned();
    let grant = subject.grant.map(|(key, generation)| (*key, generation));
    let task = async move {
        let settled = match shared.commits.take() {
            Some(_permit) => persist(&mut write, &shared).await,
            None => None,
        };
        let kind = event(&write, settled, &shared);
        let subject = EventSubject {
            client_id: client_id.as_ref(),
            grant: grant.as_ref().map(|(key, generation)| (key, *generation)),
        };
        shared.emit(kind, subject, started.elapsed());
        drop((in_flight, guard));
    };
    tokio::spawn(task.in_current_span());
}
