//! The renewals of upstream access tokens that are running, and their results.
//!
//! They are a part of the state of a layer. `token/renew` runs them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::store::Key;

/// The result of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewed {
    /// The stored token has a new upstream access token.
    Done,
    /// The layer cannot renew this one: no link leads from its refresh token to the current one,
    /// the inner service does not accept the layer as the client, or the layer renews none.
    Impossible,
    /// The token or its grant has ended.
    Ended,
    /// The inner service has refused the request in a way that concerns no single token, or its
    /// response has no access token.
    Refused,
    /// The store or the inner service is unavailable, or takes too long.
    Unavailable,
}

/// The renewals that are running, by the key of the access token.
#[derive(Debug, Default)]
pub(crate) struct Renewals(Mutex<HashMap<Key, watch::Receiver<Option<Renewed>>>>);

impl Renewals {
    /// Locks the map. It is never held across an await.
    pub(crate) fn running(&self) -> MutexGuard<'_, HashMap<Key, watch::Receiver<Option<Renewed>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
