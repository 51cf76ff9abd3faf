//! The store: one entry with sidecars, changed by the rules of [`crate::store::decide`].

use super::Bug;
use super::grant::{LEASE, Link, RETRY, SHARED, Stored, Token, WriteId, at, seconds};
use super::state::{Broken, State};
use super::task::How;
use crate::endpoint::token::step::{Claimed, Step};
use crate::endpoint::walk::Way;
use crate::grant::Presented;
use crate::store::{Change, Claim, Lease, Swap, Ttl, decide};

/// A call that changes the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Call {
    Claim { tag: Token, id: WriteId },
    Put { expected: WriteId, put: Put },
    Remove { expected: WriteId },
}

/// A new entry. Those of a commit have more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Put {
    pub(super) stored: Stored,
    pub(super) commit: Option<Commit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Commit {
    pub(super) how: How,
    pub(super) presented: Token,
    /// The entry that was claimed.
    pub(super) claimed: Stored,
    pub(super) link: Option<Link>,
    pub(super) answer: bool,
}

/// The result of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Seen {
    pub(super) lease: SeenLease,
    pub(super) taken_over: bool,
    pub(super) stored: Stored,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum SeenLease {
    Taken,
    Held,
    OtherTag { held: bool },
}

impl Seen {
    pub(super) fn claim(&self) -> Claim {
        let left = seconds(LEASE);
        let lease = match self.lease {
            SeenLease::Taken => Lease::Taken,
            SeenLease::Held => Lease::Held(left),
            SeenLease::OtherTag { held } => Lease::OtherTag(held.then_some(left)),
        };
        Claim::new(lease, self.stored.entry()).taking_over(self.taken_over)
    }

    /// Returns the step of a request that has seen this.
    pub(super) fn step(&self, request: Request) -> Step {
        let hash = request.presented.hash();
        let presented = Presented {
            client_id: "app",
            generation: request.presented.generation.into(),
            hash: &hash,
        };
        Step::after(&Claimed {
            claim: &self.claim(),
            record: &self.stored.grant.record(),
            presented,
            adopted: false,
            waited: request.waited,
            repeated: request.repeated,
            without_answer: request.without_answer,
            way: Some(request.way),
            now: at(0),
        })
    }
}

/// The knowledge of a request when it decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) presented: Token,
    pub(super) waited: bool,
    pub(super) repeated: bool,
    pub(super) without_answer: bool,
    pub(super) way: Way,
}

/// The result of a swap.
pub(super) enum Swapped {
    Done,
    Gone,
    Conflict(Stored),
}

impl Put {
    pub(super) fn entries(&self) -> impl Iterator<Item = &Stored> {
        let claimed = self.commit.as_ref().map(|commit| &commit.claimed);
        std::iter::once(&self.stored).chain(claimed)
    }

    pub(super) fn entries_mut(&mut self) -> impl Iterator<Item = &mut Stored> {
        let claimed = self.commit.as_mut().map(|commit| &mut commit.claimed);
        std::iter::once(&mut self.stored).chain(claimed)
    }

    pub(super) fn pass(&mut self, time: i32) {
        for stored in self.entries_mut() {
            stored.pass(time);
        }
        if let Some(commit) = &mut self.commit
            && let Some(link) = &mut commit.link
        {
            link.left = (link.left - time).max(1);
        }
    }
}

impl Call {
    pub(super) fn put(&self) -> Option<&Put> {
        match self {
            Self::Put { put, .. } => Some(put),
            Self::Claim { .. } | Self::Remove { .. } => None,
        }
    }

    pub(super) fn put_mut(&mut self) -> Option<&mut Put> {
        match self {
            Self::Put { put, .. } => Some(put),
            Self::Claim { .. } | Self::Remove { .. } => None,
        }
    }

    pub(super) fn claims(&self) -> Option<WriteId> {
        match self {
            Self::Claim { id, .. } => Some(*id),
            _ => None,
        }
    }

    pub(super) fn tag(&self) -> Option<Token> {
        match self {
            Self::Claim { tag, .. } => Some(*tag),
            _ => None,
        }
    }

    pub(super) fn writes(&self) -> [WriteId; 1] {
        match self {
            Self::Claim { id, .. } => [*id],
            Self::Put { expected, .. } | Self::Remove { expected } => [*expected],
        }
    }
}

impl State {
    pub(super) fn claim(&mut self, tag: Token, id: WriteId, bug: Option<Bug>) -> Option<Seen> {
        let stored = self.entry.as_mut()?;
        if bug == Some(Bug::NoLease) && stored.lease.is_some() {
            stored.lease = Some(0);
        }
        let mut entry = stored.entry();
        let claim = decide::claim(&mut entry, &tag.hash(), id.version(), seconds(LEASE), at(0));
        if entry.version != stored.version.version() {
            stored.version = id;
            stored.lease = Some(LEASE);
        }
        let lease = match claim.lease {
            Lease::Taken => SeenLease::Taken,
            Lease::Held(_) => SeenLease::Held,
            Lease::OtherTag(held) => SeenLease::OtherTag {
                held: held.is_some(),
            },
        };
        Some(Seen {
            lease,
            taken_over: claim.taken_over,
            stored: *stored,
        })
    }

    pub(super) fn put(&mut self, expected: WriteId, put: &Put, bug: Option<Bug>) -> Swapped {
        let found = self.entry;
        let expected = match found {
            Some(found) if bug == Some(Bug::NoVersionCheck) => found.version,
            _ => expected,
        };
        let ttl = match put.commit {
            Some(_) => Ttl::After(seconds(SHARED)),
            None => Ttl::Keep,
        };
        let change = Change::Put {
            entry: put.stored.entry(),
            ttl,
        };
        match decide::swap(
            found.map(|stored| stored.entry()).as_ref(),
            Some(expected.version()),
            &change,
        ) {
            Some(Swap::Swapped) => Swapped::Done,
            Some(Swap::Conflict(None)) => Swapped::Gone,
            Some(Swap::Conflict(Some(_))) => Swapped::Conflict(found.unwrap()),
            None => {
                self.entry = Some(put.stored);
                if let (Some(commit), Some(found)) = (&put.commit, found) {
                    self.committed(commit, &found, put.stored.current);
                }
                Swapped::Done
            }
        }
    }

    pub(super) fn remove(&mut self, expected: WriteId) -> Swapped {
        let entry = self.entry.map(|stored| stored.entry());
        match decide::swap(entry.as_ref(), Some(expected.version()), &Change::Remove) {
            Some(Swap::Conflict(Some(_))) => Swapped::Conflict(self.entry.unwrap()),
            Some(_) => Swapped::Done,
            None => {
                self.entry = None;
                self.links.clear();
                self.answers.clear();
                Swapped::Done
            }
        }
    }

    /// Writes the sidecars of a commit, and notes what it has done.
    fn committed(&mut self, commit: &Commit, found: &Stored, current: Token) {
        let same = found.revision() == commit.claimed.revision();
        if !same {
            // A token that a client may have does not lead to the current one any more.
            self.broke(Broken::Overwritten);
        }
        if let Some(link) = commit.link {
            self.links.retain(|known| known.of != link.of);
            self.links.push(link);
        }
        if commit.answer {
            self.answers.retain(|(token, _)| *token != current);
            self.answers.push((current, RETRY));
        }
        let mut old = vec![commit.presented];
        if commit.how != How::Converge {
            old.push(found.current);
            self.history.last = Some(commit.presented);
            self.history.presented = false;
        }
        let known = &mut self.history.old;
        known.retain(|(token, _)| !old.contains(token));
        known.extend(old.into_iter().map(|token| (token, SHARED)));
        known.sort_unstable();
        known.dedup();
    }
}
