use super::Presentation;
use crate::error::Error;
use crate::event::EventKind;
use crate::exchange::Exchange;
use crate::grant::{Binding, Record};
use crate::store::{Hint, Store};

/// Refuses without a trip to the store what memory knows to be refused.
///
/// A scope or a resource beyond the grant's is not among it, though the binding tells it: the token
/// may be an old one, whose reuse ends the grant, or the current one, after which the previous one
/// is forgotten.
pub(crate) fn refuse_by_hint<St: Store>(
    exchange: &Exchange<St>,
    presentation: &Presentation<'_>,
) -> Result<(), Error> {
    let kind = match exchange.store().peek(&presentation.key) {
        None => return Ok(()),
        Some(Hint::Ended) => EventKind::Unknown,
        Some(Hint::Value { tag, value }) => {
            let Ok(binding) = Binding::decode(&value) else {
                return Ok(());
            };
            let kind = if binding.client_id.as_str() != presentation.client_id.as_str() {
                EventKind::ClientMismatch
            } else if binding.is_over(exchange.shared.now()) {
                EventKind::Expired
            } else {
                return Ok(());
            };
            // What is damaged refuses nobody: that is a failure of the store, and for the operator
            // to be told of.
            if Record::decode(&presentation.key, &tag, &value).is_err() {
                return Ok(());
            }
            kind
        }
    };
    tracing::trace!(grant = ?presentation.key, "refused without a trip to the store");
    exchange.emit(kind, presentation.subject());
    Err(Error::InvalidGrant)
}
