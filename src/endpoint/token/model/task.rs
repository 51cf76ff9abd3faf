//! A request, and the call that it makes next.

use super::grant::{Stored, Token, WriteId};
use super::state::State;
use super::store::{Call, Put, Seen};

/// The next step of a request that holds the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum How {
    Rotate,
    Converge,
    Recover,
}

/// The next call of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Phase {
    Claim,
    /// Reads the stored answer.
    Search(Seen),
    /// Reads a link.
    Walk(Seen),
    /// Has taken a lease over, and pauses before it repeats the claim.
    Pause(Seen),
    /// Calls the inner service.
    Upstream(How, Stored),
    Commit {
        expected: WriteId,
        put: Put,
        aged: bool,
    },
    Release(Then),
    /// Finds out whether a claim without a reply was granted, and releases the lease.
    CleanUp,
    /// Ends the grant.
    End {
        expected: WriteId,
    },
}

/// The step after the release of the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Then {
    ClaimAgain,
    Answer(Token),
    Refuse,
    End { expected: WriteId },
    Fail,
}

/// A lease that a request holds, and the record that releasing it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Held {
    pub(super) stored: Stored,
    pub(super) overdue: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Task {
    pub(super) instance: u8,
    /// The client that waits for the answer.
    pub(super) client: Option<u8>,
    pub(super) presented: Token,
    /// Whether the token must not be accepted any more.
    pub(super) stale: bool,
    /// Whether it was sent after the grant had ended because of reuse.
    pub(super) after_reuse: bool,
    pub(super) id: WriteId,
    pub(super) goal: Token,
    pub(super) goal_presented: bool,
    pub(super) waited: bool,
    pub(super) repeated: bool,
    /// The state of the grant in which no stored answer was found.
    pub(super) searched: Option<(Token, u8)>,
    pub(super) walk: Token,
    pub(super) dead_end: Option<Token>,
    pub(super) held: Option<Held>,
    pub(super) phase: Phase,
}

impl Task {
    pub(super) fn new(instance: u8, client: u8, token: Token, id: WriteId) -> Self {
        Self {
            instance,
            client: Some(client),
            presented: token,
            stale: false,
            after_reuse: false,
            id,
            goal: token,
            goal_presented: false,
            waited: false,
            repeated: false,
            searched: None,
            walk: token,
            dead_end: None,
            held: None,
            phase: Phase::Claim,
        }
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Stored> {
        let held = self.held.as_ref().map(|held| &held.stored);
        let (seen, put) = match &self.phase {
            Phase::Search(seen) | Phase::Walk(seen) | Phase::Pause(seen) => {
                (Some(&seen.stored), None)
            }
            Phase::Upstream(_, stored) => (Some(stored), None),
            Phase::Commit { put, .. } => (None, Some(put)),
            _ => (None, None),
        };
        let put = put.into_iter().flat_map(Put::entries);
        held.into_iter().chain(seen).chain(put)
    }

    pub(super) fn entries_mut(&mut self) -> impl Iterator<Item = &mut Stored> {
        let held = self.held.as_mut().map(|held| &mut held.stored);
        let (seen, put) = match &mut self.phase {
            Phase::Search(seen) | Phase::Walk(seen) | Phase::Pause(seen) => {
                (Some(&mut seen.stored), None)
            }
            Phase::Upstream(_, stored) => (Some(stored), None),
            Phase::Commit { put, .. } => (None, Some(put)),
            _ => (None, None),
        };
        let put = put.into_iter().flat_map(Put::entries_mut);
        held.into_iter().chain(seen).chain(put)
    }

    pub(super) fn tokens(&self) -> impl Iterator<Item = Token> {
        let answer = match self.phase {
            Phase::Release(Then::Answer(token)) => Some(token),
            _ => None,
        };
        let searched = self.searched.map(|(token, _)| token);
        let entries = self.entries().map(|stored| stored.current);
        [self.presented, self.goal, self.walk]
            .into_iter()
            .chain(self.dead_end)
            .chain(answer)
            .chain(searched)
            .chain(entries)
    }

    pub(super) fn writes(&self) -> impl Iterator<Item = WriteId> {
        let expected = match self.phase {
            Phase::Commit { expected, .. }
            | Phase::End { expected }
            | Phase::Release(Then::End { expected }) => Some(expected),
            _ => None,
        };
        [self.id].into_iter().chain(expected)
    }

    pub(super) fn pass(&mut self, time: i32) {
        if let Phase::Commit { put, aged, .. } = &mut self.phase {
            put.pass(time);
            *aged = true;
        } else {
            for stored in self.entries_mut() {
                stored.pass(time);
            }
        }
        if let Phase::Commit { .. } = self.phase
            && let Some(held) = &mut self.held
        {
            held.stored.pass(time);
        }
    }

    /// Returns the state of the grant that the commit of this request replaces.
    pub(super) fn replaces(&self) -> Option<(Token, u8)> {
        match &self.phase {
            Phase::Commit { put, .. } => put.commit.map(|commit| commit.claimed.revision()),
            _ => None,
        }
    }

    /// Marks the current token as presented when the lease is released.
    pub(super) fn mark(&mut self) {
        if let Some(held) = &mut self.held
            && held.stored.grant.previous.is_some()
        {
            held.stored.grant.presented = true;
        }
    }

    /// Returns the call that changes the entry, as a copy that may arrive later.
    pub(super) fn call(&self, state: &State) -> Option<Call> {
        Some(match self.phase {
            Phase::Claim | Phase::Pause(_) => Call::Claim {
                tag: self.goal,
                id: self.id,
            },
            Phase::Commit { expected, put, .. } => Call::Put { expected, put },
            Phase::Release(_) => {
                let Held {
                    mut stored,
                    overdue,
                } = self.held?;
                stored.version = state.new_write(overdue && self.id.recovery);
                stored.lease = overdue.then_some(0);
                let put = Put {
                    stored,
                    commit: None,
                };
                Call::Put {
                    expected: self.id,
                    put,
                }
            }
            Phase::End { expected } => Call::Remove { expected },
            Phase::Search(_) | Phase::Walk(_) | Phase::Upstream(..) | Phase::CleanUp => {
                return None;
            }
        })
    }
}
