//! Counts the work in progress of one layer, so that a shutdown can wait for it.

use tokio::sync::watch;

/// The number of operations in progress in one layer and its clones.
#[derive(Clone, Debug)]
pub(crate) struct Running(watch::Sender<usize>);

impl Running {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(0))
    }

    /// Counts one more operation until the guard is dropped.
    pub(crate) fn enter(&self) -> RunningGuard {
        self.0.send_if_modified(|count| {
            *count += 1;
            false
        });
        RunningGuard(self.clone())
    }

    /// Waits until no operation is in progress.
    pub(crate) fn drained(&self) -> impl Future<Output = ()> + Send + use<> {
        // The future also holds a sender, so that the channel stays open.
        let Self(sender) = self.clone();
        async move {
            let mut receiver = sender.subscribe();
            let _ = receiver.wait_for(|count| *count == 0).await;
        }
    }
}

#[derive(Debug)]
pub(crate) struct RunningGuard(Running);

impl Drop for RunningGuard {
    fn drop(&mut self) {
        self.0.0.send_if_modified(|count| {
            *count -= 1;
            *count == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[tokio::test]
    async fn drained_resolves_when_the_last_guard_is_dropped() {
        let running = Running::new();
        running.drained().await;
        let first = running.enter();
        let second = running.clone().enter();
        let mut drained = pin!(running.drained());
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(drained.as_mut().poll(&mut cx), Poll::Pending);
        drop(first);
        assert_eq!(drained.as_mut().poll(&mut cx), Poll::Pending);
        drop(second);
        drained.await;
    }
}
