use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::{Entry, Key, Version};
use crate::clock::Timestamp;

/// The leases that claims have taken since their entries were last written.
///
/// A lease belongs to one version of the record in the file. As soon as another version is
/// committed, the lease is void, so it does not matter when it is removed from this map. A reader
/// must read the lease *first* and the record afterwards. Then a lease that is not found was taken
/// later, and a lease that is found either belongs to the record or is void. In the other order, a
/// reader could miss a lease that was taken before it began.
#[derive(Default)]
pub(super) struct Leases(Mutex<HashMap<Key, Claimed>>);

/// The changes that a claim made. Not the whole entry: its value may be large, and a lease may stay
/// in memory until its entry is removed.
#[derive(Clone, Copy)]
pub(super) struct Claimed {
    /// The version of the record that was claimed.
    record: Version,
    /// The version that the claim gave the entry.
    version: Version,
    end: Option<Timestamp>,
}

impl Leases {
    pub(super) fn get(&self, key: &Key) -> Option<Claimed> {
        self.lock().get(key).copied()
    }

    /// Records that the record with the version `record` was claimed, and is now `entry`.
    pub(super) fn take(&self, key: &Key, record: Version, entry: &Entry) {
        let claimed = Claimed {
            record,
            version: entry.version,
            end: entry.lease,
        };
        self.lock().insert(*key, claimed);
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
pub(super) fn with_lease(mut entry: Entry, claimed: Option<Claimed>) -> Entry {
    if let Some(claimed) = claimed
        && claimed.record == entry.version
    {
        entry.version = claimed.version;
        entry.lease = claimed.end;
    }
    entry
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::super::ClaimTag;
    use super::*;

    #[test]
    fn a_lease_does_not_keep_the_value_in_memory() {
        let value = Bytes::from(vec![7; 9000]);
        let [written, claimed] = [1, 2].map(|number| Version::new([number; 8]));
        let record = Entry::new(written, ClaimTag::new([1; 32]), value.clone());
        let mut entry = record.clone();
        entry.version = claimed;
        entry.lease = Some(Timestamp::from_millis(5));

        let (leases, key) = (Leases::default(), Key::new([1; 32]));
        leases.take(&key, written, &entry);
        assert_eq!(with_lease(record, leases.get(&key)), entry);
        drop(entry);
        assert!(value.is_unique());
    }
}
