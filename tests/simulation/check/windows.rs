//! Which tokens of a grant lead to the current one, and until when.

use std::collections::BTreeMap;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tower_oauth_refresh::store::{ClaimTag, SidecarName};

use crate::plan::Plan;

/// The windows of a run, and how far a token may be accepted or rejected beside their ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    pub(super) retry: Duration,
    shared: Duration,
    /// The largest time between sending a request and its decision, plus the largest error of a
    /// clock.
    pub(super) before: Duration,
    /// The largest error of a clock of an instance or of the store.
    pub(super) after: Duration,
    /// The longest time for which the layer goes on with a request that has no answer.
    pub(super) linger: Duration,
}

impl Windows {
    pub(super) fn new(plan: &Plan) -> Self {
        let linger = plan.rotation_timeout * 3 + Duration::from_secs(70);
        Self {
            retry: plan.retry_window,
            shared: plan.shared_window(),
            before: Plan::SKEW + plan.rotation_timeout + Duration::from_secs(8),
            after: Plan::SKEW + Duration::from_secs(8),
            linger,
        }
    }

    /// Returns the time after the last use of a grant after which no request is in progress, and
    /// every old token is reuse.
    pub(super) fn silence(&self) -> Duration {
        self.retry + Plan::SKEW + self.linger
    }
}

/// The start of the window of a token that was rotated away: it starts again if the token
/// converges.
#[derive(Clone, Copy, Debug)]
struct Start {
    earliest: Duration,
    latest: Duration,
}

/// The current and previous tokens of a grant, and the starts of the windows of older ones.
#[derive(Debug, Default)]
pub(super) struct Trail {
    current: Option<ClaimTag>,
    /// Whether the current token was presented.
    presented: bool,
    /// The previous token of the record; several, if the store has lost writes.
    previous: Vec<ClaimTag>,
    starts: BTreeMap<[u8; 32], Start>,
}

/// Returns the name of the sidecar that holds the link of this token.
pub(crate) fn link_name(tag: &ClaimTag) -> SidecarName {
    let digest = Sha256::new()
        .chain_update("tower-oauth-refresh link")
        .chain_update(tag.as_bytes())
        .finalize();
    SidecarName::new(*digest.first_chunk().unwrap())
}

impl Trail {
    /// Records that a request presents this token.
    pub(super) fn begin(&mut self, tag: &ClaimTag) {
        self.presented |= self.current == Some(*tag);
    }

    pub(super) fn is_current(&self, tag: &ClaimTag) -> bool {
        self.current == Some(*tag)
    }

    /// Records that the grant has a new token, stored together with sidecars of these names.
    pub(super) fn committed(&mut self, tag: ClaimTag, names: &[SidecarName], now: Duration) {
        self.presented = false;
        let Some(old) = self.current.replace(tag) else {
            return;
        };
        self.start(&old, now, true);
        // A recovery drops the current token and stores its link. The previous token stays.
        if names.contains(&link_name(&old)) {
            self.start_previous(now);
        } else {
            self.previous = vec![old];
        }
    }

    /// Records that a token converged. Its link is stored in a sidecar, unless it is the previous
    /// token.
    pub(super) fn converged(&mut self, names: &[SidecarName], renews: bool, now: Duration) {
        let mut linked = self.starts.keys().copied().map(ClaimTag::new);
        match linked.find(|tag| names.contains(&link_name(tag))) {
            Some(tag) => self.start(&tag, now, true),
            // A renewal has no sidecar either, and starts no window.
            None if renews && names.is_empty() => {
                for tag in self.previous.clone() {
                    self.start(&tag, now, false);
                }
            }
            None => self.start_previous(now),
        }
    }

    fn start_previous(&mut self, now: Duration) {
        let certain = self.previous.len() == 1;
        for tag in self.previous.clone() {
            self.start(&tag, now, certain);
        }
    }

    fn start(&mut self, tag: &ClaimTag, now: Duration, certain: bool) {
        let new = Start {
            earliest: now,
            latest: now,
        };
        let start = self.starts.entry(*tag.as_bytes()).or_insert(new);
        start.latest = now;
        if certain {
            start.earliest = now;
        }
    }

    /// Records that the store has lost writes. Any older token may be the previous one.
    pub(super) fn rolled_back(&mut self, order: &[ClaimTag], undone: &[ClaimTag]) {
        self.current = order.last().copied();
        self.presented = false;
        self.previous = order.iter().chain(undone).copied().collect();
    }

    /// Returns whether this token must be accepted.
    pub(super) fn is_valid(&self, tag: &ClaimTag, now: Duration, windows: &Windows) -> bool {
        let windowed = |start: &Start| now + windows.before < start.earliest + windows.shared;
        self.current == Some(*tag)
            || (self.previous == [*tag] && !self.presented)
            || self.starts.get(tag.as_bytes()).is_some_and(windowed)
    }

    /// Returns whether this token must no longer be accepted: it is not the previous one, and its
    /// window is over.
    pub(super) fn is_over(&self, tag: &ClaimTag, now: Duration, windows: &Windows) -> bool {
        let over = |start: &Start| start.latest + windows.shared + windows.after < now;
        self.current != Some(*tag)
            && !self.previous.contains(tag)
            && self.starts.get(tag.as_bytes()).is_some_and(over)
    }
}
