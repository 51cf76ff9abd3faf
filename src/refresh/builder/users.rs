//! Options for what the layer keeps of the user of a grant.

use super::RefreshLayerBuilder;
use crate::store::Store;
use crate::subject::SubjectKey;

impl<St: Store> RefreshLayerBuilder<St> {
    /// Sets the claims of the ID token that are kept with a grant, for
    /// [`AccessGrant::claim`](crate::AccessGrant::claim). Default: none. They are read when the
    /// [subject](crate::Subject) of the grant is, and again from each later ID token of the same
    /// subject. The first claims, in this order, that fit into 2 KiB of JSON are kept. The store
    /// has them sealed under the tokens of the grant.
    pub fn claims(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.config.claims = names.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the claim of the ID token that is the id of the [subject](crate::Subject). Default:
    /// `sub`. It must identify the user for ever: Microsoft Entra ID, whose `sub` differs from
    /// client to client, has `oid`. An email address can change its owner.
    pub fn subject_claim(mut self, name: impl Into<String>) -> Self {
        self.config.subject_claim = name.into();
        self
    }

    /// Sets a secret with which the store's list of the sessions of a user is found and sealed.
    /// Default: none, and then an attacker with a copy of the store who guesses a
    /// [subject](crate::Subject) learns that user's sessions. All instances must have the same
    /// secret. If it changes, the sessions that began before are no longer listed.
    pub fn subject_key(mut self, key: [u8; 32]) -> Self {
        self.config.subject_key = Some(SubjectKey::new(key));
        self
    }

    /// Sets whether sessions are also listed by the session at the identity provider in which they
    /// began, so that [`end_provider_session`](crate::RefreshLayer::end_provider_session) finds
    /// them. Default: `false`. If set, a log-in whose ID token has a `sid` makes one more call of
    /// the store, at the same time as another one, and leaves one more entry there, for as long as
    /// the session is listed for its user. The ID token must have an `iss`.
    pub fn provider_sessions(mut self, list: bool) -> Self {
        self.config.provider_sessions = list;
        self
    }
}
