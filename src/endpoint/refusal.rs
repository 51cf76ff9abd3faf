//! Refused tokens: the event, the effect on the grant and the OAuth error of each refusal, and the
//! check of a presented token against the memory of the store.

use crate::cas;
use crate::endpoint::context::Outcome;
use crate::endpoint::presented::PresentedToken;
use crate::endpoint::proof::{Proof, prove};
use crate::endpoint::upstream::Inner;
use crate::endpoint::upstream_revocation;
use crate::error::RefreshError;
use crate::event::{ClientProof, EventKind, Reuse};
use crate::grant::{Binding, Record, Refusal};
use crate::store::{Entry, Hint, Store};
use crate::wire::token_request::TokenRequest;

/// Refuses a reused token, and ends its grant. If the client of the grant authenticates itself, the
/// grant ends only if the inner service [accepts](prove) the client of this request. Otherwise a
/// thief with an old token and without the credential could log the client out.
///
/// The client gets `invalid_grant`, or the response with which the inner service rejects it.
pub(crate) async fn refuse_reuse<St: Store, I: Inner>(
    presented: &PresentedToken<'_, St>,
    upstream: Box<I>,
    form: &TokenRequest,
    (entry, record): (Entry, Record),
) -> Outcome<I::ResBody, I::Error> {
    let context = presented.context;
    context.progress.begin();
    let _in_flight = context.shared.in_flight.token();
    let rotated_away_for = record.token_age(context.shared.now());
    let (client_proof, response) = if record.authenticated {
        match prove(context, upstream, form).await? {
            Proof::Proved => (ClientProof::Proved, None),
            Proof::Disproved(response) => (ClientProof::Disproved, Some(response)),
            Proof::Missing => (ClientProof::Missing, None),
        }
    } else {
        (ClientProof::NotRequired, None)
    };
    let mut ended = None;
    let kind = if client_proof.ends_grant() {
        ended = presented.end(entry).await?;
        EventKind::ReuseDetected
    } else {
        EventKind::ReuseUnproven
    };
    let generation = presented.token.generation();
    let reuse = Reuse {
        generations_behind: record.generation.saturating_sub(generation),
        rotated_away_for,
        client_proof,
    };
    context.emit_reuse(kind, presented.subject(), reuse);
    upstream_revocation::revoke_entry(&context.shared, &presented.key, ended);
    response.ok_or_else(|| RefreshError::InvalidGrant.into())
}

impl<St: Store> PresentedToken<'_, St> {
    /// Rejects a request without a call to the store if the store's memory shows that the grant is
    /// gone, belongs to another client or has expired.
    ///
    /// A scope or resource beyond the grant's is not checked here, although the binding names them:
    /// such a request may present an old token, which ends the grant, or the current one, which
    /// ends the recovery of the previous token. Both effects need the store.
    pub(crate) fn precheck(&self) -> Result<(), RefreshError> {
        let kind = match self.context.store().peek(&self.key) {
            None => return Ok(()),
            Some(Hint::Gone) => EventKind::Unknown,
            Some(Hint::Value { tag, value }) => {
                let Ok(binding) = Binding::decode(&value) else {
                    return Ok(());
                };
                let kind = if binding.client_id.as_str() != self.client_id.as_str() {
                    EventKind::ClientMismatch
                } else if binding.is_over(self.context.shared.now()) {
                    EventKind::Expired
                } else {
                    return Ok(());
                };
                // A damaged value must not reject the request here: the call to the store reports
                // it as a store failure.
                if Record::decode(&self.key, &tag, &value).is_err() {
                    return Ok(());
                }
                kind
            }
        };
        tracing::trace!(grant = ?self.key, "rejected without a call to the store");
        self.emit(kind);
        Err(RefreshError::InvalidGrant)
    }

    /// Ends the grant, which was read as `entry`, and announces that. Returns the removed entry.
    pub(crate) async fn end(&self, entry: Entry) -> Result<Option<Entry>, RefreshError> {
        let removed = cas::remove(self.context.store(), &self.key, entry).await;
        let removed = removed.map_err(|error| self.store_failed(error))?;
        self.context.announce(&self.key).await;
        Ok(removed)
    }

    /// Emits the event of a refusal and returns the error for the client. The grant stays as it is.
    pub(crate) fn refuse(&self, refusal: Refusal) -> RefreshError {
        self.emit(match refusal {
            Refusal::Unknown | Refusal::RevocationPending => EventKind::Unknown,
            Refusal::ClientMismatch => EventKind::ClientMismatch,
            Refusal::Expired => EventKind::Expired,
            Refusal::Late => EventKind::Late,
            Refusal::Forged => EventKind::Forged,
            Refusal::Ahead => EventKind::Ahead,
            // Only `refuse_reuse` ends a grant.
            Refusal::Reuse => EventKind::ReuseUnproven,
        });
        RefreshError::InvalidGrant
    }
}
