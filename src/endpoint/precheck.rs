//! The check of a presented token against the memory of the store.

use crate::endpoint::presented::PresentedToken;
use crate::error::RefreshError;
use crate::event::EventKind;
use crate::grant::{Binding, Record};
use crate::store::{Hint, Store};

/// Rejects a request without a call to the store if the store's memory shows that the grant is
/// gone, belongs to another client or has expired.
///
/// A scope or resource beyond the grant's is not checked here, although the binding names them:
/// such a request may present an old token, which ends the grant, or the current one, which ends
/// the recovery of the previous token. Both effects need the store.
pub(crate) fn precheck<St: Store>(presented: &PresentedToken<'_, St>) -> Result<(), RefreshError> {
    let context = presented.context;
    let kind = match context.store().peek(&presented.key) {
        None => return Ok(()),
        Some(Hint::Gone) => EventKind::Unknown,
        Some(Hint::Value { tag, value }) => {
            let Ok(binding) = Binding::decode(&value) else {
                return Ok(());
            };
            let kind = if binding.client_id.as_str() != presented.client_id.as_str() {
                EventKind::ClientMismatch
            } else if binding.is_over(context.shared.now()) {
                EventKind::Expired
            } else {
                return Ok(());
            };
            // A damaged value must not reject the request here: the call to the store reports it as
            // a store failure.
            if Record::decode(&presented.key, &tag, &value).is_err() {
                return Ok(());
            }
            kind
        }
    };
    tracing::trace!(grant = ?presented.key, "rejected without a call to the store");
    presented.emit(kind);
    Err(RefreshError::InvalidGrant)
}
