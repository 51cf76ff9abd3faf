//! The promises, checked during a run.

mod access;
mod adoption;
mod clients;
mod hand_back;
mod store;
mod users;
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tower_oauth_refresh::GrantKey;
use tower_oauth_refresh::store::{ClaimTag, Key};

use super::access::{Pass, REMEMBERED};
use super::cluster::Life;
use super::plan::{Guard, Plan};
use super::token::Token;
use hand_back::{Forwarding, Retirement};
use users::{Born, Users};
use windows::{Trail, Windows};

pub(crate) use users::{End, Owner};
pub(crate) use windows::link_name;

/// An event that no layer can compensate for: a session to which it happened may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excuse {
    /// An instance crashed between the upstream's response and the commit.
    Crashed,
    /// The upstream's response never reached the layer.
    AnswerLost,
    /// The store failed over and lost writes.
    RolledBack,
    /// The store did not accept a commit while its lease ran, nor when it was retried in the time
    /// that a takeover waits for the commit.
    LeaseRanOut,
    /// The store was unreachable for longer than commits are retried in the background.
    StoreAway,
    /// A thief used one of its tokens.
    Robbed,
    /// One of its processes has presented a private copy whose window was over.
    Stale,
    /// Its client has revoked it.
    Left,
    /// The program may have ended it, with the other sessions of its user.
    Ended,
    /// Its token from before the layer was presented again after the replay had expired.
    AdoptedBefore,
    /// Its token from before the layer was presented after adoption had ended.
    AdoptedTooLate,
    /// Its client has presented a token of the upstream again that an instance had forwarded.
    Forwarded,
    /// Its grant was handed back, and other tabs or processes may use the same upstream token.
    Shared,
    /// Its grant was handed back, and its client has asked again when the response was no longer
    /// stored, or about to expire.
    HandedBack,
}

/// A session of the upstream.
#[derive(Debug, Default)]
struct Session {
    excuses: Vec<Excuse>,
    /// Instance lives to which the upstream has issued a new token that is not stored yet, each
    /// with the number of store failures since its lease was taken over, if it was.
    pending: Vec<(Life, Option<u32>)>,
}

/// A request that got the next token for the one that it presented.
#[derive(Debug)]
struct Use {
    presented: ClaimTag,
    next: ClaimTag,
}

/// A grant of the layer.
#[derive(Debug, Default)]
struct Line {
    session: Option<usize>,
    /// The hashes of its current tokens, in the order in which they were stored.
    order: Vec<ClaimTag>,
    /// The hashes that a failover undid, and when.
    undone: Vec<(ClaimTag, Duration)>,
    /// All of its tokens that a client received.
    tokens: Vec<Token>,
    uses: Vec<Use>,
    trail: Trail,
    /// Whether several processes hold private copies of its tokens.
    copied: bool,
    /// Whether its client keeps its token.
    kept: bool,
    /// Whether a response has contained the current token again.
    converged: bool,
    /// The time at which the grant became invalid, and the reason.
    dead: Option<(Duration, &'static str)>,
    /// Requests in progress, and the total number of requests.
    open: u32,
    begun: u32,
    touched: Duration,
    commit_lost: bool,
    removed: bool,
    /// The time of the last reuse without the proof of the client.
    unproven: Option<Duration>,
    /// For a token from before the layer: the time at which the response was stored.
    adopted: Option<Duration>,
    /// The beginning of the grant.
    born: Option<Born>,
    /// The instance that has stored the first rotation.
    named_by: Option<Life>,
    /// Whether the grant was handed back.
    retirement: Retirement,
    /// The requests with this token, if it is one of the upstream.
    forwarding: Forwarding,
}

impl Line {
    fn place(&self, tag: &ClaimTag) -> Option<usize> {
        // Tags compare in constant time, which is slow, so compare their bytes.
        self.order
            .iter()
            .rposition(|known| known.as_bytes() == tag.as_bytes())
    }

    fn undone_at(&self, tag: &ClaimTag) -> Option<Duration> {
        self.undone
            .iter()
            .rfind(|(undone, _)| undone == tag)
            .map(|(_, at)| *at)
    }

    /// Returns whether a use shows that this token is over: its successor was presented, or it was
    /// dropped in favour of another token.
    fn is_superseded(&self, tag: &ClaimTag) -> bool {
        self.uses
            .iter()
            .any(|used| used.presented != *tag && self.place(tag) < self.place(&used.next))
    }
}

/// A refresh in progress.
#[derive(Debug)]
pub(crate) struct Ticket {
    token: Token,
    at: Duration,
    /// The token must no longer be accepted.
    over: bool,
    /// Presenting it now ends the grant.
    reuse: bool,
    /// The grant was handed back, and must be over.
    retired: bool,
    begun: u32,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    sessions: BTreeMap<usize, Session>,
    lines: BTreeMap<Key, Line>,
    violations: Vec<String>,
    strict: bool,
    /// Whether the layer renews upstream access tokens.
    renews: bool,
    /// Whether the layer hands grants back at some time, and the sessions whose clients hold an
    /// upstream token.
    leaves: bool,
    direct: BTreeSet<usize>,
    long_outage: bool,
    windows: Windows,
    adoption: adoption::Terms,
    /// The clients that have no credential.
    public: BTreeSet<String>,
    /// All access tokens of the layer that a client received, the entries that the store has lost
    /// (including those of access tokens), and how long an instance caches one.
    passes: Vec<Pass>,
    lost: BTreeSet<Key>,
    remembered: Duration,
    /// Access tokens that were stored, and rotations that were reported by an event.
    minted: BTreeSet<Key>,
    complete: BTreeSet<(GrantKey, u32)>,
    users: Users,
}

impl Ledger {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            sessions: BTreeMap::new(),
            lines: BTreeMap::new(),
            violations: Vec::new(),
            strict: plan.strict,
            renews: plan.renewed_after.is_some(),
            leaves: plan.hand_back.is_some(),
            direct: BTreeSet::new(),
            long_outage: plan.long_outage(),
            windows: Windows::new(plan),
            adoption: adoption::Terms::new(plan),
            users: Users::new(plan),
            public: plan
                .users
                .iter()
                .filter(|user| user.secret.is_none())
                .map(|user| user.client.clone())
                .collect(),
            passes: Vec::new(),
            lost: BTreeSet::new(),
            minted: BTreeSet::new(),
            complete: BTreeSet::new(),
            remembered: if plan.access == Guard::Remembers {
                REMEMBERED
            } else {
                Duration::ZERO
            },
        }
    }

    pub(crate) fn violation(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    pub(crate) fn violations(&mut self) -> Vec<String> {
        let unexplained = self
            .lines
            .values()
            .filter(|line| line.commit_lost && line.dead.is_none() && !line.removed);
        let unexplained = unexplained
            .filter_map(|line| line.session)
            .filter(|session| !self.is_excused(*session));
        for session in unexplained.collect::<Vec<_>>() {
            self.violation(format!(
                "a commit of session {session} was lost although the store was reachable"
            ));
        }
        std::mem::take(&mut self.violations)
    }

    /// Returns whether the session has an excuse, other than that it was ended on purpose.
    ///
    /// Two holders of a token of the layer are no excuse, unless both may get the upstream token.
    fn is_excused(&self, session: usize) -> bool {
        let fate = |excuse: &Excuse| match excuse {
            Excuse::Robbed | Excuse::Stale => self.leaves,
            Excuse::Left | Excuse::Ended | Excuse::HandedBack => false,
            _ => true,
        };
        self.sessions
            .get(&session)
            .is_some_and(|session| session.excuses.iter().any(fate))
    }

    pub(crate) fn has_excuse(&self, session: usize) -> bool {
        self.strict
            || self.has_epoch(session)
            || self
                .sessions
                .get(&session)
                .is_some_and(|session| !session.excuses.is_empty())
    }

    /// Returns the number of sessions, and how many of them have an excuse.
    pub(crate) fn sessions(&self) -> (usize, usize) {
        let excused = self
            .sessions
            .values()
            .filter(|session| !session.excuses.is_empty())
            .count();
        (self.sessions.len(), excused)
    }

    pub(crate) fn excuse(&mut self, session: usize, excuse: Excuse) {
        let excuses = &mut self.sessions.entry(session).or_default().excuses;
        if !excuses.contains(&excuse) {
            excuses.push(excuse);
        }
    }

    fn excuse_line(&mut self, key: &Key, excuse: Excuse) {
        if let Some(session) = self.lines.get(key).and_then(|line| line.session) {
            self.excuse(session, excuse);
        }
    }

    /// Records that a thief uses a token of this grant in a way that may end it.
    pub(crate) fn robbed(&mut self, token: &Token) {
        self.excuse_line(&token.key, Excuse::Robbed);
    }

    pub(crate) fn tokens(&self) -> Vec<Vec<Token>> {
        self.lines
            .values()
            .filter(|line| line.session.is_some())
            .map(|line| line.tokens.clone())
            .collect()
    }

    pub(crate) fn session(&self, token: &Token) -> Option<usize> {
        self.lines.get(&token.key).and_then(|line| line.session)
    }

    /// Records that several processes hold private copies of the tokens of this grant.
    pub(crate) fn copied(&mut self, token: &Token) {
        self.lines.entry(token.key).or_default().copied = true;
    }

    /// Records that the client of this grant keeps its token.
    pub(crate) fn kept(&mut self, token: &Token) {
        self.lines.entry(token.key).or_default().kept = true;
    }

    /// Returns whether this is the current token of its grant.
    pub(crate) fn is_current(&self, token: &Token) -> bool {
        self.lines
            .get(&token.key)
            .is_some_and(|line| line.trail.is_current(&token.tag))
    }

    /// Returns the tokens whose use ends their grant.
    pub(crate) fn over(&self, now: Duration) -> Vec<Token> {
        let lines = self.lines.values().filter(|line| line.dead.is_none());
        lines
            .flat_map(|line| {
                line.tokens
                    .iter()
                    .filter(|token| line.trail.is_over(&token.tag, now, &self.windows))
                    .cloned()
            })
            .collect()
    }
}

/// Reports of the upstream.
impl Ledger {
    /// Records that the upstream has replaced the token of a session.
    pub(crate) fn replaced(&mut self, number: usize, life: Life, alive: bool) {
        if alive {
            self.sessions
                .entry(number)
                .or_default()
                .pending
                .push((life, None));
        } else {
            self.excuse(number, Excuse::Crashed);
        }
    }

    pub(crate) fn answer_lost(&mut self, number: usize) {
        self.excuse(number, Excuse::AnswerLost);
        self.sessions.entry(number).or_default().pending.clear();
    }

    /// Records that a replaced upstream token was presented again.
    pub(crate) fn reused(&mut self, number: usize) {
        self.excuse_forwarded(number);
        if !self.is_excused(number) {
            self.violation(format!(
                "the upstream saw a token of session {number} twice"
            ));
        }
    }

    pub(crate) fn used_at_once(&mut self, number: usize) {
        if !self.is_excused(number) {
            self.violation(format!(
                "two instances used the same upstream token of session {number} at once"
            ));
        }
    }
}
