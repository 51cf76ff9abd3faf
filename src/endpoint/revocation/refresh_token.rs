//! The revocation of a refresh token. It ends the grant.

use super::forward::{PENDING_FOR, Revocation, forward, revoked};
use crate::codec::DecodeError;
use crate::endpoint::cas;
use crate::endpoint::context::{Outcome, RequestContext};
use crate::endpoint::precheck::precheck;
use crate::endpoint::presented::PresentedToken;
use crate::endpoint::refusal::{refuse, refuse_and_end_on_reuse, unreadable};
use crate::endpoint::upstream::Inner;
use crate::endpoint::walk;
use crate::error::RefreshError;
use crate::event::EventKind;
use crate::grant::{Record, Refusal, Verdict};
use crate::seal::Sealer;
use crate::store::{Change, Entry, Store, StoreError, Ttl, Version};
use crate::token::RefreshToken;
use crate::wire::client::ClientId;
use crate::wire::token_request::TokenRequest;

/// Handles the revocation of a refresh token.
pub(crate) async fn revoke<St: Store, I: Inner>(
    exchange: &RequestContext<St>,
    upstream: Box<I>,
    form: &TokenRequest,
    token: RefreshToken,
    client_id: &ClientId,
) -> Outcome<I::ResBody, I::Error> {
    let presentation = PresentedToken::new(token, client_id);
    exchange.progress.begin();
    let _in_flight = exchange.shared.in_flight().token();
    let Some((entry, record, current)) = find(exchange, &presentation).await? else {
        return Ok(revoked());
    };
    let sealer = Sealer::new(current.secret());
    let Some(upstream_token) = presentation.unseal(&sealer, &record) else {
        return Err(unreadable(exchange, &presentation, DecodeError::Damaged).into());
    };
    let revocation = Revocation {
        key: &presentation.key,
        entry,
        upstream_token,
        pending: |entry: &Entry| pending(exchange, &presentation, entry),
        event: EventKind::Revoked,
        subject: presentation.subject(),
    };
    forward(exchange, upstream, form, revocation).await
}

/// Returns the change that marks the grant as revocation pending.
fn pending<St: Store>(
    exchange: &RequestContext<St>,
    presentation: &PresentedToken<'_>,
    entry: &Entry,
) -> Result<Change, StoreError> {
    let shared = &exchange.shared;
    let key = &presentation.key;
    let now = shared.now();
    let record = Record::decode(key, &entry.tag, &entry.value)
        .map_err(StoreError::corrupt)?
        .at(now);
    let version = Version::new(shared.random().map_err(StoreError::unavailable)?);
    let until = record.time(now).saturating_add(PENDING_FOR);
    let record = record.with_pending_revocation(until);
    let ttl = Ttl::After(record.time_to_live(now));
    let entry = Entry::new(version, entry.tag, record.encode(key, &entry.tag));
    Ok(Change::Put { entry, ttl })
}

/// Returns the grant to revoke, and its current token. Returns `None` if the token is invalid or already revoked, which is
/// not an error (RFC 7009 §2.2).
async fn find<St: Store>(
    exchange: &RequestContext<St>,
    presentation: &PresentedToken<'_>,
) -> Result<Option<(Entry, Record, RefreshToken)>, RefreshError> {
    if precheck(exchange, presentation).is_err() {
        return Ok(None);
    }
    let found = exchange.store().get(&presentation.key).await;
    let Some(entry) =
        found.map_err(|error| exchange.store_failed(error, presentation.subject()))?
    else {
        let _ = refuse(exchange, presentation, Refusal::Unknown);
        return Ok(None);
    };
    let (record, verdict) = presentation
        .decide(&entry, false, exchange.shared.now())
        .map_err(|error| unreadable(exchange, presentation, error))?;
    // A pending revocation is forwarded again, if the token is the current or the previous one.
    let current = match verdict {
        Verdict::Proceed(_) | Verdict::Refuse(Refusal::RevocationPending) => {
            presentation.current_token(&record, &entry.tag).ok()
        }
        Verdict::Refuse(Refusal::Late | Refusal::Reuse) => {
            walk::follow(exchange, presentation, &record, &entry.tag).await?
        }
        Verdict::Refuse(_) => None,
    };
    if let Some(current) = current {
        return Ok(Some((entry, record, current)));
    }
    match verdict {
        Verdict::Proceed(_) => Err(unreadable(exchange, presentation, DecodeError::Damaged)),
        // An old token within the retry window that does not lead to the current one. A refresh
        // with it is only rejected, because a conforming client may still send one. A revocation
        // ends the grant with any of its tokens; the grant's id, its client and an older generation
        // are also enough to detect reuse. This token cannot open the upstream token, so the inner
        // service is not called.
        Verdict::Refuse(Refusal::Late) => {
            let removed = cas::remove(exchange.store(), &presentation.key, entry).await;
            removed.map_err(|error| exchange.store_failed(error, presentation.subject()))?;
            exchange.announce(&presentation.key).await;
            exchange.emit(EventKind::Revoked, presentation.subject());
            Ok(None)
        }
        Verdict::Refuse(refusal) => {
            match refuse_and_end_on_reuse(exchange, presentation, refusal, entry).await {
                error @ RefreshError::Store(_) => Err(error),
                _ => Ok(None),
            }
        }
    }
}
