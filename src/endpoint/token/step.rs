use crate::clock::Timestamp;
use crate::endpoint::walk::Way;
use crate::grant::{
    Presented, Proceed, Record, Refusal, Standing, StoredGrant, Verdict, converge, decide,
    may_have_link, may_replay, without_answer,
};
use crate::store::{Claim, Lease};

use super::lease::Purpose;

/// The result of one claim, and what the request knows from its earlier claims.
pub(super) struct Claimed<'a> {
    pub(super) claim: &'a Claim,
    /// The record in the entry that the claim returned.
    pub(super) record: &'a Record,
    pub(super) presented: Presented<'a>,
    /// Whether the request presents a token from before the layer. The presented token is then the
    /// first one of the grant, and the answer that contained it is for this request, too.
    pub(super) adopted: bool,
    /// Whether the request has waited since it arrived.
    pub(super) waited: bool,
    /// Whether this claim repeats the one that took an expired lease over, after the pause.
    pub(super) repeated: bool,
    /// Whether no stored answer with the current token can be for this request: none was found, or
    /// the request cannot be replayed.
    pub(super) without_answer: bool,
    /// The state of the search along the links of the presented token. `None` if old tokens have
    /// no links.
    pub(super) way: Option<Way>,
    pub(super) now: Timestamp,
}

/// The step that follows a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Rotate, converge or recover: this request holds the lease.
    Rotate(Proceed),
    /// Look for the stored answer of the last rotation, and return it. If no answer is stored for
    /// this request, decide again.
    Replay,
    /// Follow the links of the presented token, and decide again.
    Follow,
    /// Pause and claim again: another request holds the lease.
    Wait,
    /// Keep the lease, pause for [`TAKEOVER_PAUSE`](super::lease::TAKEOVER_PAUSE) and repeat the
    /// claim: the lease replaced an expired one.
    WaitForTakeover,
    /// Claim again, with the tag of the current token: the hash of the presented token, an older
    /// one, is not the tag of the entry.
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
        let grant = StoredGrant::new(record, &claim.entry.tag);
        let standing = standing(claim);
        let mut verdict = decide(grant, presented, standing, claimed.waited, now);
        let is_current = *presented.hash == claim.entry.tag;
        if may_replay(grant, presented, now) || (claimed.adopted && is_current) {
            if !claimed.without_answer {
                return Self::Replay;
            }
            verdict = without_answer(verdict, record, standing, now);
        } else if may_have_link(grant, presented, now) {
            match claimed.way {
                Some(Way::Open) => return Self::Follow,
                Some(Way::Current) if !claimed.without_answer => return Self::Replay,
                Some(Way::Current) => verdict = Verdict::Proceed(converge(standing)),
                Some(Way::DeadEnd) | None => {}
            }
        }
        match verdict {
            Verdict::Refuse(refusal) => Self::Refuse(refusal),
            Verdict::Proceed(Proceed::Busy | Proceed::Replay) => Self::Wait,
            Verdict::Proceed(proceed) => match claim.lease {
                Lease::Taken if claim.taken_over && !claimed.repeated => Self::WaitForTakeover,
                Lease::Taken => Self::Rotate(proceed),
                Lease::OtherTag(_) if proceed != Proceed::Rotate => Self::Reclaim,
                Lease::OtherTag(_) | Lease::Held(_) => Self::Wait,
            },
        }
    }
}

/// Returns the state of the lease that a claim has found.
pub(super) fn standing(claim: &Claim) -> Standing {
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
