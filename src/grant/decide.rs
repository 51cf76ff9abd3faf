use std::time::Duration;

use super::{Previous, Record};
use crate::clock::Timestamp;
use crate::store::ClaimTag;

/// A grant as it is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StoredGrant<'a> {
    pub(crate) record: &'a Record,
    /// The hash of the current token.
    pub(crate) current: &'a ClaimTag,
}

/// The token that a request presents, and the client that presents it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Presented<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) generation: u32,
    pub(crate) hash: &'a ClaimTag,
}

/// The state of the lease on a grant, as seen by one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// No request holds it.
    Free,
    /// A request with the current token held it until it expired, for example because its instance
    /// crashed. The current token counts as presented.
    RanOut,
    /// This request holds it.
    Ours,
    /// Another request holds it.
    Held,
}

/// The decision about a presented token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Proceed(Proceed),
    Refuse(Refusal),
}

/// The ways to go on with a token that is not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proceed {
    /// The current token: rotate, once this request holds the lease.
    Rotate,
    /// Another request holds the lease: wait, then decide again.
    Busy,
    /// The previous token in the retry window: return the stored answer of the last rotation.
    Replay,
    /// The previous token in the recovery window, its successor never presented: rotate from it,
    /// once this request holds the lease.
    Recover,
}

/// The reasons to refuse a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The grant does not exist. The claim shows this, so [`decide`] never returns it.
    Unknown,
    /// The grant belongs to another client.
    ClientMismatch,
    /// The grant has expired.
    Expired,
    /// The grant was revoked, and the revocation is pending.
    RevocationPending,
    /// An old token that a conforming client may still send. The grant goes on.
    Late,
    /// An old token that no conforming client sends. The grant ends.
    Reuse,
    /// A token that was never issued.
    Forged,
    /// A token that is newer than the grant. It is forged, or the store has lost a write.
    Ahead,
}

/// Decides about a presented token of a grant that exists.
///
/// The rules are tried in this order, and the first one that applies decides:
///
/// | | the grant | the presented token | the lease | the time | verdict |
/// | --- | --- | --- | --- | --- | --- |
/// | 1 | belongs to another client | | | | [`ClientMismatch`](Refusal::ClientMismatch) |
/// | 2 | | | | `expires_at` or later | [`Expired`](Refusal::Expired) |
/// | 3 | has a pending revocation | | | | [`RevocationPending`](Refusal::RevocationPending) |
/// | 4 | | is current | held by another request | | [`Busy`](Proceed::Busy) |
/// | 5 | | is current | otherwise | | [`Rotate`](Proceed::Rotate) |
/// | 6 | current token not presented | is previous | | before `retry_until` | [`Replay`](Proceed::Replay) |
/// | 7 | current token not presented | is previous | held by another request | before `recover_until` | [`Busy`](Proceed::Busy) |
/// | 8 | current token not presented | is previous | otherwise | before `recover_until` | [`Recover`](Proceed::Recover) |
/// | 9 | | is previous or older | | before `retry_until`, or `waited` | [`Late`](Refusal::Late) |
/// | 10 | | is previous or older | | otherwise | [`Reuse`](Refusal::Reuse) |
/// | 11 | | is of a later generation than the grant | | | [`Ahead`](Refusal::Ahead) |
/// | 12 | | is any other token | | | [`Forged`](Refusal::Forged) |
///
/// - `current` is the hash of the current token. A token is current or previous by its hash, and
///   older if its generation is at least two below that of the grant. The hash of an older token is
///   not stored, so its generation decides.
/// - The current token counts as presented if the record says so (`previous.sealed` is `None`), or
///   if a request with the current token let its lease expire ([`Standing::RanOut`]).
/// - `retry_until` and `recover_until` are those of the previous token. A grant that was never
///   rotated has neither a previous nor an older token.
/// - `waited` says that the request has waited since it arrived. Its token may have been rotated
///   away in the meantime, so an old token is late and not reuse.
/// - The time is `now`, but never earlier than the record was written ([`Record::time`]).
pub(crate) fn decide(
    grant: StoredGrant<'_>,
    presented: Presented<'_>,
    standing: Standing,
    waited: bool,
    now: Timestamp,
) -> Verdict {
    let StoredGrant { record, current } = grant;
    let now = record.time(now);
    if record.binding.client_id.as_str() != presented.client_id {
        return Verdict::Refuse(Refusal::ClientMismatch);
    }
    if now >= record.expires_at {
        return Verdict::Refuse(Refusal::Expired);
    }
    if record.revocation_pending {
        return Verdict::Refuse(Refusal::RevocationPending);
    }
    if presented.hash == current {
        return if standing == Standing::Held {
            Verdict::Proceed(Proceed::Busy)
        } else {
            Verdict::Proceed(Proceed::Rotate)
        };
    }
    let previous = record.previous.as_ref();
    let old = if let Some(previous) = previous.filter(|previous| *presented.hash == previous.hash) {
        if let Some(verdict) = second_chance(previous, standing, now) {
            return verdict;
        }
        true
    } else {
        presented
            .generation
            .checked_add(1)
            .is_some_and(|next| next < record.generation)
    };
    if old {
        let windowed = previous.is_some_and(|previous| now < previous.retry_until);
        return if windowed || waited {
            Verdict::Refuse(Refusal::Late)
        } else {
            Verdict::Refuse(Refusal::Reuse)
        };
    }
    if presented.generation > record.generation {
        Verdict::Refuse(Refusal::Ahead)
    } else {
        Verdict::Refuse(Refusal::Forged)
    }
}

/// The greatest expected difference between the clocks of two instances.
///
/// The store keeps the stored answer of a rotation for the retry window, by its own clock. By the
/// clock of an instance, the window may end this much earlier or later.
pub(crate) const SKEW: Duration = Duration::from_secs(30);

/// Returns whether the stored answer of the last rotation is for the presented token, if it still
/// exists.
///
/// The existence of that answer decides between replay and recovery, not the clock of this
/// instance. If the clock decided and was ahead, the request of a second browser tab would recover,
/// and the token that the first tab has just received would become invalid.
pub(crate) fn may_replay(
    grant: StoredGrant<'_>,
    presented: Presented<'_>,
    standing: Standing,
    now: Timestamp,
) -> bool {
    let StoredGrant { record, current } = grant;
    let now = record.time(now);
    let Some(previous) = record
        .previous
        .as_ref()
        .filter(|previous| previous.sealed.is_some())
    else {
        return false;
    };
    record.binding.client_id.as_str() == presented.client_id
        && !record.revocation_pending
        && now < record.expires_at
        && *presented.hash != *current
        && *presented.hash == previous.hash
        && standing != Standing::RanOut
        && now < previous.retry_until.saturating_add(SKEW)
}

/// Returns the verdict about a token for which [`may_replay`] returned true, if the stored answer
/// does not exist.
///
/// If the retry window ends within [`SKEW`], it counts as over. Earlier than that, the answer was
/// never stored or the store has lost it, and the token is late. If the record was written in the
/// future of this instance, the clock of this instance does not show where the window ends, and the
/// window counts as over.
pub(crate) fn without_answer(
    verdict: Verdict,
    record: &Record,
    standing: Standing,
    now: Timestamp,
) -> Verdict {
    let Some(previous) = record
        .previous
        .as_ref()
        .filter(|_| verdict == Verdict::Proceed(Proceed::Replay))
    else {
        return verdict;
    };
    let behind = now.saturating_add(SKEW) < record.written_at();
    let now = record.time(now);
    let open = !behind && now.saturating_add(SKEW) < previous.retry_until;
    if open || now >= previous.recover_until {
        return Verdict::Refuse(Refusal::Late);
    }
    if standing == Standing::Held {
        Verdict::Proceed(Proceed::Busy)
    } else {
        Verdict::Proceed(Proceed::Recover)
    }
}

/// Returns the verdict for a previous token that can still be replayed or recovered, otherwise
/// `None`.
fn second_chance(previous: &Previous, standing: Standing, now: Timestamp) -> Option<Verdict> {
    if previous.sealed.is_none() || standing == Standing::RanOut {
        return None;
    }
    if now < previous.retry_until {
        return Some(Verdict::Proceed(Proceed::Replay));
    }
    if now < previous.recover_until {
        return Some(if standing == Standing::Held {
            Verdict::Proceed(Proceed::Busy)
        } else {
            Verdict::Proceed(Proceed::Recover)
        });
    }
    None
}
