//! Ends a grant on behalf of the application:
//! [`RefreshLayer::end_grant`](crate::RefreshLayer::end_grant).
//!
//! [`end`] removes the grant, announces the end and emits the event. [`Ending`] is the future that
//! runs to completion even if the caller drops it.

use std::error::Error as _;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::client::ClientId;
use crate::event::{EventKind, Subject};
use crate::grant::Record;
use crate::rotation;
use crate::shared::Shared;
use crate::store::{Key, Store, StoreError};

type Ended = Result<bool, StoreError>;

/// Ends the grant under `key`. Returns whether this call ended it. Emits an event if it did, or if
/// the store fails.
pub(crate) async fn end<St: Store>(shared: Arc<Shared<St>>, key: Key) -> Ended {
    let started = Instant::now();
    let _running = shared.running().enter();
    remove(&shared, key, started).await.inspect_err(|error| {
        let subject = Subject {
            client_id: None,
            grant: Some((&key, None)),
        };
        shared.tell_why(
            EventKind::of_failure(error),
            subject,
            started.elapsed(),
            error.source(),
        );
    })
}

async fn remove<St: Store>(shared: &Shared<St>, key: Key, started: Instant) -> Ended {
    let found = shared.store().get(&key).await?;
    // A corrupt entry is removed, too: no request can use it.
    let record = found
        .as_ref()
        .and_then(|entry| Record::decode(&key, &entry.tag, &entry.value).ok());
    // Grants with a pending revocation and expired grants have ended already, although their
    // entries stay in the store for a while.
    let now = shared.now();
    let over = |record: &Record| record.ended || record.time(now) >= record.expires_at;
    let record = record.map(|record| record.at(now));
    let entry = found.filter(|_| !record.as_ref().is_some_and(over));
    let there = entry.is_some();
    if let Some(entry) = entry {
        rotation::end(shared.store(), &key, entry).await?;
    }
    // Announced even if the grant had ended before: the instance that ended it may have died before
    // its announcement.
    shared.announce(&key).await;
    if there {
        let client_id = record
            .as_ref()
            .and_then(|record| ClientId::try_from(record.binding.client_id.as_str()).ok());
        let grant = Some((&key, record.as_ref().map(|record| record.generation)));
        let subject = Subject {
            client_id: client_id.as_ref(),
            grant,
        };
        shared.tell(EventKind::Ended, subject, started.elapsed());
    }
    Ok(there)
}

/// The future of a call of [`end`]. If it is dropped after its first poll, the rest continues as a
/// task of the current tokio runtime, because the caller may be a request whose client disconnects.
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
