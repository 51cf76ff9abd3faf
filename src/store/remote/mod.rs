//! What the stores over a network have in common.

pub(super) mod failure;
pub(super) mod listener;
pub(super) mod pauses;
pub(super) mod printable;
pub(super) mod rehearsal;

use std::time::Duration;

use super::Lease;
use crate::clock::CENTURY;

/// The longest time to live. It is longer than a grant can live, because an entry is kept for some
/// time after its grant has expired.
const LONGEST_TTL: Duration = CENTURY.saturating_mul(2);

/// Returns a duration that a server can add to its time: at least a millisecond, and at most
/// [`LONGEST_TTL`], so that no sum overflows.
pub(super) fn bounded(time: Duration) -> Duration {
    time.clamp(Duration::from_millis(1), LONGEST_TTL)
}

/// Returns the state of a lease that a claim did not take, `left` milliseconds before it expires;
/// `None` if the claim should have taken it.
pub(super) fn not_taken(left: i64, has_tag: bool) -> Option<Lease> {
    let left = u64::try_from(left)
        .ok()
        .filter(|left| *left > 0)
        .map(Duration::from_millis);
    if has_tag {
        left.map(Lease::Held)
    } else {
        Some(Lease::OtherTag(left))
    }
}
