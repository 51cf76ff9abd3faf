use crate::clock::Timestamp;
use crate::grant::{GrantKey, Record};

/// A session of a user: one grant that has neither ended nor expired.
#[derive(Clone)]
pub struct Session {
    pub(super) grant: GrantKey,
    pub(super) record: Record,
    pub(super) label: Box<str>,
    pub(super) sid: Box<str>,
}

impl Session {
    /// Returns the key of the grant, for
    /// [`RefreshLayer::end_grant`](crate::RefreshLayer::end_grant).
    #[must_use]
    pub fn grant(&self) -> GrantKey {
        self.grant
    }

    /// Returns the client that the user logged in to.
    #[must_use]
    pub fn client_id(&self) -> &str {
        self.record.binding.client_id.as_str()
    }

    /// Returns when the grant began.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.record.created_at
    }

    /// Returns the time of the last refresh. `None` before the first one.
    #[must_use]
    pub fn last_refreshed_at(&self) -> Option<Timestamp> {
        self.record.rotated_at
    }

    /// Returns when the grant expires, unless it is refreshed before.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.record.expires_at
    }

    /// Returns the granted scope tokens (RFC 6749 §3.3). The iterator is empty if the scope is
    /// unknown.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        let scope = self.record.binding.scope.as_ref();
        let scope = scope.map(|scope| scope.as_str()).unwrap_or_default();
        scope.split(' ').filter(|token| !token.is_empty())
    }

    /// Returns the text of the [`SessionLabel`](crate::SessionLabel) that the inner service set at
    /// the log-in.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        Some(&*self.label).filter(|label| !label.is_empty())
    }

    /// Returns the session at the identity provider in which the user logged in: the `sid` of the
    /// ID token (OpenID Connect Back-Channel Logout 1.0 §2.1), if it has one of at most 255 bytes.
    #[must_use]
    pub fn sid(&self) -> Option<&str> {
        Some(&*self.sid).filter(|sid| !sid.is_empty())
    }
}

redacted_debug!(self: Session {
    grant, client_id: self.client_id(), expires_at: self.expires_at(),
});
