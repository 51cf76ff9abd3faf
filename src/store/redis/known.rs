use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::Key;

/// The number of places. Together they take a mebibyte of memory.
const PLACES: usize = 1 << 17;

/// Keys that had an entry when this instance last claimed or wrote them. The table has a fixed
/// size: a key may displace another one.
///
/// With `WAIT`, even a claim that finds no entry delays the calls behind it. So the store first
/// reads a key that is not in this table, and claims it only if it has an entry. A client can then
/// cause a claim of an absent key only once for each entry that was removed or has expired.
pub(super) struct Known(Box<[AtomicU64]>);

impl Known {
    pub(super) fn new() -> Self {
        Self((0..PLACES).map(|_| AtomicU64::new(0)).collect())
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.place(key)
            .is_some_and(|(place, print)| place.load(Ordering::Relaxed) == print)
    }

    /// Remembers that the key has an entry, or that it has none.
    pub(super) fn set(&self, key: &Key, exists: bool) {
        let Some((place, print)) = self.place(key) else {
            return;
        };
        if exists {
            place.store(print, Ordering::Relaxed);
        } else {
            // Another key may have the place.
            let _ = place.compare_exchange(print, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Returns the place of a key and its fingerprint there. Keys are hashes, so their bytes are
    /// uniform.
    fn place(&self, key: &Key) -> Option<(&AtomicU64, u64)> {
        let (index, rest) = key.as_bytes().split_first_chunk::<8>()?;
        let print = rest.first_chunk::<8>()?;
        let index = usize::try_from(u64::from_be_bytes(*index) % PLACES as u64).ok()?;
        Some((self.0.get(index)?, u64::from_be_bytes(*print) | 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_until_it_is_absent_or_displaced() {
        let known = Known::new();
        let key = |index: u8, print: u8| {
            let mut bytes = [0; 32];
            (bytes[7], bytes[8]) = (index, print);
            Key::new(bytes)
        };
        let (one, same_place, other) = (key(1, 2), key(1, 4), key(3, 2));
        assert!(!known.contains(&one));
        known.set(&one, true);
        known.set(&same_place, false);
        known.set(&other, false);
        assert!(known.contains(&one) && !known.contains(&same_place) && !known.contains(&other));
        known.set(&same_place, true);
        assert!(!known.contains(&one) && known.contains(&same_place));
        known.set(&same_place, false);
        assert!(!known.contains(&same_place));
        assert!(!known.contains(&Key::new([0; 32])), "an empty place");
    }
}
