//! The revocation of a reference access token (RFC 7009). Its grant continues.
//!
//! It follows the same steps as the revocation of a refresh token in [`crate::endpoint::revocation`].

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tokio::time::timeout;
use tower_service::Service;
use zeroize::Zeroizing;

use crate::access_token::record::AccessRecord;
use crate::body::RequestBody;
use crate::endpoint::context::{Outcome, RequestContext};
use crate::endpoint::revocation::{Confirmed, ENDED_FOR, confirm, revoked};
use crate::endpoint::token::end;
use crate::endpoint::upstream::Upstream;
use crate::error::Error;
use crate::event::EventKind;
use crate::event::Subject;
use crate::seal::{Context, Purpose, Sealer};
use crate::store::{Change, Entry, Key, Store, StoreError, Swap, Ttl, Version};
use crate::token::AccessToken;
use crate::wire::client::ClientId;
use crate::wire::token_request::{Param, TokenRequest};

/// Handles the revocation of an access token.
pub(crate) async fn revoke<St, S, B, ResBody>(
    exchange: &RequestContext<St>,
    mut upstream: Box<Upstream<S, B>>,
    form: &TokenRequest,
    token: &AccessToken,
    client_id: &ClientId,
) -> Outcome<ResBody, S::Error>
where
    S: Service<Request<RequestBody<B>>, Response = Response<ResBody>>,
    St: Store,
    B: Body<Data = Bytes>,
    ResBody: Body<Data = Bytes>,
{
    let (key, grant) = (token.key(), token.grant_key());
    exchange.progress.begin();
    let _in_flight = exchange.shared.in_flight().token();
    let stranger = Subject {
        client_id: Some(client_id),
        grant: None,
    };
    let found = exchange
        .store()
        .get(&key)
        .await
        .map_err(|error| exchange.store_failed(error, stranger))?;
    let Some(entry) = found else {
        exchange.emit(EventKind::Unknown, stranger);
        return Ok(revoked());
    };
    let damaged = |error| exchange.store_failed(StoreError::corrupt(error), stranger);
    let record = AccessRecord::decode(&key, &entry).map_err(damaged)?;
    let subject = Subject {
        grant: record
            .has_grant
            .then_some((&grant, Some(token.generation()))),
        ..stranger
    };
    let refused = match () {
        () if record.client_id.as_str() != client_id.as_str() => Some(EventKind::ClientMismatch),
        () if exchange.shared.now() >= record.expires_at => Some(EventKind::Expired),
        () => None,
    };
    if let Some(kind) = refused {
        exchange.emit(kind, subject);
        return Ok(revoked());
    }
    let secret =
        unseal(token, &key, &record).map_err(|error| exchange.store_failed(error, subject))?;
    upstream.ask_for_plain();
    let call = async {
        let response = upstream
            .call(form.replace(Param::Token, &secret))
            .await
            .ok()?;
        let unavailable = response.status().is_server_error();
        if unavailable {
            None
        } else {
            Some(confirm(response, exchange.reading(Some(&secret))).await)
        }
    };
    let Some(reply) = timeout(exchange.shared.config().upstream_timeout(), call)
        .await
        .ok()
        .flatten()
    else {
        // The inner service is unavailable, but the client wants the token to end, so it ends here.
        let ended = mark(exchange, &key, entry, record.clone()).await;
        ended.map_err(|error| exchange.store_failed(error, subject))?;
        exchange.announce(&key).await;
        exchange.emit(EventKind::AccessRevoked, subject);
        return Err(Error::UpstreamUnavailable.into());
    };
    let Some(Confirmed { ended, response }) = reply else {
        exchange.emit(EventKind::UpstreamUnreadable, subject);
        return Err(Error::UpstreamUnreadable.into());
    };
    if ended {
        end(exchange.store(), &key, entry)
            .await
            .map_err(|error| exchange.store_failed(error, subject))?;
        exchange.announce(&key).await;
        exchange.emit(EventKind::AccessRevoked, subject);
    }
    Ok(response)
}

/// Opens the sealed upstream access token.
pub(crate) fn unseal(
    token: &AccessToken,
    key: &Key,
    record: &AccessRecord,
) -> Result<Zeroizing<String>, StoreError> {
    let context = Context {
        purpose: Purpose::Access,
        key,
        client_id: record.client_id.as_str(),
    };
    let mut opened = Sealer::new(token.secret())
        .open(context, &[], &record.sealed)
        .map_err(StoreError::corrupt)?;
    String::from_utf8(std::mem::take(&mut *opened))
        .map(Zeroizing::new)
        .map_err(|error| {
            // `FromUtf8Error` would disclose the bytes of the token.
            StoreError::corrupt(error.utf8_error())
        })
}

/// Marks the token as revocation pending. Retries if another request changes the entry at the same
/// time.
async fn mark<St: Store>(
    exchange: &RequestContext<St>,
    key: &Key,
    mut entry: Entry,
    mut record: AccessRecord,
) -> Result<(), StoreError> {
    const ATTEMPTS: usize = 32;
    let shared = &exchange.shared;
    for _ in 0..ATTEMPTS {
        let now = shared.now();
        let version = Version::new(shared.random().map_err(StoreError::unavailable)?);
        record = record.ended(now.saturating_add(ENDED_FOR));
        let change = Change::Put {
            entry: record.entry(key, version),
            ttl: Ttl::After(record.time_to_live(now)),
        };
        match shared
            .store()
            .swap(key, Some(entry.version), change, None)
            .await?
        {
            Swap::Swapped | Swap::Conflict(None) => return Ok(()),
            Swap::Conflict(Some(current)) => {
                record = AccessRecord::decode(key, &current).map_err(StoreError::corrupt)?;
                entry = current;
            }
        }
    }
    Err(StoreError::unavailable(
        "too many concurrent changes of the entry",
    ))
}
