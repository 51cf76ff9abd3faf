//! The promises to clients while the layer is about to be removed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::windows::Windows;
use super::{Excuse, Ledger, Ticket};
use crate::cluster::Life;
use crate::token::Token;

/// The refresh token and the access token in a response.
type Answer = [String; 2];

/// The end of a grant that was handed back.
#[derive(Debug, Default)]
pub(super) struct Retirement {
    /// The time at which it was last handed back.
    at: Option<Duration>,
    /// The first response to each token, and when that token was presented.
    answers: BTreeMap<[u8; 32], (Duration, Answer)>,
}

impl Retirement {
    /// Records that an instance has stored a new state of the grant.
    pub(super) fn stored(&mut self, life: Life, now: Duration) {
        if life.hands_back {
            self.at = Some(now);
        } else {
            *self = Self::default();
        }
    }

    /// Returns whether the grant was handed back.
    pub(super) const fn has_begun(&self) -> bool {
        self.at.is_some()
    }

    /// Returns whether the stored response may have expired.
    pub(super) fn may_be_over(&self, now: Duration, windows: &Windows) -> bool {
        self.at
            .is_some_and(|at| now + windows.before >= at + windows.retry)
    }

    /// Returns whether no token of the grant must be accepted any more.
    pub(super) fn is_over(&self, now: Duration, windows: &Windows) -> bool {
        self.at
            .is_some_and(|at| now > at + windows.retry + windows.before)
    }
}

/// The requests with a token of the upstream.
#[derive(Debug, Default)]
pub(super) struct Forwarding {
    /// The number of requests without a response, and the time until which a request may continue
    /// after its client has hung up.
    open: u32,
    lingers: Duration,
    /// The number of requests that an instance may have forwarded, and in response to which the
    /// upstream may have replaced the token.
    spent: u32,
    /// Whether the upstream may see the token again.
    at_risk: bool,
}

impl Ledger {
    /// Records that the client of a session holds this token. It is `alone` if no other tab or
    /// process presents the same token at the same time.
    pub(crate) fn holds(&mut self, session: usize, token: &Token, alone: bool) {
        if !token.is_foreign() {
            self.direct.remove(&session);
            return;
        }
        self.direct.insert(session);
        if !alone {
            self.excuse(session, Excuse::Shared);
        }
    }

    /// Returns whether the client of this session holds an upstream token, so that it does not need
    /// the grant any more.
    pub(super) fn is_direct(&self, session: Option<usize>) -> bool {
        session.is_some_and(|session| self.direct.contains(&session))
    }

    /// Records that an upstream token is about to be presented to an instance, by its client or
    /// with everything that the client has.
    ///
    /// An instance that hands back forwards it, so the upstream sees it again if its client
    /// presents it again. If another instance adopts it at the same time, neither knows of the
    /// other.
    pub(super) fn forwards(&mut self, token: &Token, life: Life, now: Duration) {
        let line = self.lines.entry(token.key).or_default();
        let forwarding = &mut line.forwarding;
        let overlaps = forwarding.open > 0 || now < forwarding.lingers;
        forwarding.at_risk |= forwarding.spent > 0 || (life.hands_back && overlaps);
        forwarding.open += 1;
        forwarding.spent += u32::from(life.hands_back);
    }

    /// Excuses a session of which the upstream has seen a token twice, if its client may have
    /// presented that token twice.
    pub(super) fn excuse_forwarded(&mut self, session: usize) {
        let mut lines = self.lines.values();
        if lines.any(|line| line.session == Some(session) && line.forwarding.at_risk) {
            self.excuse(session, Excuse::Forwarded);
        }
    }

    /// Records that the client of such a request has hung up.
    pub(crate) fn gave_up_foreign(&mut self, token: &Token, now: Duration) {
        let lingers = now + self.windows.linger;
        let forwarding = &mut self.lines.entry(token.key).or_default().forwarding;
        forwarding.open -= 1;
        forwarding.lingers = lingers;
    }

    /// Records the response to such a request, after which the token may be `spent`.
    pub(crate) fn answered_foreign(&mut self, token: &Token, life: Life, spent: bool) {
        let forwarding = &mut self.lines.entry(token.key).or_default().forwarding;
        forwarding.open -= 1;
        forwarding.spent -= u32::from(life.hands_back && !spent);
    }

    /// Checks a refresh with a token of the layer that was granted with an upstream token. The
    /// client sends the same request each time if it is `replayable`.
    pub(crate) fn handed_back(
        &mut self,
        ticket: &Ticket,
        next: &Token,
        answer: Answer,
        replayable: bool,
        session: Option<usize>,
        now: Duration,
    ) {
        let mut wrong = self.wrongly_granted(ticket, now);
        let excused = session.is_none_or(|session| self.has_excuse(session));
        let windows = &self.windows;
        let line = self.lines.entry(ticket.token.key).or_default();
        if line.session != session {
            wrong.push("the response for another grant".to_owned());
        }
        let answers = &mut line.retirement.answers;
        let (at, first) = answers
            .entry(*ticket.token.tag.as_bytes())
            .or_insert_with(|| (ticket.at, answer.clone()));
        let in_window = ticket.at + windows.before < *at + windows.retry;
        if replayable && !excused && in_window && *first != answer {
            wrong.push(format!(
                "with another response than before: {answer:?}, not {first:?}"
            ));
        }
        self.report(wrong, session);
        if let Some(session) = session {
            self.began_before(session, next);
        }
    }

    /// Returns the tokens of the grants that were handed back and must be over.
    pub(crate) fn retired(&self, now: Duration) -> Vec<Token> {
        let lines = self.lines.values();
        lines
            .filter(|line| line.retirement.is_over(now, &self.windows))
            .filter_map(|line| line.tokens.last().cloned())
            .collect()
    }
}
