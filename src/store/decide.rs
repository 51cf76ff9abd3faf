//! The rules of [`Store::swap`] and [`Store::claim`], as functions without I/O.
//!
//! A store that reads and writes an entry in one atomic step (under a lock, or in a transaction)
//! can decide with them, and has nothing to implement but reading and writing:
//!
//! 1. Call [`check_sidecars()`], in a `swap`.
//! 2. Read the entry. An expired entry is absent.
//! 3. Call [`swap()`] or [`claim()`].
//! 4. Write what it says, in the same atomic step.
//!
//! ```
//! use std::collections::HashMap;
//! use tower_oauth_refresh::store::{Change, Entry, Key, Swap, Ttl, Version, decide};
//!
//! /// A store without expiry and sidecars: entries in a map that one thread uses.
//! #[derive(Default)]
//! struct Entries(HashMap<Key, Entry>);
//!
//! impl Entries {
//!     fn swap(&mut self, key: Key, expected: Option<Version>, change: Change) -> Swap {
//!         if let Some(swap) = decide::swap(self.0.get(&key), expected, &change) {
//!             return swap;
//!         }
//!         match change {
//!             Change::Put { entry, .. } => self.0.insert(key, entry),
//!             Change::Remove => self.0.remove(&key),
//!         };
//!         Swap::Swapped
//!     }
//! }
//!
//! # use std::time::Duration;
//! # use bytes::Bytes;
//! # use tower_oauth_refresh::store::ClaimTag;
//! let mut entries = Entries::default();
//! let (key, version) = (Key::new([1; 32]), Version::new([1; 8]));
//! let entry = Entry::new(version, ClaimTag::new([1; 32]), Bytes::from_static(b"value"));
//! let put = Change::Put { entry: entry.clone(), ttl: Ttl::After(Duration::from_secs(60)) };
//! assert_eq!(entries.swap(key, None, put.clone()), Swap::Swapped);
//! // The call is repeated: its change has been made.
//! assert_eq!(entries.swap(key, None, put), Swap::Swapped);
//! // The entry has another version than the caller expects.
//! let expected = Some(Version::new([9; 8]));
//! assert_eq!(entries.swap(key, expected, Change::Remove), Swap::Conflict(Some(entry)));
//! ```
//!
//! [`Store::swap`]: super::Store::swap
//! [`Store::claim`]: super::Store::claim

use std::time::Duration;

use super::{
    Change, Claim, ClaimTag, Entry, Lease, MAX_SIDECARS_PER_SWAP, Sidecar, StoreError, Swap, Ttl,
    Version,
};
use crate::clock::Timestamp;

/// The most sidecars of one entry, so that a client that rotates in a loop does not fill the store.
#[cfg(any(feature = "memory", feature = "redb", feature = "conformance"))]
pub(super) const MAX_SIDECARS: usize = 128;

/// Checks the number of sidecars of a [`Store::swap`](super::Store::swap). A store calls it before
/// it changes anything.
///
/// # Errors
///
/// [`StoreError::Unavailable`] if there are more than [`MAX_SIDECARS_PER_SWAP`].
pub fn check_sidecars(sidecars: &[Sidecar]) -> Result<(), StoreError> {
    if sidecars.len() <= MAX_SIDECARS_PER_SWAP {
        return Ok(());
    }
    Err(StoreError::unavailable(format!(
        "a swap writes at most {MAX_SIDECARS_PER_SWAP} sidecars, not {}",
        sidecars.len()
    )))
}

/// Decides a [`Store::swap`](super::Store::swap) of an entry that is now `current`; `None` if it is
/// absent or has expired.
///
/// Returns `None` if the caller must make `change`, write the sidecars, and return
/// [`Swap::Swapped`]. Otherwise returns the result of the call, which changes nothing:
///
/// | `current` | `change` | result |
/// | --- | --- | --- |
/// | absent | [`Change::Remove`] | [`Swap::Swapped`], the entry is removed already |
/// | absent | [`Change::Put`], nothing expected, [`Ttl::After`] | make the change |
/// | absent | any other [`Change::Put`] | [`Swap::Conflict`] with `None` |
/// | has the version of the new entry | [`Change::Put`] | [`Swap::Swapped`], the change is made already |
/// | has the version `expected` | any | make the change |
/// | has another version | any | [`Swap::Conflict`] with `current` |
#[must_use = "`None` means that the change must be made"]
pub fn swap(current: Option<&Entry>, expected: Option<Version>, change: &Change) -> Option<Swap> {
    match (current, change) {
        (None, Change::Remove) => Some(Swap::Swapped),
        // An absent entry has no expiry to keep.
        (None, Change::Put { ttl, .. }) => {
            (expected.is_some() || *ttl == Ttl::Keep).then_some(Swap::Conflict(None))
        }
        (Some(current), Change::Put { entry, .. }) if current.version == entry.version => {
            Some(Swap::Swapped)
        }
        (Some(current), _) => {
            (expected != Some(current.version)).then(|| Swap::Conflict(Some(current.clone())))
        }
    }
}

/// Decides a [`Store::claim`](super::Store::claim) of `entry`, which exists and has not expired, at
/// the time `now` of the clock of the store. Returns the result of the call.
///
/// If the lease is taken now, `entry` gets the new `version`, and a lease that expires after
/// `lease`. The caller must then write it, and keep its expiry. Otherwise `entry` does not change,
/// so a comparison of its version before and after the call shows whether to write it:
///
/// ```
/// use std::time::Duration;
/// use bytes::Bytes;
/// use tower_oauth_refresh::Timestamp;
/// use tower_oauth_refresh::store::{ClaimTag, Entry, Lease, Version, decide};
///
/// let tag = ClaimTag::new([1; 32]);
/// let mut entry = Entry::new(Version::new([1; 8]), tag, Bytes::new());
/// let now = Timestamp::from_millis(1_000_000);
/// let lease = Duration::from_secs(30);
///
/// let before = entry.version;
/// let claim = decide::claim(&mut entry, &tag, Version::new([2; 8]), lease, now);
/// assert_eq!(claim.lease, Lease::Taken);
/// assert_ne!(entry.version, before, "the entry must be written");
///
/// let before = entry.version;
/// let claim = decide::claim(&mut entry, &tag, Version::new([3; 8]), lease, now);
/// assert_eq!(claim.lease, Lease::Held(lease));
/// assert_eq!(entry.version, before, "nothing has changed");
/// ```
///
/// An `entry` that already has the version `version` was claimed by an earlier copy of the call:
/// its lease counts as [`Lease::Taken`].
#[must_use = "the caller of `Store::claim` needs the state of the lease"]
pub fn claim(
    entry: &mut Entry,
    tag: &ClaimTag,
    version: Version,
    lease: Duration,
    now: Timestamp,
) -> Claim {
    let held = entry
        .lease
        .map(|end| end.saturating_since(now))
        .filter(|left| !left.is_zero());
    let mut taken_over = false;
    let outcome = if entry.version == version {
        Lease::Taken
    } else if entry.tag != *tag {
        Lease::OtherTag(held)
    } else if let Some(left) = held {
        Lease::Held(left)
    } else {
        taken_over = entry.lease.is_some();
        entry.version = version;
        entry.lease = Some(now.saturating_add(lease));
        Lease::Taken
    };
    Claim::new(outcome, entry.clone()).taking_over(taken_over)
}
