//! The rules of `swap` and `claim`, for the stores that decide in this process.

use std::time::Duration;

use super::{Change, Claim, Entry, Lease, Swap, Tag, Ttl, Version};
use crate::clock::Timestamp;

/// The most sidecars of one entry, so that a client that rotates in a loop does not fill the store.
pub(super) const BESIDES: usize = 8;

/// Returns the result of a swap that finds `current`; `None` if the change must be made.
pub(super) fn answer(
    current: Option<&Entry>,
    expected: Option<Version>,
    change: &Change,
) -> Option<Swap> {
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

/// Decides a claim. Changes `entry` if the lease is taken now.
pub(super) fn claim(
    entry: &mut Entry,
    tag: &Tag,
    version: Version,
    lease: Duration,
    now: Timestamp,
) -> Claim {
    let held = entry
        .lease
        .map(|end| end.saturating_since(now))
        .filter(|left| !left.is_zero());
    let mut ran_out = false;
    let outcome = if entry.version == version {
        Lease::Taken
    } else if entry.tag != *tag {
        Lease::OtherTag(held)
    } else if let Some(left) = held {
        Lease::Held(left)
    } else {
        ran_out = entry.lease.is_some();
        entry.version = version;
        entry.lease = Some(now.saturating_add(lease));
        Lease::Taken
    };
    Claim::new(outcome, entry.clone()).taking_over(ran_out)
}
