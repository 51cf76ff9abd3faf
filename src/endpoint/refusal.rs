//! Refused tokens: the event, the effect on the grant and the OAuth error of each refusal.

use crate::codec::DecodeError;
use crate::endpoint::cas;
use crate::endpoint::context::RequestContext;
use crate::endpoint::presented::PresentedToken;
use crate::error::RefreshError;
use crate::event::EventKind;
use crate::grant::Refusal;
use crate::store::{Entry, Store, StoreError};

/// Emits the event of a refusal and returns the error for the client. Ends the grant if the refusal
/// is [`Refusal::Reuse`].
pub(crate) async fn refuse_and_end_on_reuse<St: Store>(
    exchange: &RequestContext<St>,
    presentation: &PresentedToken<'_>,
    refusal: Refusal,
    entry: Entry,
) -> RefreshError {
    if refusal == Refusal::Reuse {
        let _in_flight = exchange.shared.in_flight().token();
        if let Err(error) = cas::remove(exchange.store(), &presentation.key, entry).await {
            return exchange.store_failed(error, presentation.subject());
        }
        exchange.announce(&presentation.key).await;
    }
    refuse(exchange, presentation, refusal)
}

/// Emits the event of a refusal and returns the error for the client. The grant stays as it is.
pub(crate) fn refuse<St: Store>(
    exchange: &RequestContext<St>,
    presentation: &PresentedToken<'_>,
    refusal: Refusal,
) -> RefreshError {
    let kind = match refusal {
        Refusal::Unknown | Refusal::RevocationPending => EventKind::Unknown,
        Refusal::ClientMismatch => EventKind::ClientMismatch,
        Refusal::Expired => EventKind::Expired,
        Refusal::Late => EventKind::Late,
        Refusal::Forged => EventKind::Forged,
        Refusal::Ahead => EventKind::Ahead,
        Refusal::Reuse => EventKind::ReuseDetected,
    };
    exchange.emit(kind, presentation.subject());
    RefreshError::InvalidGrant
}

/// Returns the error for a grant whose record cannot be read, and emits the event.
pub(crate) fn unreadable<St: Store>(
    exchange: &RequestContext<St>,
    presentation: &PresentedToken<'_>,
    error: DecodeError,
) -> RefreshError {
    exchange.store_failed(StoreError::corrupt(error), presentation.subject())
}
