//! The promises to clients that were logged in before the layer was installed.

use std::time::Duration;

use super::{Excuse, Ledger};
use crate::cluster::Life;
use crate::plan::Plan;
use crate::token::Token;

/// The end of the adoption period, and the time for which a response can be replayed.
#[derive(Debug)]
pub(super) struct Terms {
    until: Duration,
    window: Duration,
    /// The largest time between sending a request and its effect, plus the largest error of its
    /// clock.
    slack: Duration,
}

impl Terms {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            until: plan.adopt_until,
            window: if plan.strict {
                Duration::ZERO
            } else {
                plan.retry_window
            },
            slack: plan.rotation_timeout + Duration::from_secs(8),
        }
    }
}

impl Ledger {
    /// Records a session that began before the layer, and whose client holds this token.
    pub(crate) fn began_before(&mut self, session: usize, token: &Token) {
        self.sessions.entry(session).or_default();
        let line = self.lines.entry(token.key).or_default();
        line.session = Some(session);
        line.tokens.push(token.clone());
    }

    /// Records that a token from before the layer is about to be presented, by its client or with
    /// everything that the client has.
    pub(crate) fn present_foreign(&mut self, token: &Token, life: Life, now: Duration) {
        self.forwards(token, life, now);
        let Terms {
            until,
            window,
            slack,
        } = self.adoption;
        let Some(line) = self.lines.get_mut(&token.key) else {
            return;
        };
        let again = line.begun > 0;
        line.begun += 1;
        let excuse = match line.adopted {
            Some(at) if now + slack >= at + window => Excuse::AdoptedBefore,
            None if self.strict && again => Excuse::AdoptedBefore,
            None if !life.hands_back && now + slack + Plan::SKEW >= until => Excuse::AdoptedTooLate,
            Some(_) | None => return,
        };
        self.excuse_line(&token.key, excuse);
    }

    /// Checks the response to such a token, whose access token is of that session.
    pub(crate) fn adopted(&mut self, presented: &Token, session: Option<usize>) {
        if self.session(presented) != session {
            self.violation(format!(
                "an adoption got the response of another session: {session:?}"
            ));
        }
    }
}
