//! [`ToCompletion`]: a future whose rest continues in a task of its own if it is dropped.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tracing::Instrument as _;

use crate::endpoint::progress::Progress;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A future that runs to completion once its `progress` says that it must: if it is dropped then,
/// the rest continues as a task of the current tokio runtime, because its caller may be a request
/// whose client disconnects.
pub(crate) struct ToCompletion<T> {
    /// `None` while it is polled, so that nothing continues after a panic, and after completion.
    rest: Option<Boxed<T>>,
    pub(crate) progress: Arc<Progress>,
    /// Spawns the rest as a task. It is a function pointer because only the caller of `new` knows
    /// that the output is `Send + 'static`, and this type then needs no such bounds.
    spawn: fn(&Handle, Boxed<T>),
}

impl<T> ToCompletion<T> {
    pub(crate) fn new(
        rest: Boxed<T>,
        progress: Arc<Progress>,
        spawn: fn(&Handle, Boxed<T>),
    ) -> Self {
        Self {
            rest: Some(rest),
            progress,
            spawn,
        }
    }

    /// Moves the rest to a task now.
    pub(crate) fn detach(&mut self) {
        let Some(rest) = self.rest.take() else {
            return;
        };
        self.progress.detach();
        // Without a runtime the work stops here. If it has a lease, that expires.
        if let Ok(handle) = Handle::try_current() {
            (self.spawn)(&handle, rest);
        }
    }
}

impl<T> Future for ToCompletion<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(mut rest) = self.rest.take() else {
            panic!("a future of the layer was polled after completion")
        };
        let polled = rest.as_mut().poll(cx);
        if polled.is_pending() {
            self.rest = Some(rest);
        }
        polled
    }
}

impl<T> Drop for ToCompletion<T> {
    fn drop(&mut self) {
        if self.progress.begun() {
            self.detach();
        }
    }
}

/// Returns the future of a call that ends grants, which runs to completion after its first poll.
pub(crate) fn to_completion<T: Send + 'static>(
    call: impl Future<Output = T> + Send + 'static,
) -> ToCompletion<T> {
    let progress = Arc::new(Progress::default());
    let begun = Arc::clone(&progress);
    let call = async move {
        begun.begin();
        call.await
    };
    ToCompletion::new(
        Box::pin(call.in_current_span()),
        progress,
        |handle, call| {
            handle.spawn(call);
        },
    )
}
