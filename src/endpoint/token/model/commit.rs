//! The commit of a rotation, convergence or recovery.

use super::grant::{Grant, Link, SHARED, Stored, at, seconds, windows};
use super::state::State;
use super::store::{Commit, Put, Swapped};
use super::task::{How, Phase, Task};
use super::{Bug, Layer};
use crate::grant::{
    Presented, Previous, Proceed, Renewal, Standing, StoredGrant, Verdict, decide, may_have_link,
    without_answer,
};

impl Layer {
    /// Returns the write of a rotation, convergence or recovery.
    pub(super) fn prepare(&self, state: &State, task: &Task, how: How, claimed: Stored) -> Put {
        let record = claimed.grant.record();
        let current = claimed.current;
        let next = match how {
            How::Converge => current,
            How::Rotate | How::Recover => {
                let generation = record.next_generation(how == How::Recover);
                state.new_token(u8::try_from(generation).unwrap())
            }
        };
        let presented = task.presented.hash();
        let from = record.link_from(&presented).is_some();
        let record = record.renewed(Renewal {
            now: at(0),
            sealed: Grant::seal(state.new_seal()),
            revocable: None,
            idle_lifetime: seconds(100_000_000),
            renewed: true,
            upstream_lifetime: None,
            authorization_lifetime: None,
        });
        let link_to = |of, left| Link { of, next, left };
        let (link, record) = match how {
            How::Converge => {
                let link = (!from).then(|| link_to(task.presented, SHARED));
                (
                    link,
                    record.converged(&presented, &current.hash(), at(0), windows()),
                )
            }
            How::Rotate | How::Recover => {
                let link = match (how, claimed.grant.previous) {
                    (How::Recover, _) => Some(link_to(current, SHARED)),
                    (_, Some(old)) if self.bug == Some(Bug::LinkOutlivesItsWindow) => Some(Link {
                        of: old.token,
                        next: old.next,
                        left: 10 * SHARED,
                    }),
                    (_, Some(old)) if old.shared > 0 => Some(Link {
                        of: old.token,
                        next: old.next,
                        left: old.shared,
                    }),
                    _ => None,
                };
                let leads_to = match (how, claimed.grant.previous) {
                    (How::Recover, Some(old)) if self.bug == Some(Bug::LinkToDroppedToken) => {
                        old.next
                    }
                    _ => next,
                };
                let sealed = leads_to.hash().as_bytes()[..2].to_vec().into();
                let previous = Previous::new(presented, at(0), windows(), Some(sealed));
                (link, record.rotated(next.generation.into(), previous))
            }
        };
        let link = link.filter(|_| self.bug != Some(Bug::NoLink));
        Put {
            stored: Stored {
                version: state.new_write(false),
                current: next,
                lease: None,
                grant: Grant::of(&record),
            },
            commit: Some(Commit {
                how,
                presented: task.presented,
                claimed,
                link,
                answer: self.replayable,
            }),
        }
    }

    /// Goes on after a write of a commit that the store has answered.
    pub(super) fn committed(&self, state: &mut State, mut task: Task, put: Put, swapped: Swapped) {
        let Some(commit) = put.commit else { return };
        match swapped {
            Swapped::Done => state.answer(&task, put.stored.current),
            Swapped::Gone => state.refuse(&task),
            Swapped::Conflict(found) if found.revision() == commit.claimed.revision() => {
                task.phase = Phase::Commit {
                    expected: found.version,
                    put,
                    aged: false,
                };
                state.tasks.push(task);
            }
            Swapped::Conflict(found) => {
                let minted = put.stored.current;
                let previous = found.grant.previous.map(|old| old.token);
                let known = commit.how != How::Converge
                    && (found.current == minted || previous == Some(minted));
                if known || found.revision() == put.stored.revision() {
                    return state.answer(&task, minted);
                }
                self.decide_again(state, &task, &found);
            }
        }
    }

    /// Decides again, because another request has rotated the grant.
    pub(super) fn decide_again(&self, state: &mut State, task: &Task, found: &Stored) {
        let (record, current) = (found.grant.record(), found.current.hash());
        let grant = StoredGrant {
            record: &record,
            current: &current,
        };
        let hash = task.presented.hash();
        let presented = Presented {
            client_id: "app",
            generation: task.presented.generation.into(),
            hash: &hash,
        };
        let verdict = decide(grant, presented, Standing::Free, true, at(0));
        if verdict == Verdict::Proceed(Proceed::Replay)
            && self.replayable
            && state
                .answers
                .iter()
                .any(|(token, _)| *token == found.current)
        {
            return state.answer(task, found.current);
        }
        match without_answer(verdict, &record, Standing::Free, at(0)) {
            Verdict::Refuse(_) if !may_have_link(grant, presented, at(0)) => {
                state.refuse(task);
            }
            Verdict::Proceed(_) | Verdict::Refuse(_) => {}
        }
    }
}
