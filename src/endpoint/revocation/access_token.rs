//! The revocation of a reference access token. Its grant continues.

use super::forward::{PENDING_FOR, Revocation, forward, revoked};
use crate::access_token::record::AccessRecord;
use crate::endpoint::context::{Outcome, RequestContext};
use crate::endpoint::upstream::Inner;
use crate::event::{EventKind, EventSubject};
use crate::store::{Change, Entry, Key, Store, StoreError, Ttl, Version};
use crate::token::AccessToken;
use crate::wire::client::ClientId;
use crate::wire::token_request::TokenRequest;

/// Handles the revocation of an access token.
pub(crate) async fn revoke<St: Store, I: Inner>(
    context: &RequestContext<St>,
    upstream: Box<I>,
    form: &TokenRequest,
    token: &AccessToken,
    client_id: &ClientId,
) -> Outcome<I::ResBody, I::Error> {
    let key = token.key();
    let grant = token.grant_key();
    context.progress.begin();
    let _in_flight = context.shared.in_flight.token();
    let stranger = EventSubject::client(Some(client_id));
    let failed = |error| context.store_failed(error, stranger);
    let Some(entry) = context.store().get(&key).await.map_err(failed)? else {
        context.emit(EventKind::Unknown, stranger);
        return Ok(revoked());
    };
    let record =
        AccessRecord::decode(&key, &entry).map_err(|error| failed(StoreError::corrupt(error)))?;
    let subject = EventSubject {
        grant: record
            .has_grant
            .then_some((&grant, Some(token.generation()))),
        ..stranger
    };
    if record.client_id.as_str() != client_id.as_str() {
        context.emit(EventKind::ClientMismatch, subject);
        return Ok(revoked());
    }
    if context.shared.now() >= record.expires_at {
        context.emit(EventKind::Expired, subject);
        return Ok(revoked());
    }
    let upstream_token = record
        .unseal(token, &key)
        .map_err(|error| context.store_failed(error, subject))?;
    let revocation = Revocation {
        key: &key,
        entry,
        upstream_token,
        needs_proof: false,
        pending: |entry: &Entry| pending(context, &key, entry),
        event: EventKind::AccessRevoked,
        subject,
    };
    forward(context, upstream, form, revocation).await
}

/// Returns the change that marks the token as revocation pending.
fn pending<St: Store>(
    context: &RequestContext<St>,
    key: &Key,
    entry: &Entry,
) -> Result<Change, StoreError> {
    let shared = &context.shared;
    let now = shared.now();
    let version = Version::new(shared.random().map_err(StoreError::unavailable)?);
    let record = AccessRecord::decode(key, entry)
        .map_err(StoreError::corrupt)?
        .with_pending_revocation(now.saturating_add(PENDING_FOR));
    Ok(Change::Put {
        entry: record.entry(key, version),
        ttl: Ttl::After(record.time_to_live(now)),
    })
}
