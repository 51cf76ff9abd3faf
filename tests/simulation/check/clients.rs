//! The promises to clients, whose requests are reported here.

use std::time::Duration;

use super::{Excuse, Ledger, Ticket, Use};
use crate::token::Token;

/// Reports of the clients.
impl Ledger {
    /// Records that a log-in of the session returned this token.
    pub(crate) fn logged_in(&mut self, session: usize, token: &Token) {
        self.sessions.entry(session).or_default();
        let line = self.lines.entry(token.key).or_default();
        if line.place(&token.tag).is_none() && line.undone_at(&token.tag).is_none() {
            self.violations.push(format!(
                "session {session} began with a token that is not stored"
            ));
        }
        line.session = Some(session);
        if !line.tokens.iter().any(|known| known.tag == token.tag) {
            line.tokens.push(token.clone());
        }
        if line.order.is_empty() {
            self.excuse(session, Excuse::RolledBack);
        }
    }

    /// Records that a token is about to be presented with the right client id.
    pub(crate) fn present(&mut self, token: &Token, entitled: bool, now: Duration) -> Ticket {
        let windows = &self.windows;
        let line = self.lines.entry(token.key).or_default();
        let superseded = self.strict && line.is_superseded(&token.tag);
        let over = superseded || line.trail.is_over(&token.tag, now, windows);
        // For the layer, a token that the store has lost is forged, like one that was never issued:
        // neither ends anything.
        let known = line.place(&token.tag).is_some();
        let silent = line.open == 0 && line.touched + windows.silence() < now;
        let stale = entitled && line.copied && !line.trail.is_valid(&token.tag, now, windows);
        let retired = line.retirement.is_over(now, windows);
        let lost = entitled && line.retirement.may_be_over(now, windows);
        let owner = line.session;
        line.trail.begin(&token.tag);
        line.open += 1;
        line.begun += 1;
        line.touched = now;
        let begun = line.begun;
        if stale {
            self.excuse_line(&token.key, Excuse::Stale);
        }
        if lost && !self.is_direct(owner) {
            self.excuse_line(&token.key, Excuse::HandedBack);
        }
        Ticket {
            token: token.clone(),
            at: now,
            over,
            reuse: over && known && silent,
            retired,
            begun,
        }
    }

    /// Records that the client of a request has hung up, so that its result is unknown.
    pub(crate) fn gave_up(&mut self, ticket: &Ticket, now: Duration) {
        self.over_with(ticket, now);
    }

    fn over_with(&mut self, ticket: &Ticket, now: Duration) {
        let line = self.lines.entry(ticket.token.key).or_default();
        line.open -= 1;
        line.touched = now;
    }

    /// Checks a granted refresh, whose access token is of this session.
    pub(crate) fn granted(
        &mut self,
        ticket: &Ticket,
        next: &Token,
        session: Option<usize>,
        now: Duration,
    ) {
        let mut wrong = self.wrongly_granted(ticket, now);
        let line = self.lines.entry(ticket.token.key).or_default();
        if next.key != ticket.token.key || line.session != session {
            wrong.push("the response for another grant".to_owned());
        }
        if line.kept && next.tag != ticket.token.tag {
            wrong.push("with another token than the one that its client keeps".into());
        }
        if line.place(&next.tag).is_none() && line.undone_at(&next.tag).is_none() {
            wrong.push("with a token that is not stored".into());
        }
        if !line.tokens.iter().any(|known| known.tag == next.tag) {
            line.tokens.push(next.clone());
        }
        line.uses.push(Use {
            presented: ticket.token.tag,
            next: next.tag,
        });
        self.report(wrong, session);
    }

    /// Returns the reasons why the token of this request must not be accepted.
    pub(super) fn wrongly_granted(&mut self, ticket: &Ticket, now: Duration) -> Vec<String> {
        self.over_with(ticket, now);
        let end = self.end_of(&ticket.token.key);
        let line = self.lines.entry(ticket.token.key).or_default();
        let mut wrong = Vec::new();
        if let Some((since, why)) = end.filter(|(since, _)| *since < ticket.at) {
            wrong.push(format!(
                "though it had ended {} ms before ({why})",
                (ticket.at - since).as_millis()
            ));
        }
        if line.place(&ticket.token.tag).is_none() && line.undone_at(&ticket.token.tag).is_none() {
            wrong.push("for a token that was never issued".into());
        }
        if ticket.over {
            wrong.push("for a token whose windows were over".into());
        }
        if ticket.retired {
            wrong.push("though the grant had been handed back".into());
        }
        if line
            .undone_at(&ticket.token.tag)
            .is_some_and(|at| at < ticket.at)
        {
            wrong.push("for a token that the store had lost".into());
        }
        wrong
    }

    pub(super) fn report(&mut self, wrong: Vec<String>, session: Option<usize>) {
        self.violations.extend(
            wrong
                .into_iter()
                .map(|wrong| format!("a refresh was granted {wrong}: {session:?}")),
        );
    }

    /// Records that a refresh was rejected with `invalid_grant`. Reuse ends the grant if the client
    /// proves itself, which it must be able to do if nothing goes wrong.
    pub(crate) fn refused(&mut self, ticket: &Ticket, entitled: bool, calm: bool, now: Duration) {
        self.over_with(ticket, now);
        let line = self.lines.entry(ticket.token.key).or_default();
        let unproven = line.unproven.is_some_and(|at| ticket.at <= at);
        let proven = entitled && (calm || !unproven);
        if proven && ticket.reuse && line.begun == ticket.begun && line.session.is_some() {
            line.dead.get_or_insert((now, "an old token was presented"));
        }
    }

    /// Checks that there is an excuse for the rejection of a client's newest token.
    pub(crate) fn logged_out(&mut self, session: usize) {
        if !self.has_excuse(session) {
            self.violation(format!(
                "a conforming client was logged out of session {session}"
            ));
        }
    }

    /// Records that a revocation of the newest token of a client with one tab was confirmed.
    pub(crate) fn revoked(&mut self, session: usize, token: &Token, now: Duration) {
        // In the meantime a thief may hold the newest token, or a failover may have left none that
        // its client knows.
        let excuses = self
            .sessions
            .get(&session)
            .map(|session| session.excuses.as_slice());
        // A strict layer considers a token late that was rotated a moment ago, and ends nothing.
        if self.strict || excuses != Some(&[Excuse::Left]) {
            return;
        }
        if let Some(line) = self.lines.get_mut(&token.key) {
            line.dead
                .get_or_insert((now, "its revocation was confirmed"));
        }
    }
}
