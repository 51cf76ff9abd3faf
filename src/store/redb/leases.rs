use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::{Entry, Key, Version};
use crate::clock::Timestamp;

/// The leases that claims have taken since their entry was written last.
///
/// A lease belongs to one version of the record in the file. As soon as another one is committed it
/// counts for nothing, so it does not matter when it is dropped. Who reads an entry must look here
/// *first* and read the record afterwards: then a lease that is not found was taken later, and one
/// that is found is either still that of the record or void.
#[derive(Default)]
pub(super) struct Leases(Mutex<HashMap<Key, Claimed>>);

#[derive(Clone, Copy)]
pub(super) struct Claimed {
    /// The version of the record that was claimed.
    record: Version,
    /// The version that the claim has given the entry.
    version: Version,
    end: Timestamp,
}

impl Claimed {
    /// The entry as the claim has left it, if it was of this record.
    pub(super) fn apply(self, entry: &mut Entry) {
        if self.record == entry.version {
            entry.version = self.version;
            entry.lease = Some(self.end);
        }
    }
}

impl Leases {
    pub(super) fn get(&self, key: &Key) -> Option<Claimed> {
        self.lock().get(key).copied()
    }

    /// Notes that the record of this version now stands as `entry`.
    pub(super) fn take(&self, key: &Key, record: Version, entry: &Entry) {
        if let Some(end) = entry.lease {
            self.lock().insert(
                *key,
                Claimed {
                    record,
                    version: entry.version,
                    end,
                },
            );
        }
    }

    /// Forgets the leases on what has been written anew or removed.
    pub(super) fn forget(&self, keys: &[Key]) {
        let mut leases = self.lock();
        for key in keys {
            leases.remove(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Claimed>> {
        // Nothing that can panic stands between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
