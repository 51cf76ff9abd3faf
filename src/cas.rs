//! The one compare-and-swap loop: writes an entry even if other requests write it at the same time.

use std::time::Duration;

use tokio::time::sleep;

use crate::store::{Change, Entry, Key, Store, StoreError, Swap};

/// The number of attempts. Each one that fails means that another request has changed the entry.
const ATTEMPTS: u64 = 32;

/// After so many failed attempts, each further one waits, one millisecond longer every time.
const AT_ONCE: u64 = 4;

/// Writes the entry under `key`, which was read as `found`. `change` makes the change for the entry
/// that is stored, or returns `None` if there is nothing to write.
///
/// # Errors
///
/// Those of the store and of `change`, and [`StoreError::Unavailable`] if other requests have
/// changed the entry during each of the 32 attempts.
pub(crate) async fn write<St: Store>(
    store: &St,
    key: &Key,
    mut found: Option<Entry>,
    mut change: impl FnMut(Option<&Entry>) -> Result<Option<Change>, StoreError>,
) -> Result<(), StoreError> {
    for attempt in 0..ATTEMPTS {
        let Some(next) = change(found.as_ref())? else {
            return Ok(());
        };
        let expected = found.as_ref().map(|entry| entry.version);
        match store.swap(key, expected, next, &[]).await? {
            Swap::Swapped => return Ok(()),
            Swap::Conflict(current) => found = current,
        }
        if attempt >= AT_ONCE {
            sleep(Duration::from_millis(attempt)).await;
        }
    }
    Err(StoreError::unavailable(
        "failed to change the entry: other requests changed it during each of 32 attempts",
    ))
}

/// Removes the entry under `key`, which was read as `entry`. Returns the entry that was removed, or
/// `None` if it was found to be missing. If another request removes it at the same time, both may
/// get it: removing an entry that does not exist succeeds.
pub(crate) async fn remove<St: Store>(
    store: &St,
    key: &Key,
    entry: Entry,
) -> Result<Option<Entry>, StoreError> {
    let mut removed = None;
    write(store, key, Some(entry), |found| {
        removed = found.cloned();
        Ok(found.map(|_| Change::Remove))
    })
    .await?;
    Ok(removed)
}
