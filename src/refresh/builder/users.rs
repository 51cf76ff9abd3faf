//! Options for what the layer keeps of the user of a grant.

use super::RefreshLayerBuilder;
use crate::store::Store;
use crate::subject::SubjectKey;

impl<St: Store> RefreshLayerBuilder<St> {
    /// Sets the claims of the ID token that are kept with a grant, for
    /// [`AccessGrant::claim`](crate::AccessGrant::claim). Default: none. The layer reads them
    /// together with the [subject](crate::Subject) of the grant, and again from each later ID token
    /// of the same subject. It keeps the first claims, in the order of `names`, that fit into 2 KiB
    /// of JSON. In the store they are sealed under the tokens of the grant.
    pub fn claims(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.config.claims = names.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the claim of the ID token that is the id of the [subject](crate::Subject). Default:
    /// `sub`. The claim must identify the same user for good, so do not use an e-mail address,
    /// whose owner can change. For Microsoft Entra ID, whose `sub` differs from client to client,
    /// set `oid`.
    pub fn subject_claim(mut self, name: impl Into<String>) -> Self {
        self.config.subject_claim = name.into();
        self
    }

    /// Sets a secret that protects the list of the sessions of a user in the store: its key and its
    /// seal are derived from the [subject](crate::Subject) and this secret. Default: none. An
    /// attacker who has a copy of the store and guesses a subject then learns the sessions of that
    /// user. All instances must have the same secret. If it changes, the sessions that began before
    /// are no longer listed.
    pub fn subject_key(mut self, key: [u8; 32]) -> Self {
        self.config.subject_key = Some(SubjectKey::new(key));
        self
    }

    /// Sets whether sessions are also listed by the session at the identity provider in which they
    /// began, so that [`end_provider_session`](crate::RefreshLayer::end_provider_session) finds
    /// them. Default: `false`. With `true`, a log-in whose ID token has a `sid` and an `iss` writes
    /// one more entry to the store, which is kept for as long as the session is listed for its
    /// user. The write is concurrent with that of the user's list.
    pub fn provider_sessions(mut self, list: bool) -> Self {
        self.config.provider_sessions = list;
        self
    }
}
