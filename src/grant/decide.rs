use std::time::Duration;

use super::{Previous, Record};
use crate::clock::Timestamp;
use crate::store::Tag;

/// The token that a request presents, and for whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Presented<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) generation: u32,
    pub(crate) hash: &'a Tag,
}

/// How the lease on a grant stands for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nobody holds it.
    Free,
    /// A request with the current token held it and let it run out: its instance died. The token
    /// counts as presented.
    RanOut,
    /// This request holds it.
    Ours,
    /// Another request holds it.
    Held,
}

/// What is to be done about a presented token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There is no such grant.
    Unknown,
    /// It is another client's.
    ClientMismatch,
    /// Its time is over.
    Expired,
    /// It was revoked.
    Ended,
    /// The current token: exchange it for the next one, once the lease is ours.
    Rotate,
    /// Another request has the lease: wait, then decide again.
    Busy,
    /// The previous token in its retry window: the same answer.
    Replay,
    /// The previous token, its successor never presented: rotate from it, once the lease is ours.
    Recover,
    /// An old token that an honest client may still hold: refuse it, and no more.
    Late,
    /// An old token that no honest client sends: end the grant.
    Reuse,
    /// Never issued.
    Forged,
    /// Newer than the grant: forged, or the store has lost a write.
    Ahead,
}

/// Decides about a presented token.
///
/// `current` is the hash of the grant's current token; `waited` says that the request had to wait
/// since it came in, so that the token may have been overtaken in the meantime.
pub(crate) fn decide(
    grant: Option<(&Record, &Tag)>,
    presented: Presented<'_>,
    standing: Standing,
    waited: bool,
    now: Timestamp,
) -> Verdict {
    let Some((record, current)) = grant else {
        return Verdict::Unknown;
    };
    let now = record.time(now);
    if record.binding.client_id.as_str() != presented.client_id {
        return Verdict::ClientMismatch;
    }
    if now >= record.expires_at {
        return Verdict::Expired;
    }
    if record.ended {
        return Verdict::Ended;
    }
    if presented.hash == current {
        return if standing == Standing::Held {
            Verdict::Busy
        } else {
            Verdict::Rotate
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
            Verdict::Late
        } else {
            Verdict::Reuse
        };
    }
    if presented.generation > record.generation {
        Verdict::Ahead
    } else {
        Verdict::Forged
    }
}

/// How far apart the clocks of two instances may be.
///
/// The stored answer of a rotation is there for the retry window by the store's clock. By the clock
/// of an instance the window may end this much earlier or later.
pub(crate) const SKEW: Duration = Duration::from_secs(30);

/// Returns whether the stored answer of the last rotation is for the presented token, if it still
/// exists.
///
/// Its existence decides between a replay and a recovery, not the clock of this instance: with a
/// clock that is ahead, a second tab would recover, and the token that the first tab has just
/// received would be invalid.
pub(crate) fn may_replay(
    (record, current): (&Record, &Tag),
    presented: Presented<'_>,
    standing: Standing,
    now: Timestamp,
) -> bool {
    let now = record.time(now);
    let Some(previous) = record
        .previous
        .as_ref()
        .filter(|previous| previous.sealed.is_some())
    else {
        return false;
    };
    record.binding.client_id.as_str() == presented.client_id
        && !record.ended
        && now < record.expires_at
        && *presented.hash != *current
        && *presented.hash == previous.hash
        && standing != Standing::RanOut
        && now < previous.retry_until.saturating_add(SKEW)
}

/// Returns the verdict about a token that [`may_replay`], if the stored answer does not exist.
///
/// Within [`SKEW`] of its end the retry window counts as over. Earlier than that, the answer was
/// never stored or the store has lost it, and the token is late. If the record was written in the
/// future of this instance, its clock does not tell where the window ends, and the window counts as
/// over.
pub(crate) fn without_answer(
    verdict: Verdict,
    record: &Record,
    standing: Standing,
    now: Timestamp,
) -> Verdict {
    let Some(previous) = record
        .previous
        .as_ref()
        .filter(|_| verdict == Verdict::Replay)
    else {
        return verdict;
    };
    let behind = now.saturating_add(SKEW) < record.written_at();
    let now = record.time(now);
    let open = !behind && now.saturating_add(SKEW) < previous.retry_until;
    if open || now >= previous.recover_until {
        return Verdict::Late;
    }
    if standing == Standing::Held {
        Verdict::Busy
    } else {
        Verdict::Recover
    }
}

/// What the previous token is still good for.
fn second_chance(previous: &Previous, standing: Standing, now: Timestamp) -> Option<Verdict> {
    if previous.sealed.is_none() || standing == Standing::RanOut {
        return None;
    }
    if now < previous.retry_until {
        return Some(Verdict::Replay);
    }
    if now < previous.recover_until {
        return Some(if standing == Standing::Held {
            Verdict::Busy
        } else {
            Verdict::Recover
        });
    }
    None
}
