//! The future of [`RefreshLayer::end_grant`](crate::RefreshLayer::end_grant) and the other calls
//! that end grants. It runs to completion even if the caller drops it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tracing::Instrument as _;

/// The future of a call that ends grants. If it is dropped after its first poll, the rest
/// continues as a task of the current tokio runtime, because the caller may be a request whose
/// client disconnects.
pub(crate) struct Ending<T: Send + 'static> {
    /// `None` while it is polled, so that nothing continues after a panic, and after completion.
    rest: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    begun: bool,
}

impl<T: Send> Ending<T> {
    pub(crate) fn new(end: impl Future<Output = T> + Send + 'static) -> Self {
        Self {
            rest: Some(Box::pin(end.in_current_span())),
            begun: false,
        }
    }
}

impl<T: Send> Future for Ending<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(mut rest) = self.rest.take() else {
            panic!("a future that ends grants was polled after completion")
        };
        self.begun = true;
        let polled = rest.as_mut().poll(cx);
        if polled.is_pending() {
            self.rest = Some(rest);
        }
        polled
    }
}

impl<T: Send> Drop for Ending<T> {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take().filter(|_| self.begun)
            && let Ok(handle) = Handle::try_current()
        {
            handle.spawn(rest);
        }
    }
}
