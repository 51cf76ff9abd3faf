mod complete;
mod foreign;
mod reserve;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use self::complete::Reservation;
use self::foreign::DONE;
pub(super) use self::foreign::Foreign;
use self::reserve::{Reserved, reserve};
use super::entropy::Entropy;
use super::request::ClientRequest;
use crate::endpoint::context::{Outcome, RequestContext};
use crate::endpoint::presented::PresentedToken;
use crate::endpoint::upstream::{Inner, Reply};
use crate::error::RefreshError;
use crate::event::EventKind;
use crate::grant::{Record, Refusal, SKEW, Verdict};
use crate::store::{Change, ClaimTag, Entry, Store, Version};
use crate::token::RefreshToken;
use crate::wire::client::ClientId;

/// The result of looking up a token that is not in the layer's format.
#[allow(clippy::large_enum_variant, reason = "made once and matched at once")]
pub(super) enum Resolved<St: Store> {
    /// It was adopted. It leads to this token, the first one of its grant.
    Successor(RefreshToken),
    /// It was adopted and is reused, because it no longer leads to this token, the first one of its
    /// grant. The entry and the record of the grant.
    Reused(RefreshToken, Box<(Entry, Record)>),
    /// This request has the right to adopt it.
    Reserved(Reservation<St>),
    /// No grant belongs to it, and none begins with it, because grants are handed back.
    Forward,
}

/// Finds the grant of a token that is not in the layer's format, or reserves its adoption.
///
/// While grants are handed back, no adoption begins. But an instance that does not hand back yet
/// may have adopted the token, and a client that lost the answer still has that token only. If it
/// was forwarded, the inner service would see a token that it has replaced. An adoption that is
/// under way is continued, for the same reason.
///
/// # Errors
///
/// Adoption is not configured, or has ended without an adoption of this token, or the token is no
/// longer accepted.
pub(super) async fn resolve<St: Store>(
    foreign: &Foreign<'_, St>,
    deadline: Instant,
) -> Result<Resolved<St>, RefreshError> {
    let context = foreign.context;
    let config = context.shared.config();
    let Some(end) = config.adopt_until else {
        return unadopted(foreign);
    };
    let now = context.shared.now();
    if config.hand_back || now >= end {
        // Adoption has ended, but a token that was adopted before still leads to its grant.
        let found = if config.adopted_until().is_some_and(|end| now < end) {
            context.store().get(&foreign.key).await
        } else {
            Ok(None)
        };
        match found.map_err(|error| foreign.store_failed(error))? {
            Some(entry) if entry.tag == DONE => {
                return successor(foreign, &entry.value).await;
            }
            // An adoption that is under way.
            Some(_) if config.hand_back => {}
            Some(_) | None => return unadopted(foreign),
        }
    }
    let tag = ClaimTag::new(*foreign.key.as_bytes());
    let guard = timeout_at(deadline, context.shared.key_lock.lock(tag)).await;
    let (guard, _) = guard.map_err(|_| RefreshError::Busy)?;
    // Drawn before the upstream token is used, as in a rotation.
    let entropy = Entropy::new(&context.shared)?;
    let version = Version::new(context.shared.random()?);
    match reserve(foreign, deadline).await? {
        Reserved::Lease(lease) => Ok(Resolved::Reserved(Reservation {
            lease,
            guard,
            entropy,
            version,
        })),
        Reserved::Done(value) => successor(foreign, &value).await,
    }
}

/// Returns the token that an adopted token leads to.
///
/// It leads there in its shared token window, and after it as long as the first token of the grant
/// is the current or the previous one, and no later one was presented: a client that lost the
/// answer to its adoption still has the old token only.
async fn successor<St: Store>(
    foreign: &Foreign<'_, St>,
    value: &[u8],
) -> Result<Resolved<St>, RefreshError> {
    let context = foreign.context;
    let Ok((token, shared_until)) = foreign.open(value) else {
        foreign.emit(EventKind::Late);
        return Err(RefreshError::InvalidGrant);
    };
    let now = context.shared.now();
    // An end that is further away than the window comes from a clock that was not set.
    let left = shared_until.saturating_since(now);
    let window = context.shared.config().windows.shared;
    if !left.is_zero() && left <= window.saturating_add(SKEW) {
        return Ok(Resolved::Successor(token));
    }
    let presented = PresentedToken::new(context, token, foreign.client_id);
    let found = context.store().get(&presented.key).await;
    let Some(entry) = found.map_err(|error| presented.store_failed(error))? else {
        return Err(presented.refuse(Refusal::Unknown));
    };
    let (record, verdict) = presented.decide(&entry)?;
    let hash = &presented.hash;
    let refusal = match verdict {
        Verdict::Proceed(_)
            if !record.presented && (entry.tag == *hash || record.link_from(hash).is_some()) =>
        {
            return Ok(Resolved::Successor(presented.token));
        }
        Verdict::Refuse(refusal) => refusal,
        Verdict::Proceed(_) => match &record.previous {
            Some(previous) if now < previous.retry_until => Refusal::Late,
            _ => Refusal::Reuse,
        },
    };
    if refusal == Refusal::Reuse {
        let found = Box::new((entry, record));
        return Ok(Resolved::Reused(presented.token, found));
    }
    Err(presented.refuse(refusal))
}

/// Adopts a token: sends it to the inner service, and begins a grant with the answer.
pub(super) async fn adopt<St: Store, I: Inner>(
    foreign: &Foreign<'_, St>,
    upstream: Box<I>,
    body: Bytes,
    request: &ClientRequest<'_>,
    reservation: Reservation<St>,
) -> Outcome<I::ResBody, I::Error> {
    let (context, token) = (foreign.context, foreign.token);
    let reply = context.refresh(upstream, body, token, foreign.subject());
    match reply.await {
        Ok(Reply::Granted(granted)) => Ok(reservation.complete(foreign, request, granted).await?),
        Ok(Reply::Rejected(response)) => {
            reservation.lease.release().await;
            foreign.emit(EventKind::UpstreamRejected);
            Ok(response)
        }
        Ok(Reply::Refused(response)) => reservation.lease.release_and(Ok(response)).await,
        Err(failure) => reservation.lease.release_and(Err(failure)).await,
    }
}

/// Forgets the adoption of an upstream token that is handed back, because the inner service has not
/// replaced it. From then on it is a token like any other of the inner service. Otherwise it would
/// lead to its grant, which ends soon, and be refused.
pub(super) async fn forget<St: Store>(
    context: &RequestContext<St>,
    token: &str,
    client_id: &ClientId,
) -> Result<(), RefreshError> {
    if context.shared.config().adopt_until.is_none() {
        return Ok(());
    }
    let foreign = Foreign::new(context, token, client_id);
    let failed = |error| foreign.store_failed(error);
    let found = context.store().get(&foreign.key).await.map_err(failed)?;
    if let Some(entry) = found.filter(|entry| entry.tag == DONE) {
        let removed = context
            .store()
            .swap(&foreign.key, Some(entry.version), Change::Remove, &[]);
        // After a conflict, another request has removed the entry or adopts the token once more.
        let _ = removed.await.map_err(failed)?;
    }
    Ok(())
}

/// Returns what to do with a token that was not adopted, and is not adopted any more.
fn unadopted<St: Store>(foreign: &Foreign<'_, St>) -> Result<Resolved<St>, RefreshError> {
    if foreign.context.shared.config().hand_back {
        return Ok(Resolved::Forward);
    }
    foreign.emit(EventKind::Unknown);
    Err(RefreshError::InvalidGrant)
}
