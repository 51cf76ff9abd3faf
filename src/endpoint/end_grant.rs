//! Ends a grant on behalf of the application:
//! [`RefreshLayer::end_grant`](crate::RefreshLayer::end_grant).
//!
//! [`end`] removes the grant, announces the end, emits the event and begins to revoke the upstream
//! token.

use std::sync::Arc;

use tokio::time::Instant;

use crate::cas;
use crate::codec::{DecodeError, NO_GRANT};
use crate::endpoint::state::State;
use crate::endpoint::upstream_revocation;
use crate::event::{EventKind, EventSubject};
use crate::grant::Record;
use crate::store::{Key, Store, StoreError};
use crate::wire::client::ClientId;

/// Ends the grant under `key`. Returns whether this call ended it. Emits an event if it did, or if
/// the store fails.
pub(crate) async fn end<St: Store>(shared: Arc<State<St>>, key: Key) -> Result<bool, StoreError> {
    let started = Instant::now();
    let _in_flight = shared.in_flight.token();
    remove(&shared, key, started).await.inspect_err(|error| {
        let subject = EventSubject::grant(None, &key, None);
        shared.emit_failure(error, subject, started.elapsed());
    })
}

async fn remove<St: Store>(
    shared: &Arc<State<St>>,
    key: Key,
    started: Instant,
) -> Result<bool, StoreError> {
    let found = shared.store().get(&key).await?;
    let now = shared.now();
    let record = match found
        .as_ref()
        .map(|entry| Record::decode(&key, &entry.tag, &entry.value))
    {
        // This is the key of something else.
        Some(Err(DecodeError::Format(format))) if NO_GRANT.contains(&format) => return Ok(false),
        // A corrupt entry is removed, too: no request can use it.
        None | Some(Err(_)) => None,
        Some(Ok(record)) => Some(record.at(now)),
    };
    // Grants with a pending revocation and expired grants have ended already, although their
    // entries stay in the store for a while. The entry of an expired grant is removed: a rotation
    // that began before the expiry could renew it.
    let record = record.as_ref();
    let is_pending = record.is_some_and(|record| record.revocation_pending);
    let is_over = record.is_some_and(|record| record.is_over(now));
    let entry = found.filter(|_| !is_pending);
    let there = entry.is_some() && !is_over;
    let mut removed = None;
    if let Some(entry) = entry {
        removed = cas::remove(shared.store(), &key, entry).await?;
    }
    // Announced even if the grant had ended before: the instance that ended it may have died before
    // its announcement.
    shared.announce(&key).await;
    if there {
        let client_id =
            record.and_then(|record| ClientId::try_from(record.binding.client_id.as_str()).ok());
        let generation = record.map(|record| record.generation);
        let subject = EventSubject::grant(client_id.as_ref(), &key, generation);
        shared.emit(EventKind::EndedByApplication, subject, started.elapsed());
        upstream_revocation::revoke_entry(shared, &key, removed);
    }
    Ok(there)
}
