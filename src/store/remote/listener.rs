//! The task of a store that receives the announcements of other instances.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use crate::store::{Announcements, Announcer, Key};

/// The longest pause between two attempts to subscribe.
pub(in crate::store) const PAUSE: Duration = Duration::from_secs(1);

/// The additional pause if the server rejects the subscription, which only an administrator can
/// change.
pub(in crate::store) const REFUSED: Duration = Duration::from_secs(30);

/// The subscribers of this process, and the task that receives announcements for them.
pub(in crate::store) struct Listener {
    announcer: Announcer,
    /// The runtime in which the store was connected. A subscriber may call from outside of it.
    runtime: Handle,
    task: OnceLock<AbortOnDropHandle<()>>,
}

impl Listener {
    /// Must be called inside a runtime.
    pub(in crate::store) fn new() -> Self {
        Self {
            announcer: Announcer::new(),
            runtime: Handle::current(),
            task: OnceLock::new(),
        }
    }

    /// Adds a subscriber. The first one starts the task `receive`, which runs until `self` is
    /// dropped.
    pub(in crate::store) fn subscribe<F: Future<Output = ()> + Send + 'static>(
        &self,
        receive: impl FnOnce(Announcer) -> F,
    ) -> Announcements {
        let announcements = self.announcer.subscribe();
        self.task.get_or_init(|| {
            let task = receive(self.announcer.clone());
            AbortOnDropHandle::new(self.runtime.spawn(task))
        });
        announcements
    }

    /// Notifies the subscribers of this process that these keys have ended. Needs no server.
    pub(in crate::store) fn ended(&self, keys: &[Key]) {
        keys.iter().for_each(|key| self.announcer.ended(*key));
    }
}
