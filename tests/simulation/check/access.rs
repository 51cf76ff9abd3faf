//! The promises about reference access tokens.

use std::time::Duration;

use tower_oauth_refresh::{Event, EventKind, GrantKey};

use super::Ledger;
use crate::access::Pass;

/// Returns the grant and generation for which an access token must exist by now, if access tokens
/// are issued at all.
pub(super) fn minted(event: &Event) -> Option<(GrantKey, u32)> {
    let (grant, generation) = event.grant.zip(event.generation)?;
    match event.kind {
        EventKind::Issued | EventKind::Adopted => Some((grant, generation)),
        EventKind::Rotated => Some((grant, generation + 1)),
        _ => None,
    }
}

impl Ledger {
    /// Records that a client received this access token, possibly again.
    pub(crate) fn issued(&mut self, pass: Pass) {
        if !self.passes.iter().any(|known| known.key == pass.key) {
            self.passes.push(pass);
        }
    }

    pub(crate) fn passes(&self) -> &[Pass] {
        &self.passes
    }

    /// Checks a request with this token that was let in at this time.
    pub(crate) fn let_in(&mut self, pass: &Pass, at: Duration) {
        let end = self.end_of(&pass.grant);
        if let Some((since, why)) = end.filter(|(since, _)| *since + self.remembered < at) {
            let late = (at - since).as_millis();
            self.violation(format!(
                "an access token was let in {late} ms after its grant had ended ({why})"
            ));
        }
        if pass.until + Pass::MARGIN < at {
            self.violation("an expired access token was let in");
        }
    }

    /// Checks a request with this token that was rejected.
    ///
    /// A rotation and its access token are two writes. Until both are stored, another instance may
    /// replay the response after only the first of them.
    pub(crate) fn kept_out(&mut self, pass: &Pass, now: Duration) {
        let over = now + Pass::MARGIN > pass.until || self.lost.contains(&pass.key);
        let ended = self
            .lines
            .get(&pass.grant)
            .is_none_or(|line| line.dead.is_some());
        // Access tokens that came with the same refresh token have the same generation.
        let kept = self
            .lines
            .get(&pass.grant)
            .is_some_and(|line| line.kept || line.converged);
        let complete = (pass.grant.into(), pass.generation);
        // An access token that is older than the current refresh token may not lead to it.
        let is_old = self
            .lines
            .get(&pass.grant)
            .is_none_or(|line| !line.trail.is_current(&pass.with));
        let over = over || (self.renews && is_old && now + Pass::MARGIN > pass.upstream_until);
        let whole = self.minted.contains(&pass.key) || (!kept && self.complete.contains(&complete));
        if whole && !over && !ended && !self.has_excuse(pass.session) {
            self.violation(format!(
                "a valid access token of session {} was rejected",
                pass.session
            ));
        }
    }
}
