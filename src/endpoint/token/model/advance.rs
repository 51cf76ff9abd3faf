//! The steps of `acquire` and `refresh`, with one call of the store or of the upstream in each.
//! [`Step::after`] decides what follows from a claim.

use super::grant::{Grant, SHARED, Stored, Token, at, windows};
use super::state::{Broken, History, State, THIEF};
use super::store::{Put, Request, Seen, SeenLease, Swapped};
use super::task::{Held, How, Phase, Task, Then};
use super::{Bug, Fault, Layer};
use crate::endpoint::token::step::{Step, standing};
use crate::endpoint::walk::Way;
use crate::grant::{Proceed, Refusal, Standing};

impl Layer {
    /// Makes the next call of a request.
    pub(super) fn advance(&self, state: &mut State, mut task: Task, fault: Fault) {
        if matches!(fault, Fault::Delayed | Fault::Twice) {
            state.late.extend(task.call(state));
        }
        let fails = matches!(fault, Fault::Delayed | Fault::NoReply);
        match task.phase {
            Phase::Claim | Phase::Pause(_) => {
                let first = task.phase == Phase::Claim;
                task.repeated = !first || self.bug == Some(Bug::NoPause);
                let seen = match fault {
                    Fault::Delayed => None,
                    _ => state.claim(task.goal, task.id, self.bug),
                };
                if fails {
                    let phase = if first {
                        Phase::CleanUp
                    } else {
                        Phase::Release(Then::Fail)
                    };
                    task.client = None;
                    task.phase = phase;
                    return state.tasks.push(task);
                }
                let Some(seen) = seen else {
                    return state.refuse(&task);
                };
                task.held = (seen.lease == SeenLease::Taken).then_some(Held {
                    stored: seen.stored,
                    overdue: seen.taken_over,
                });
                self.decide(state, task, seen);
            }
            Phase::Search(_) | Phase::Walk(_) if fails => state.release(task, Then::Fail),
            Phase::Search(seen) => {
                let current = seen.stored.current;
                if state.answers.iter().any(|(token, _)| *token == current) {
                    if task.presented == current {
                        task.mark();
                        state.history.presented |= task.held.is_some();
                    }
                    return state.release(task, Then::Answer(current));
                }
                task.searched = Some(seen.stored.revision());
                self.decide(state, task, seen);
            }
            Phase::Walk(seen) => {
                match state.link(&seen.stored, task.walk) {
                    Some(next) => task.walk = next,
                    None => task.dead_end = Some(seen.stored.current),
                }
                self.decide(state, task, seen);
            }
            Phase::Upstream(how, stored) => {
                if fault == Fault::Failed {
                    return state.release(task, Then::Fail);
                }
                if !stored.grant.sealed.live {
                    state.broke(Broken::Replaced);
                    return;
                }
                state.replace_upstream_token();
                let expected = task.id;
                let put = self.prepare(state, &task, how, stored);
                task.held = None;
                task.phase = Phase::Commit {
                    expected,
                    put,
                    aged: false,
                };
                state.tasks.push(task);
            }
            Phase::Commit {
                expected,
                mut put,
                aged,
            } => {
                if let (true, Some(commit)) = (aged, &put.commit) {
                    let mut record = put.stored.grant.record();
                    let current = put.stored.current.hash();
                    record.begin_windows(&commit.presented.hash(), &current, at(0), windows());
                    put.stored.grant = Grant::of(&record);
                }
                let swapped = match fault {
                    Fault::Delayed => None,
                    _ => Some(state.put(expected, &put, self.bug)),
                };
                let swapped = match swapped {
                    Some(swapped) if !fails => swapped,
                    _ => {
                        task.client = None;
                        task.phase = Phase::Commit {
                            expected,
                            put,
                            aged: false,
                        };
                        return state.tasks.push(task);
                    }
                };
                self.committed(state, task, put, swapped);
            }
            Phase::Release(then) => {
                let held = task.held.take();
                if let Some(Held {
                    mut stored,
                    overdue,
                }) = held
                {
                    if fault != Fault::Delayed {
                        stored.version = state.new_write(overdue && task.id.recovery);
                        stored.lease = overdue.then_some(0);
                        let _ = state.put(
                            task.id,
                            &Put {
                                stored,
                                commit: None,
                            },
                            None,
                        );
                    }
                    if fails {
                        // The request continues, and the release is repeated in the background.
                        let mut again = task.clone();
                        again.client = None;
                        again.held = held;
                        again.phase = Phase::Release(Then::Fail);
                        state.tasks.push(again);
                    }
                }
                state.then(task, then);
            }
            Phase::CleanUp => {
                if fails {
                    return state.tasks.push(task);
                }
                if let Some(mut stored) = state.entry
                    && stored.version == task.id
                {
                    stored.version = state.new_write(true);
                    stored.lease = Some(0);
                    let _ = state.put(
                        task.id,
                        &Put {
                            stored,
                            commit: None,
                        },
                        None,
                    );
                }
            }
            Phase::End { expected } => {
                let swapped = match fault {
                    Fault::Delayed => None,
                    _ => Some(state.remove(expected)),
                };
                match swapped {
                    _ if fails => {}
                    Some(Swapped::Conflict(found)) => {
                        task.phase = Phase::End {
                            expected: found.version,
                        };
                        state.tasks.push(task);
                    }
                    _ => {
                        state.history.reused = true;
                        state.refuse(&task);
                    }
                }
            }
        }
    }

    /// Executes the step that follows a claim.
    fn decide(&self, state: &mut State, mut task: Task, seen: Seen) {
        let mut shown = seen;
        if self.bug == Some(Bug::RecoverThoughPresented) {
            shown.stored.grant.presented = false;
        }
        if self.bug == Some(Bug::RecordLinkOutlivesItsWindow)
            && let Some(old) = &mut shown.stored.grant.previous
        {
            old.shared = SHARED;
        }
        let current = seen.stored.current;
        let way = if task.walk == current {
            Way::Current
        } else if task.dead_end == Some(current) {
            Way::DeadEnd
        } else {
            Way::Open
        };
        let request = Request {
            presented: task.presented,
            waited: task.waited,
            repeated: task.repeated,
            without_answer: !self.replayable || task.searched == Some(seen.stored.revision()),
            way,
        };
        match shown.step(request) {
            Step::Rotate(proceed) => state.proceed(task, seen.stored, proceed),
            Step::Replay => {
                task.phase = Phase::Search(seen);
                state.tasks.push(task);
            }
            Step::Follow => {
                task.phase = Phase::Walk(seen);
                state.tasks.push(task);
            }
            Step::Wait => state.release(task, Then::ClaimAgain),
            Step::WaitForTakeover => {
                if task.goal_presented {
                    task.mark();
                }
                task.waited = true;
                task.phase = Phase::Pause(seen);
                state.tasks.push(task);
            }
            Step::Reclaim if self.bug == Some(Bug::ConvergeWithoutLease) => {
                task.id = seen.stored.version;
                state.proceed(task, seen.stored, Proceed::Converge);
            }
            Step::Reclaim => {
                task.goal = current;
                task.goal_presented = standing(&seen.claim()) == Standing::RanOut;
                task.id = state.new_write(true);
                task.phase = Phase::Claim;
                state.tasks.push(task);
            }
            Step::Refuse(Refusal::Reuse) if self.bug == Some(Bug::ReuseEndsNothing) => {
                state.history.reused = true;
                state.release(task, Then::Refuse);
            }
            Step::Refuse(Refusal::Reuse) => {
                let expected = seen.stored.version;
                state.release(task, Then::End { expected });
            }
            Step::Refuse(_) => state.release(task, Then::Refuse),
        }
    }
}

impl State {
    /// Goes on with the lease.
    fn proceed(&mut self, mut task: Task, mut stored: Stored, proceed: Proceed) {
        if let Some(held) = &mut task.held {
            held.overdue = false;
        }
        if proceed == Proceed::Rotate || task.goal_presented {
            task.mark();
            stored.grant.presented = true;
        }
        self.history.presented |= proceed == Proceed::Rotate;
        let leads = stored
            .grant
            .previous
            .is_some_and(|old| old.token == task.presented && old.next == stored.current);
        if task.walk != stored.current && task.presented != stored.current && !leads {
            return self.release(task, Then::Refuse);
        }
        let how = match proceed {
            Proceed::Converge => How::Converge,
            Proceed::Recover => How::Recover,
            Proceed::Rotate | Proceed::Keep | Proceed::Busy | Proceed::Replay => How::Rotate,
        };
        task.phase = Phase::Upstream(how, stored);
        self.tasks.push(task);
    }

    /// Releases the lease, if the request holds it, and continues.
    fn release(&mut self, mut task: Task, then: Then) {
        if task.held.is_none() {
            return self.then(task, then);
        }
        if then == Then::Fail {
            task.client = None;
        }
        task.phase = Phase::Release(then);
        self.tasks.push(task);
    }

    fn then(&mut self, mut task: Task, then: Then) {
        match then {
            Then::ClaimAgain if task.client.is_some() => {
                task.waited = true;
                task.goal = task.presented;
                task.goal_presented = false;
                task.id = self.new_write(false);
                task.phase = Phase::Claim;
                self.tasks.push(task);
            }
            Then::Answer(token) => self.answer(&task, token),
            Then::Refuse => self.refuse(&task),
            Then::End { expected } => {
                task.phase = Phase::End { expected };
                self.tasks.push(task);
            }
            Then::Fail | Then::ClaimAgain => {}
        }
    }

    /// Grants the request. If its client still waits, it saves the token.
    pub(super) fn answer(&mut self, task: &Task, token: Token) {
        if task.stale {
            self.broke(Broken::Stale);
        }
        if task.after_reuse {
            self.broke(Broken::Survived);
        }
        if let Some(client) = task.client {
            self.clients[usize::from(client)].token = Some(token);
            let History {
                apart,
                went_on,
                broken,
                ..
            } = &mut self.history;
            went_on[usize::from(client)] = true;
            if went_on[usize::from(THIEF)] && (0..2).any(|owner| apart[owner] && went_on[owner]) {
                broken.get_or_insert(Broken::Both);
            }
        }
    }

    /// Refuses the request for good.
    pub(super) fn refuse(&mut self, task: &Task) {
        let Some(client) = task.client else {
            return;
        };
        let client = usize::from(client);
        self.clients[client].token = None;
        if client != usize::from(THIEF) && !self.history.excused && !self.history.crashed {
            self.broke(Broken::Refused);
        }
    }

    /// Reads the link of this token.
    pub(super) fn link(&self, seen: &Stored, token: Token) -> Option<Token> {
        if let Some(old) = seen.grant.previous
            && old.token == token
        {
            return (old.shared > 0).then_some(old.next);
        }
        let link = self.links.iter().find(|link| link.of == token);
        link.map(|link| link.next)
    }
}
