//! A model of the refresh that is checked exhaustively: every order of events within its bounds.
//!
//! One grant, two instances, up to two honest copies of the token and a thief, in front of a strict
//! upstream. The decisions are those of the layer ([`Step::after`](super::step::Step::after) and
//! what it calls), the records are real ones, and the entry changes by the rules of
//! [`crate::store::decide`]. Written again are the loop around them (`acquire`), the commit and the
//! sidecars, because the real ones make their calls themselves.
//!
//! Seals are symbolic: a link is a pair of tokens, and a request follows it only from a token that
//! it has. Time passes in jumps: past a lease, past the retry window, past the shared token window
//! ([`JUMPS`]). Three assumptions about time remain:
//!
//! - A request ends before its lease does, except for a commit that waits for the store.
//! - A commit that waits for the store reaches it within [`TAKEOVER_PAUSE`] of a takeover, and
//!   before its windows end, unless its instance crashes.
//! - The clocks agree.
//!
//! [`TAKEOVER_PAUSE`]: super::lease::TAKEOVER_PAUSE

mod advance;
mod bounds;
mod commit;
mod grant;
mod normal;
mod state;
mod store;
mod task;

use stateright::{Model, Property};

use self::grant::{FIRST, LEASE, RETRY, SECOND, SHARED, SKEW};
use self::state::{Broken, Client, State, THIEF};
use self::store::Call;
use self::task::{How, Phase, Task};

/// A rule that is broken on purpose, to see that the model finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    /// A claim takes the lease of another request.
    NoLease,
    /// A swap ignores the version of the entry.
    NoVersionCheck,
    /// A lease that was taken over is used at once.
    NoPause,
    /// A request converges with the entry that it has seen, without the lease.
    ConvergeWithoutLease,
    /// A token is recovered although its successor was presented.
    RecoverThoughPresented,
    /// A link in a sidecar is kept longer than its window.
    LinkOutlivesItsWindow,
    /// The link in the record is followed after its window.
    RecordLinkOutlivesItsWindow,
    /// No link is stored in a sidecar.
    NoLink,
    /// After a recovery, the link in the record leads to the token that was dropped.
    LinkToDroppedToken,
    /// Reuse is refused, and the grant continues.
    ReuseEndsNothing,
}

/// The fault of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// It takes effect, and its reply is lost.
    NoReply,
    /// It fails, and takes effect later or never.
    Delayed,
    /// It takes effect, and arrives again later.
    Twice,
    /// The inner service answers 503.
    Failed,
}

/// The layer and its environment, within bounds.
#[derive(Clone, Copy, Debug)]
struct Layer {
    /// Honest copies of the token: at most 2.
    copies: u8,
    thief: bool,
    /// The requests of each client.
    requests: u8,
    faults: u8,
    jumps: u8,
    /// Whether requests can be replayed.
    replayable: bool,
    /// Whether the grant was rotated before, and only the first copy has the current token. A thief
    /// then has the old token or the current one from the beginning.
    rotated: bool,
    bug: Option<Bug>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// A client sends a request to an instance.
    Send {
        client: u8,
        instance: u8,
    },
    /// A request makes its next call.
    Call {
        task: usize,
        fault: Fault,
    },
    /// A late copy of a call arrives.
    Arrive(usize),
    /// The client closes the connection.
    HangUp(usize),
    Crash {
        instance: u8,
    },
    /// This many seconds pass.
    Pass(i32),
    Steal {
        from: u8,
    },
}

/// Past a lease, past the retry window, and past the shared token window.
const JUMPS: [i32; 3] = [LEASE + 1, RETRY + SKEW + 1, SHARED + 1];

impl Model for Layer {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let state = State::new(self);
        if self.thief && self.rotated {
            return [FIRST, SECOND].map(|token| state.robbed(token)).into();
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.history.broken.is_some() {
            return;
        }
        let faulty = state.faults > 0;
        for client in 0..=THIEF {
            let Client { token, requests } = state.clients[usize::from(client)];
            let Some(token) = token else { continue };
            if requests == 0 || state.is_waiting(client) {
                continue;
            }
            for instance in 0..2 {
                // A request waits until the one with the same token at the same instance is done.
                let is_held = state.tasks.iter().any(|task| {
                    task.instance == instance
                        && task.presented == token
                        && !matches!(task.phase, Phase::Release(_) | Phase::CleanUp)
                });
                // The first request is at the first instance: the instances are alike.
                if !is_held && (instance == 0 || !state.tasks.is_empty()) {
                    actions.push(Action::Send { client, instance });
                    // Without a crash to come, the instance makes no difference.
                    if !faulty {
                        break;
                    }
                }
            }
        }
        for (index, task) in state.tasks.iter().enumerate() {
            // The pause lasts longer than a commit that waits for the store.
            let waits = matches!(task.phase, Phase::Pause(_)) && state.commits().next().is_some();
            if !waits {
                actions.push(Action::Call {
                    task: index,
                    fault: Fault::None,
                });
            }
            if !faulty || waits {
                continue;
            }
            let faults: &[Fault] = match task.phase {
                Phase::Upstream(..) => &[Fault::Failed],
                Phase::Search(_) | Phase::Walk(_) => &[Fault::NoReply],
                Phase::CleanUp => &[],
                _ => &[Fault::NoReply, Fault::Delayed, Fault::Twice],
            };
            for fault in faults {
                actions.push(Action::Call {
                    task: index,
                    fault: *fault,
                });
            }
            if task.client.is_some()
                && matches!(task.phase, Phase::Upstream(..) | Phase::Commit { .. })
            {
                actions.push(Action::HangUp(index));
            }
        }
        for index in 0..state.late.len() {
            actions.push(Action::Arrive(index));
        }
        if faulty {
            for instance in 0..2 {
                if state.tasks.iter().any(|task| task.instance == instance) {
                    actions.push(Action::Crash { instance });
                }
            }
        }
        // A request ends before its lease does. Only a commit waits for the store for longer.
        let waiting = state.tasks.iter().any(|task| task.client.is_some());
        let commits = state.commits().count();
        if state.jumps > 0 && !waiting && commits == state.tasks.len() {
            for time in JUMPS {
                if commits == 0 || time == JUMPS[0] {
                    actions.push(Action::Pass(time));
                }
            }
        }
        let thief = &state.clients[usize::from(THIEF)];
        if self.thief && thief.token.is_none() && thief.requests == self.requests {
            for from in 0..self.copies {
                actions.push(Action::Steal { from });
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Send { client, instance } => self.send(&mut state, client, instance),
            Action::Call { task, fault } => {
                if fault != Fault::None {
                    state.faults -= 1;
                }
                let task = state.tasks.remove(task);
                self.advance(&mut state, task, fault);
            }
            Action::Arrive(index) => match state.late.remove(index) {
                Call::Claim { tag, id } => {
                    state.claim(tag, id, self.bug);
                }
                Call::Put { expected, put } => {
                    let _ = state.put(expected, &put, self.bug);
                }
                Call::Remove { expected } => {
                    let _ = state.remove(expected);
                }
            },
            Action::HangUp(task) => {
                state.faults -= 1;
                state.tasks[task].client = None;
            }
            Action::Crash { instance } => {
                state.faults -= 1;
                let current = state.entry.map(|stored| stored.revision());
                let lost = state
                    .commits()
                    .any(|task| task.instance == instance && task.replaces() == current);
                state.history.crashed |= lost;
                state.tasks.retain(|task| task.instance != instance);
            }
            Action::Pass(time) => {
                state.jumps -= 1;
                state.separate(time);
                state.pass(time);
            }
            Action::Steal { from } => {
                let token = state.clients[usize::from(from)].token?;
                state.clients[usize::from(THIEF)].token = Some(token);
                state.history.excused = true;
            }
        }
        // A copy of the upstream token is lost with the instance: the session ends at the upstream.
        if state.history.crashed && state.history.broken == Some(Broken::Replaced) {
            return None;
        }
        state.normalise();
        // The honest copies are alike.
        if self.copies > 1 {
            let swapped = state.with_copies_swapped();
            if swapped.clients < state.clients
                || (swapped.clients == state.clients && swapped < state)
            {
                return Some(swapped);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn holds(state: &State, rule: Broken) -> bool {
            state.history.broken != Some(rule)
        }
        fn some(state: &State, phase: fn(&Phase) -> bool) -> bool {
            state.tasks.iter().any(|task| phase(&task.phase))
        }
        let mut properties = vec![
            Property::always("a commit replaces what it has claimed", |_, state| {
                holds(state, Broken::Overwritten)
            }),
            Property::always(
                "a usable token leads to the current one",
                |_, state: &State| state.usable_tokens_lead_to_the_current_one(),
            ),
            Property::always("an upstream token is used once", |_, state| {
                holds(state, Broken::Replaced)
            }),
            Property::always("an honest client is not refused", |_, state| {
                holds(state, Broken::Refused)
            }),
            Property::always("a window ends", |_, state| holds(state, Broken::Stale)),
            Property::always("reuse ends the grant", |_, state| {
                holds(state, Broken::Survived)
            }),
            Property::always("a thief and an owner do not both go on", |_, state| {
                holds(state, Broken::Both)
            }),
            Property::sometimes("rotates", |_, state| {
                some(state, |phase| {
                    matches!(phase, Phase::Upstream(How::Rotate, _))
                })
            }),
            Property::sometimes("converges", |_, state| {
                some(state, |phase| {
                    matches!(phase, Phase::Upstream(How::Converge, _))
                })
            }),
            Property::sometimes("recovers", |_, state| {
                some(state, |phase| {
                    matches!(phase, Phase::Upstream(How::Recover, _))
                })
            }),
            Property::sometimes("takes over", |_, state| {
                some(state, |phase| matches!(phase, Phase::Pause(_)))
            }),
        ];
        // One copy has no token that is older than the previous one.
        if self.copies > 1 || self.thief {
            properties.push(Property::sometimes("follows links", |_, state| {
                some(state, |phase| matches!(phase, Phase::Walk(_)))
            }));
        }
        if self.thief && self.rotated {
            properties.extend([
                Property::sometimes(
                    "a thief with an old token is refused",
                    |_, state: &State| {
                        state.separated(|state, owner| {
                            state.history.went_on[owner]
                                && state.clients[usize::from(THIEF)].token.is_none()
                        })
                    },
                ),
                Property::sometimes(
                    "an owner with an old token is refused",
                    |_, state: &State| {
                        state.separated(|state, owner| {
                            state.history.went_on[usize::from(THIEF)]
                                && state.clients[owner].token.is_none()
                        })
                    },
                ),
            ]);
        }
        properties
    }
}

impl Layer {
    fn send(&self, state: &mut State, client: u8, instance: u8) {
        let Client { token, requests } = &mut state.clients[usize::from(client)];
        *requests -= 1;
        let Some(token) = *token else { return };
        let mut task = Task::new(instance, client, token, state.new_write(false));
        let over = state.left(token) == Some(0);
        task.stale = over && (state.history.presented || state.history.last != Some(token));
        // With a thief, this bug breaks two rules. The second one must find it, too.
        task.stale &= !self.thief || self.bug != Some(Bug::RecordLinkOutlivesItsWindow);
        task.after_reuse = state.history.reused;
        // With one copy, no window is needed.
        state.history.excused |= over && self.copies > 1;
        state.tasks.push(task);
    }
}
