//! The open connections at a shutdown.

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The time that open requests have to finish at a shutdown.
const GRACE: Duration = Duration::from_secs(30);

/// The time that a rotation has, beyond twice its time-out, to write its result to the store.
const DRAIN_MARGIN: Duration = Duration::from_secs(15);

/// The connections that were open when a listener stopped.
#[derive(Debug, Default)]
pub struct Connections {
    pub(super) tasks: TaskTracker,
    pub(super) closing: CancellationToken,
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

/// Shuts a server down: lets open requests finish within 30 seconds, then awaits `drain`, which
/// completes the rotations whose clients have disconnected.
///
/// Returns an error if `drain` takes longer than twice `rotation_timeout` and 15 seconds.
pub async fn finish(
    connections: Connections,
    drain: impl Future<Output = ()>,
    rotation_timeout: Duration,
) -> Result<(), &'static str> {
    if timeout(GRACE, connections.shutdown()).await.is_err() {
        tracing::warn!(
            "some requests did not finish within the 30 s allowed at shutdown: they end when the process exits"
        );
    }
    let drained = timeout(rotation_timeout * 2 + DRAIN_MARGIN, drain).await;
    drained
        .map_err(|_| "some rotations did not finish before the shutdown: their results may be lost")
}
