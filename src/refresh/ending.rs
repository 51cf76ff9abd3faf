//! The future of [`RefreshLayer::end_grant`](crate::RefreshLayer::end_grant), which runs to
//! completion even if the caller drops it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

use crate::endpoint::end_grant::Ended;

/// The future of a call that ends a grant. If it is dropped after its first poll, the rest
/// continues as a task of the current tokio runtime, because the caller may be a request whose
/// client disconnects.
pub(crate) struct Ending {
    /// `None` while it is polled, so that nothing continues after a panic, and after completion.
    rest: Option<Pin<Box<dyn Future<Output = Ended> + Send>>>,
    begun: bool,
}

impl Ending {
    pub(crate) fn new(end: impl Future<Output = Ended> + Send + 'static) -> Self {
        Self {
            rest: Some(Box::pin(end)),
            begun: false,
        }
    }
}

impl Future for Ending {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let Some(mut rest) = self.rest.take() else {
            panic!("`RefreshLayer::end_grant` polled after completion")
        };
        self.begun = true;
        let polled = rest.as_mut().poll(cx);
        if polled.is_pending() {
            self.rest = Some(rest);
        }
        polled
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take().filter(|_| self.begun)
            && let Ok(handle) = Handle::try_current()
        {
            handle.spawn(rest);
        }
    }
}
