//! The revocation of a refresh token. It ends the grant.

use super::forward::{PENDING_FOR, Revocation, forward, revoked, unproven};
use crate::endpoint::context::{Failure, Outcome, RequestContext};
use crate::endpoint::presented::PresentedToken;
use crate::endpoint::refusal::refuse_reuse;
use crate::endpoint::sessions;
use crate::endpoint::upstream::Inner;
use crate::endpoint::upstream_revocation;
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
    context: &RequestContext<St>,
    upstream: Box<I>,
    form: &TokenRequest,
    token: RefreshToken,
    client_id: &ClientId,
) -> Outcome<I::ResBody, I::Error> {
    let presented = PresentedToken::new(context, token, client_id);
    context.progress.begin();
    let _in_flight = context.shared.in_flight.token();
    let (entry, record, current) = match find(&presented).await? {
        Found::Grant(entry, record, current) => (entry, record, current),
        Found::Late(entry, record) => {
            return end_by_late_token(&presented, upstream, form, entry, &record).await;
        }
        Found::Reused(entry, record) => {
            let found = (entry, record);
            let refused = refuse_reuse(&presented, upstream, form, found).await;
            return match refused {
                Err(Failure::Refused(RefreshError::InvalidGrant)) => Ok(revoked()),
                refused => refused,
            };
        }
        Found::Nothing => return Ok(revoked()),
    };
    let sealer = Sealer::new(current.secret());
    let unsealed = presented.unseal(&sealer, &record);
    let upstream_token = unsealed.ok_or_else(|| presented.damaged())?;
    let profile = presented.open_profile(&sealer, &record);
    let revocation = Revocation {
        key: &presented.key,
        entry,
        upstream_token,
        needs_proof: record.authenticated,
        pending: |entry: &Entry| pending(&presented, entry),
        event: EventKind::Revoked,
        subject: presented.subject(),
    };
    let revoked = forward(context, upstream, form, revocation).await;
    if revoked
        .as_ref()
        .is_ok_and(|response| response.status().is_success())
        && let Some(profile) = profile
    {
        sessions::forget(&context.shared, profile.subject, presented.key);
    }
    revoked
}

/// Returns the change that marks the grant as revocation pending.
fn pending<St: Store>(
    presented: &PresentedToken<'_, St>,
    entry: &Entry,
) -> Result<Change, StoreError> {
    let shared = &presented.context.shared;
    let key = &presented.key;
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

/// Ends the grant of an old token within the retry window that does not lead to the current one. A
/// refresh with such a token is only rejected, because a conforming client may still send one. A
/// revocation ends the grant with any of its tokens. This token cannot open the upstream token, so
/// the revocation is not forwarded: only the revocation key can open it. The inner service is asked
/// for the proof of the client, if the grant needs one.
async fn end_by_late_token<St: Store, I: Inner>(
    presented: &PresentedToken<'_, St>,
    upstream: Box<I>,
    form: &TokenRequest,
    entry: Entry,
    record: &Record,
) -> Outcome<I::ResBody, I::Error> {
    let context = presented.context;
    if record.authenticated
        && let Some(response) = unproven(context, upstream, form, presented.subject()).await?
    {
        return Ok(response);
    }
    let removed = presented.end(entry).await?;
    presented.emit(EventKind::Revoked);
    upstream_revocation::revoke_entry(&context.shared, &presented.key, removed);
    Ok(revoked())
}

/// The grant of a token to be revoked.
#[allow(clippy::large_enum_variant, reason = "made once and matched at once")]
enum Found {
    /// The grant and its current token, to which the token leads.
    Grant(Entry, Record, RefreshToken),
    /// The token is an older one, within the retry window.
    Late(Entry, Record),
    /// The token is reused.
    Reused(Entry, Record),
    /// The token is invalid or already revoked, which is not an error (RFC 7009 §2.2).
    Nothing,
}

/// Reads the grant to revoke, and decides about the token. Emits an event if the grant does not
/// exist.
async fn find<St: Store>(presented: &PresentedToken<'_, St>) -> Result<Found, RefreshError> {
    if presented.precheck().is_err() {
        return Ok(Found::Nothing);
    }
    let found = presented.context.store().get(&presented.key).await;
    let Some(entry) = found.map_err(|error| presented.store_failed(error))? else {
        let _ = presented.refuse(Refusal::Unknown);
        return Ok(Found::Nothing);
    };
    let (record, verdict) = presented.decide(&entry)?;
    // A pending revocation is forwarded again, if the token is the current or the previous one.
    let current = match verdict {
        Verdict::Proceed(_) | Verdict::Refuse(Refusal::RevocationPending) => {
            presented.current_token(&record, &entry.tag).ok()
        }
        Verdict::Refuse(Refusal::Late | Refusal::Reuse) => {
            walk::follow(presented, &record, &entry.tag).await?
        }
        Verdict::Refuse(_) => None,
    };
    if let Some(current) = current {
        return Ok(Found::Grant(entry, record, current));
    }
    Ok(match verdict {
        Verdict::Proceed(_) => return Err(presented.damaged()),
        Verdict::Refuse(Refusal::Late) => Found::Late(entry, record),
        Verdict::Refuse(Refusal::Reuse) => Found::Reused(entry, record),
        Verdict::Refuse(refusal) => {
            let _ = presented.refuse(refusal);
            Found::Nothing
        }
    })
}
