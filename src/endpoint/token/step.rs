use crate::clock::Timestamp;
use crate::grant::{
    Presented, Proceed, Record, Refusal, Standing, StoredGrant, Verdict, decide, may_replay,
    without_answer,
};
use crate::store::{Claim, Lease};

use super::lease::Purpose;

/// The result of one claim, and what the request knows from its earlier claims.
pub(super) struct Claimed<'a> {
    pub(super) claim: &'a Claim,
    /// The record in the entry that the claim returned.
    pub(super) record: &'a Record,
    pub(super) presented: Presented<'a>,
    /// Whether the request has waited since it arrived.
    pub(super) waited: bool,
    /// Whether this claim repeats the one that took an expired lease over, after the pause.
    pub(super) repeated: bool,
    /// Whether the stored answer that contains the current token was looked for in vain.
    pub(super) without_answer: bool,
    pub(super) now: Timestamp,
}

/// The step that follows a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Rotate, or recover: this request holds the lease.
    Rotate,
    /// Replay the stored answer of the last rotation. If it does not exist, claim again.
    Replay {
        /// Whether the retry window is open. An answer to a different request then means that the
        /// token is late.
        in_window: bool,
    },
    /// Pause and claim again: another request holds the lease.
    Wait,
    /// Keep the lease, pause for [`TAKEOVER_PAUSE`](super::lease::TAKEOVER_PAUSE) and repeat the
    /// claim: the lease replaced an expired one.
    WaitForTakeover,
    /// Claim again, with the tag of the current token: a recovery presents the previous token,
    /// whose hash is not the tag of the entry.
    Reclaim,
    /// Refuse the token.
    Refuse(Refusal),
}

impl Step {
    /// Returns the step that follows a claim.
    pub(super) fn after(claimed: &Claimed<'_>) -> Self {
        let Claimed {
            claim,
            record,
            presented,
            now,
            ..
        } = *claimed;
        let grant = StoredGrant {
            record,
            current: &claim.entry.tag,
        };
        let standing = standing(claim);
        let mut verdict = decide(grant, presented, standing, claimed.waited, now);
        if may_replay(grant, presented, standing, now) {
            if !claimed.without_answer {
                return Self::Replay {
                    in_window: verdict == Verdict::Proceed(Proceed::Replay),
                };
            }
            verdict = without_answer(verdict, record, standing, now);
        }
        match verdict {
            Verdict::Refuse(refusal) => Self::Refuse(refusal),
            Verdict::Proceed(Proceed::Rotate | Proceed::Recover) if claim.lease == Lease::Taken => {
                if claim.taken_over && !claimed.repeated {
                    Self::WaitForTakeover
                } else {
                    Self::Rotate
                }
            }
            Verdict::Proceed(Proceed::Recover) if matches!(claim.lease, Lease::OtherTag(_)) => {
                Self::Reclaim
            }
            Verdict::Proceed(_) => Self::Wait,
        }
    }
}

fn standing(claim: &Claim) -> Standing {
    match claim.lease {
        Lease::Taken => Standing::Ours,
        Lease::Held(_) | Lease::OtherTag(Some(_)) => Standing::Held,
        Lease::OtherTag(None) => match claim.entry.lease {
            Some(_) if Purpose::of(claim.entry.version) == Purpose::Rotation => Standing::RanOut,
            _ => Standing::Free,
        },
    }
}

#[cfg(test)]
mod tests;
