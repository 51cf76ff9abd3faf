//! The open connections at a shutdown.

use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The time that ended event streams have to reach their clients.
const STREAM_END: Duration = Duration::from_secs(2);

/// The time that a rotation has, beyond twice its time-out, to write its result to the store.
const DRAIN_MARGIN: Duration = Duration::from_secs(15);

/// The connections that were open when a listener stopped.
#[derive(Debug, Default)]
pub struct Connections {
    pub(super) tasks: TaskTracker,
    pub(super) closing: CancellationToken,
    /// Ends event streams.
    pub(super) ending: CancellationToken,
}

impl Connections {
    /// Closes idle connections, lets open requests finish, and waits until all connections are
    /// closed.
    pub async fn shutdown(self) {
        self.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Shuts a server down: lets open requests finish within `limit`, then ends the event streams that
/// are still open, and then awaits `drain`, which completes the rotations whose clients have
/// disconnected.
///
/// Other responses are not ended early, because a client would take a part of them for all.
///
/// Returns an error if `drain` takes longer than twice `rotation_timeout` and 15 seconds.
pub async fn finish(
    connections: Connections,
    limit: Duration,
    drain: impl Future<Output = ()>,
    rotation_timeout: Duration,
) -> Result<(), &'static str> {
    let ending = connections.ending.clone();
    let mut shutdown = pin!(connections.shutdown());
    if timeout(limit, shutdown.as_mut()).await.is_err() {
        ending.cancel();
        if timeout(STREAM_END, shutdown).await.is_err() {
            tracing::warn!(
                ?limit,
                "some requests did not finish within --shutdown-timeout: they end when the process exits"
            );
        }
    }
    let drained = timeout(rotation_timeout * 2 + DRAIN_MARGIN, drain).await;
    drained
        .map_err(|_| "some rotations did not finish before the shutdown: their results may be lost")
}
