//! Renews the upstream access token of a reference access token: a refresh by the layer itself,
//! once for all requests of all instances.
//!
//! [`renew`] is called with a token that is in use and whose upstream access token ends soon. All
//! requests of this instance with the same token wait for one task. The task claims the grant, so
//! it excludes the tasks of other instances and the rotations of the client; then it looks whether
//! one of them has renewed the token already. The tokens of the layer stay as they are.

mod claim;
mod task;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::Instrument as _;

use self::task::Task;
use crate::endpoint::renewals::Renewed;
use crate::endpoint::state::State;
use crate::store::{Key, Store};
use crate::token::AccessToken;

/// The time after a renewal in which no other one of the same token begins: if the inner service or
/// the store was unavailable, and if a response of the inner service says that the next one will
/// fail, too.
const SHORT_PAUSE: Duration = Duration::from_secs(1);
const LONG_PAUSE: Duration = Duration::from_secs(30);

/// Renews the upstream access token of `token`, or waits for the renewal that is running. Waits for
/// at most `patience`; the renewal goes on after that.
pub(crate) async fn renew<St: Store>(
    shared: &Arc<State<St>>,
    token: &AccessToken,
    key: Key,
    patience: Duration,
) -> Renewed {
    if shared.config().upstream_refresh.get().is_none() {
        return Renewed::Impossible;
    }
    let mut running = join(shared, token, key);
    let renewed = timeout(patience, running.wait_for(Option::is_some)).await;
    match renewed {
        Ok(Ok(renewed)) => renewed.unwrap_or(Renewed::Unavailable),
        // Too late, or the task has panicked, or its runtime shuts down.
        Err(_) | Ok(Err(_)) => Renewed::Unavailable,
    }
}

/// Returns the running renewal of this token, or begins one.
fn join<St: Store>(
    shared: &Arc<State<St>>,
    token: &AccessToken,
    key: Key,
) -> watch::Receiver<Option<Renewed>> {
    let mut running = shared.renewals.running();
    if let Some(renewal) = running.get(&key) {
        return renewal.clone();
    }
    let (sender, renewal) = watch::channel(None);
    running.insert(key, renewal.clone());
    drop(running);
    let task = Task::new(shared, token.clone(), key);
    let entry = RunningEntry {
        shared: Arc::clone(shared),
        key,
    };
    // The span ends with the renewal, not with the pause after it.
    let renewing = task.run().in_current_span();
    tokio::spawn(async move {
        let renewed = renewing.await;
        sender.send_replace(Some(renewed));
        match renewed {
            Renewed::Done | Renewed::Ended => {}
            Renewed::Unavailable => sleep(SHORT_PAUSE).await,
            Renewed::Impossible | Renewed::Refused => sleep(LONG_PAUSE).await,
        }
        drop(entry);
    });
    renewal
}

/// The entry of a running renewal. Dropping it removes the entry, also after a panic and when the
/// runtime shuts down: an instance may outlive the runtime, and must renew the token again then.
struct RunningEntry<St> {
    shared: Arc<State<St>>,
    key: Key,
}

impl<St> Drop for RunningEntry<St> {
    fn drop(&mut self) {
        self.shared.renewals.running().remove(&self.key);
    }
}
