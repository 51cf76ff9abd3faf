use std::fmt::Debug;

use crate::store::StoreError;

/// An error of a call to a server. It quotes nothing that was sent.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(in crate::store) struct Failure<Kind: Debug> {
    kind: Kind,
    message: String,
}

impl<Kind: Copy + Debug> Failure<Kind> {
    pub(in crate::store) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    pub(in crate::store) fn kind(&self) -> Kind {
        self.kind
    }
}

impl<Kind: Copy + Debug + Send + Sync + 'static> Failure<Kind> {
    /// Returns the failure that made a call of a store fail; `None` if something else did.
    pub(in crate::store) fn of(error: &StoreError) -> Option<Self> {
        let (StoreError::Unavailable(cause) | StoreError::Corrupt(cause)) = error;
        cause.downcast_ref().cloned()
    }
}
