use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::pool::BoundedPool;
use super::servers::Servers;
use crate::store::remote::pauses::{Pauses, jittered};

/// The longest pause between two searches for the primary.
const PAUSE: Duration = Duration::from_secs(1);

/// Starts a task that searches for the primary when a call has failed, and lets the store use it.
/// There is one for each store, so the calls that fail together make one search. `current` is the
/// index of the server in use. Must be called inside a runtime.
pub(super) fn start(
    pool: Arc<BoundedPool>,
    servers: Servers,
    mut current: usize,
) -> AbortOnDropHandle<()> {
    let task = async move {
        loop {
            pool.failed.notified().await;
            let mut pauses = Pauses::up_to(PAUSE);
            let primary = loop {
                sleep(pauses.next()).await;
                match servers.primary(pool.limit).await {
                    Ok(primary) => break primary,
                    Err(failure) => tracing::debug!(%failure, "no PostgreSQL primary"),
                }
            };
            if primary.index != current {
                current = primary.index;
                tracing::info!(
                    host = primary.options.get_host(),
                    port = primary.options.get_port(),
                    "using another PostgreSQL server, which is the primary now"
                );
                pool.move_to(primary);
            }
            // An overloaded server, whose calls fail one after the other, is asked rarely.
            sleep(jittered(PAUSE)).await;
        }
    };
    AbortOnDropHandle::new(tokio::spawn(task))
}
