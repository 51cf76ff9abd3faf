//! The state of the model: one grant, its clients, their requests and the upstream session.
//!
//! States that differ only in their numbers must be one state. So a new number is the smallest one
//! that is not in use, and links, answers and late calls that can have no effect any more are
//! removed.

use super::Layer;
use super::grant::{
    FIRST, Grant, Link, Old, RETRY, SECOND, SHARED, Sealed, Stored, Token, WriteId,
};
use super::store::{Call, Put, Request};
use super::task::{Phase, Task};
use crate::endpoint::token::step::Step;
use crate::endpoint::walk::Way;

/// An honest copy of the token, or the thief.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Client {
    pub(super) token: Option<Token>,
    /// The requests that it may still send.
    pub(super) requests: u8,
}

/// The rule that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Broken {
    /// A commit has replaced a state of the grant that it did not start from.
    Overwritten,
    /// The upstream saw a token that it had replaced.
    Replaced,
    /// An honest client was refused.
    Refused,
    /// A token was accepted after its window, although a newer one was presented.
    Stale,
    /// A request that was sent after the grant had ended because of reuse got an answer.
    Survived,
    /// A thief and an owner both got an answer after the window.
    Both,
}

/// The past events on which the properties depend. The layer does not know them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct History {
    /// The tokens that were replaced, and the time left in their shared window.
    pub(super) old: Vec<(Token, i32)>,
    /// The token from which the last rotation was made.
    pub(super) last: Option<Token>,
    /// Whether the current token was presented by a request that held the lease.
    pub(super) presented: bool,
    /// Whether an instance crashed between an answer of the upstream and the commit.
    pub(super) crashed: bool,
    /// Whether an honest copy may be refused, because a copy was used after its window or stolen.
    pub(super) excused: bool,
    /// Whether a token was refused as reuse.
    pub(super) reused: bool,
    /// The owners that the end of the window has separated from the thief.
    pub(super) apart: [bool; 2],
    /// The clients that got an answer since.
    pub(super) went_on: [bool; 3],
    pub(super) broken: Option<Broken>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct State {
    /// `None` once the grant has ended.
    pub(super) entry: Option<Stored>,
    pub(super) links: Vec<Link>,
    /// The stored answers: the token that they contain, and the time left.
    pub(super) answers: Vec<(Token, i32)>,
    /// Two honest copies and the thief.
    pub(super) clients: [Client; 3],
    pub(super) tasks: Vec<Task>,
    /// Copies of calls that have not reached the store yet.
    pub(super) late: Vec<Call>,
    pub(super) faults: u8,
    pub(super) jumps: u8,
    pub(super) history: History,
}

pub(super) const THIEF: u8 = 2;

impl State {
    pub(super) fn new(layer: &Layer) -> Self {
        let current = if layer.rotated { SECOND } else { FIRST };
        let client = |exists: bool, token: Token| Client {
            token: exists.then_some(token),
            requests: if exists { layer.requests } else { 0 },
        };
        let grant = Grant {
            generation: current.generation,
            sealed: Sealed {
                number: 0,
                live: true,
            },
            previous: layer.rotated.then_some(Old {
                token: FIRST,
                next: SECOND,
                retry: RETRY,
                shared: SHARED,
            }),
            presented: false,
            repeat: None,
        };
        let mut state = Self {
            entry: Some(Stored {
                version: WriteId {
                    number: 0,
                    recovery: false,
                },
                current,
                lease: None,
                grant,
            }),
            links: Vec::new(),
            answers: Vec::new(),
            clients: [
                client(true, current),
                client(layer.copies > 1, FIRST),
                client(false, FIRST),
            ],
            tasks: Vec::new(),
            late: Vec::new(),
            faults: layer.faults,
            jumps: layer.jumps,
            history: History::default(),
        };
        if layer.thief {
            state.clients[usize::from(THIEF)].requests = layer.requests;
        }
        if layer.rotated {
            state.history.old.push((FIRST, SHARED));
            state.history.last = Some(FIRST);
            if layer.replayable {
                state.answers.push((SECOND, RETRY));
            }
        }
        state
    }

    /// Returns the state in which the thief has this token, and a single owner has the other one.
    /// A client with the old token sends one request less.
    pub(super) fn robbed(&self, token: Token) -> Self {
        let mut state = self.clone();
        state.clients[usize::from(THIEF)].token = Some(token);
        if state.clients[1].token.is_none() {
            let other = if token == FIRST { SECOND } else { FIRST };
            state.clients[0].token = Some(other);
        }
        for client in &mut state.clients {
            if client.token == Some(FIRST) {
                client.requests -= 1;
            }
        }
        state.history.excused = true;
        state
    }

    /// Returns every entry that the store, a request or a late call contains.
    fn entries(&self) -> impl Iterator<Item = &Stored> {
        let tasks = self.tasks.iter().flat_map(Task::entries);
        let late = self
            .late
            .iter()
            .filter_map(Call::put)
            .flat_map(Put::entries);
        self.entry.iter().chain(tasks).chain(late)
    }

    fn tokens(&self) -> impl Iterator<Item = Token> {
        let entries = self.entries().flat_map(|stored| {
            let old = stored.grant.previous;
            [Some(stored.current), old.map(|old| old.token)]
                .into_iter()
                .flatten()
        });
        let links = self.links.iter().flat_map(|link| [link.of, link.next]);
        let clients = self.clients.iter().filter_map(|client| client.token);
        let tasks = self.tasks.iter().flat_map(Task::tokens);
        let late = self.late.iter().filter_map(Call::tag);
        let answers = self.answers.iter().map(|(token, _)| *token);
        entries
            .chain(links)
            .chain(clients)
            .chain(tasks)
            .chain(late)
            .chain(answers)
    }

    pub(super) fn new_token(&self, generation: u8) -> Token {
        let used: Vec<_> = self.tokens().collect();
        (0..)
            .map(|number| Token { generation, number })
            .find(|token| !used.contains(token))
            .unwrap()
    }

    pub(super) fn new_write(&self, recovery: bool) -> WriteId {
        let entries = self.entries().map(|stored| stored.version.number);
        let tasks = self.tasks.iter().flat_map(Task::writes);
        let late = self.late.iter().flat_map(Call::writes);
        let ids = tasks.chain(late).map(|id| id.number);
        let used: Vec<_> = entries.chain(ids).collect();
        let number = (0..).find(|number| !used.contains(number)).unwrap();
        WriteId { number, recovery }
    }

    pub(super) fn new_seal(&self) -> Sealed {
        let searched = self.tasks.iter().filter_map(|task| task.searched);
        let searched = searched.map(|(_, number)| number);
        let entries = self.entries().map(|stored| stored.grant.sealed.number);
        let used: Vec<_> = entries.chain(searched).collect();
        let number = (0..).find(|number| !used.contains(number)).unwrap();
        Sealed { number, live: true }
    }

    /// The upstream replaces its token: every stored copy is now one that it has replaced.
    pub(super) fn replace_upstream_token(&mut self) {
        let tasks = self.tasks.iter_mut().flat_map(Task::entries_mut);
        let late = self.late.iter_mut().filter_map(Call::put_mut);
        let late = late.flat_map(Put::entries_mut);
        for stored in self.entry.iter_mut().chain(tasks).chain(late) {
            stored.grant.sealed.live = false;
        }
    }

    /// Lets this many seconds pass.
    pub(super) fn pass(&mut self, time: i32) {
        if let Some(stored) = &mut self.entry {
            stored.pass(time);
        }
        for put in self.late.iter_mut().filter_map(Call::put_mut) {
            put.pass(time);
        }
        for link in &mut self.links {
            link.left -= time;
        }
        self.links.retain(|link| link.left > 0);
        for (_, left) in &mut self.answers {
            *left -= time;
        }
        self.answers.retain(|(_, left)| *left > 0);
        for (_, left) in &mut self.history.old {
            *left = (*left - time).max(0);
        }
        for task in &mut self.tasks {
            task.pass(time);
        }
    }

    /// Returns the time left in the shared window of an old token.
    pub(super) fn left(&self, token: Token) -> Option<i32> {
        let old = &self.history.old;
        old.iter()
            .find(|(of, _)| *of == token)
            .map(|(_, left)| *left)
    }

    pub(super) fn broke(&mut self, rule: Broken) {
        self.history.broken.get_or_insert(rule);
    }

    /// Returns whether a request of this client is still waiting for its answer.
    pub(super) fn is_waiting(&self, client: u8) -> bool {
        self.tasks.iter().any(|task| task.client == Some(client))
    }

    /// Returns the requests whose commit has not reached the store.
    pub(super) fn commits(&self) -> impl Iterator<Item = &Task> {
        self.tasks
            .iter()
            .filter(|task| matches!(task.phase, Phase::Commit { .. }))
    }

    /// Returns whether every token of a client that would not be refused leads to the current one.
    pub(super) fn usable_tokens_lead_to_the_current_one(&self) -> bool {
        let Some(stored) = &self.entry else {
            return true;
        };
        let tokens = self.clients.iter().filter_map(|client| client.token);
        let mut lost = tokens.filter(|token| !self.leads_to_current(stored, *token));
        lost.all(|token| self.refuses(token))
    }

    /// Returns whether the link in the record and those in sidecars lead from this token to the
    /// current one.
    fn leads_to_current(&self, stored: &Stored, mut token: Token) -> bool {
        while token != stored.current {
            let previous = stored.grant.previous.filter(|old| old.token == token);
            let link = self.links.iter().find(|link| link.of == token);
            let Some(next) = previous
                .map(|old| old.next)
                .or_else(|| link.map(|link| link.next))
                .filter(|next| next.generation > token.generation)
            else {
                return false;
            };
            token = next;
        }
        true
    }

    /// Returns whether a request with this token, from which no links lead on, would be refused.
    fn refuses(&self, token: Token) -> bool {
        let mut state = self.clone();
        let id = state.new_write(false);
        let Some(seen) = state.claim(token, id, None) else {
            return true;
        };
        let request = Request {
            presented: token,
            waited: false,
            repeated: true,
            without_answer: true,
            way: Way::DeadEnd,
        };
        matches!(seen.step(request), Step::Refuse(_))
    }

    /// Returns whether this holds for an owner that the end of the window has separated from the
    /// thief.
    pub(super) fn separated(&self, holds: fn(&Self, usize) -> bool) -> bool {
        (0..2).any(|owner| self.history.apart[owner] && holds(self, owner))
    }

    /// Records which owners the end of the shared token window separates from the thief.
    pub(super) fn separate(&mut self, time: i32) {
        let thief = self.clients[usize::from(THIEF)].token;
        if time <= SHARED || thief.is_none() || !self.history.presented {
            return;
        }
        for owner in 0..2 {
            let token = self.clients[owner].token;
            self.history.apart[owner] = token.is_some() && token != thief;
        }
        self.history.went_on = [false; 3];
    }
}
