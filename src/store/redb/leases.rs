use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::{Entry, Key, Version};

/// The leases that claims have taken since their entries were last written.
///
/// A lease belongs to one version of the record in the file. As soon as another version is
/// committed, the lease is void, so it does not matter when it is removed from this map. A reader
/// must read the lease *first* and the record afterwards. Then a lease that is not found was taken
/// later, and a lease that is found either belongs to the record or is void. In the other order, a
/// reader could miss a lease that was taken before it began.
#[derive(Default)]
pub(super) struct Leases(Mutex<HashMap<Key, Claimed>>);

#[derive(Clone)]
pub(super) struct Claimed {
    /// The version of the record that was claimed.
    record: Version,
    /// The entry that the claim made of it. The value is that of the record.
    entry: Entry,
}

impl Leases {
    pub(super) fn get(&self, key: &Key) -> Option<Claimed> {
        self.lock().get(key).cloned()
    }

    /// Records that the record with the version `record` was claimed, and is now `entry`.
    pub(super) fn take(&self, key: &Key, record: Version, entry: Entry) {
        self.lock().insert(*key, Claimed { record, entry });
    }

    /// Removes the leases of entries that were written or removed.
    pub(super) fn forget(&self, keys: &[Key]) {
        let mut leases = self.lock();
        for key in keys {
            leases.remove(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Claimed>> {
        // Poisoning is harmless: no code between two dependent changes can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the entry of a record with the claim applied to it, if it belongs to this version.
pub(super) fn with_lease(entry: Entry, claimed: Option<Claimed>) -> Entry {
    match claimed {
        Some(claimed) if claimed.record == entry.version => claimed.entry,
        Some(_) | None => entry,
    }
}
