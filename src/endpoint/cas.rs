//! The one compare-and-swap loop: changes an entry even if other requests change it at the same
//! time.

use crate::store::{Change, Entry, Key, Store, StoreError, Swap};

/// The number of attempts. Each one that fails means that another request has changed the entry.
const ATTEMPTS: usize = 32;

/// Changes the entry under `key`, which was read as `entry`. `change` makes the change for the
/// entry that is stored. An entry that does not exist any more needs no change.
///
/// # Errors
///
/// Those of the store and of `change`, and [`StoreError::Unavailable`] if other requests have
/// changed the entry during each of the 32 attempts.
pub(crate) async fn update<St: Store>(
    store: &St,
    key: &Key,
    mut entry: Entry,
    mut change: impl FnMut(&Entry) -> Result<Change, StoreError>,
) -> Result<(), StoreError> {
    for _ in 0..ATTEMPTS {
        let next = change(&entry)?;
        match store.swap(key, Some(entry.version), next, &[]).await? {
            Swap::Swapped | Swap::Conflict(None) => return Ok(()),
            Swap::Conflict(Some(current)) => entry = current,
        }
    }
    Err(StoreError::unavailable(
        "failed to change the entry: other requests changed it during each of 32 attempts",
    ))
}

/// Removes the entry under `key`, which was read as `entry`.
pub(crate) async fn remove<St: Store>(
    store: &St,
    key: &Key,
    entry: Entry,
) -> Result<(), StoreError> {
    update(store, key, entry, |_| Ok(Change::Remove)).await
}
