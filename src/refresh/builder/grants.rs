//! Options for the life of a grant: how it begins, how long it lives, and how it is handed back.

use std::time::{Duration, SystemTime};

use super::RefreshLayerBuilder;
use crate::store::Store;

impl<St: Store> RefreshLayerBuilder<St> {
    /// Sets how long a grant lives without a rotation. Default: 30 days. At least a millisecond, at
    /// most a hundred years.
    ///
    /// The lifetime of a grant is shorter if the response of the inner service has a shorter
    /// `refresh_token_timeout`, `refresh_expires_in` or `refresh_token_expires_in` (0 means no
    /// limit). A change of this setting applies to a grant from its next rotation.
    ///
    /// Every response with a refresh token of the layer states in `refresh_token_timeout` how many
    /// seconds the token is valid if it is not used ([draft-ietf-oauth-refresh-token-expiration]
    /// §6.1). The two other members have the same value if the inner service sent them. A client
    /// that does not know a member ignores it (RFC 6749 §5.1).
    ///
    /// [draft-ietf-oauth-refresh-token-expiration]:
    ///     https://datatracker.ietf.org/doc/draft-ietf-oauth-refresh-token-expiration/
    pub fn idle_lifetime(mut self, lifetime: Duration) -> Self {
        self.config.idle_lifetime = lifetime;
        self
    }

    /// Sets how long a grant lives from its beginning, however often it is rotated. Default: no
    /// limit. At least a millisecond, at most a hundred years.
    ///
    /// The limit is stored when a grant begins, so a change of this setting applies only to new
    /// grants. A grant ends earlier if the inner service names a shorter lifetime of the user's
    /// authorization in `authorization_expires_in` (0 means no limit). The next response may extend
    /// that lifetime, but never beyond this setting.
    ///
    /// If a grant has such an end, every response with a refresh token states the seconds until
    /// then in `authorization_expires_in` ([draft-ietf-oauth-refresh-token-expiration] §6.1).
    /// Otherwise the member is removed: the layer knows no bound (§6.1.2). A server that publishes
    /// metadata can list "token_timeout" in `refresh_token_expiration_types_supported` (§8), and
    /// "authorization" if this setting is set.
    ///
    /// [draft-ietf-oauth-refresh-token-expiration]:
    ///     https://datatracker.ietf.org/doc/draft-ietf-oauth-refresh-token-expiration/
    pub fn absolute_lifetime(mut self, lifetime: Duration) -> Self {
        self.config.absolute_lifetime = Some(lifetime);
        self
    }

    /// Adopts grants that began before the layer was installed: until `time`, a refresh token that
    /// does not have the format of the layer is forwarded unchanged, and its grant becomes a grant
    /// of the layer. Default: no token is adopted, and the users of such tokens must log in again.
    ///
    /// An adopted token leads to its grant like any other old token, also after `time`: within the
    /// [`shared_token_window`](Self::shared_token_window), and after it as long as the token of the
    /// layer that replaced it was never presented.
    ///
    /// ```
    /// use std::time::{Duration, UNIX_EPOCH};
    ///
    /// use tower_oauth_refresh::{MemoryStore, RefreshLayer};
    ///
    /// // 2026-12-31T00:00:00Z: the last old refresh token has expired by then.
    /// let time = UNIX_EPOCH + Duration::from_secs(1_798_675_200);
    /// let refresh = RefreshLayer::builder(MemoryStore::new()).adopt_until(time).build();
    /// # assert!(refresh.is_ok());
    /// ```
    pub fn adopt_until(mut self, time: SystemTime) -> Self {
        self.config.adopt_until = Some(time.into());
        self
    }

    /// Sets whether grants are handed back to the inner service, so that the layer can be removed
    /// without logging anyone out. Default: `false`.
    ///
    /// With `true`, the response to the next refresh of a grant contains the refresh token of the
    /// inner service, and the grant is retired: for the [`retry_window`](Self::retry_window), the
    /// same request gets the same response, and then the grant expires. Log-ins and refreshes with
    /// tokens of the inner service pass unchanged. Remove the layer when no client has a token of
    /// the layer any more, at the latest after the [`idle_lifetime`](Self::idle_lifetime).
    ///
    /// Clients can then refresh at the inner service directly. It must accept each token from the
    /// client that the layer bound it to, as it did at the log-in.
    ///
    /// An instance that does not hand back yet rejects the tokens that the others have handed back,
    /// unless it adopts them. So change all instances at once, or set
    /// [`adopt_until`](Self::adopt_until) on all of them first, to a time after the deployment, and
    /// keep it. With both, no adoption begins, but a token that another instance has adopted leads
    /// to its grant, so that the inner service does not see it again.
    ///
    /// [`build`](Self::build) returns an error if
    /// [`reference_access_tokens`](Self::reference_access_tokens) is set, too: set it to `false`
    /// first, and hand back when the reference access tokens have expired.
    pub fn hand_back(mut self, hand_back: bool) -> Self {
        self.config.hand_back = hand_back;
        self
    }

    /// Sets whether a log-in fails when its grant cannot be stored. Default: `false`.
    ///
    /// By default the client then gets the response of the inner service without a refresh token
    /// (RFC 6749 §5.1 allows that), and the user is logged in until the access token expires. With
    /// `true` the client gets 503 `temporarily_unavailable`, and must start the log-in again if the
    /// inner service has used up its authorization code. In both cases the refresh token of the
    /// inner service is lost.
    pub fn refuse_unstored_grants(mut self, refuse: bool) -> Self {
        self.config.refuse_unstored_grants = refuse;
        self
    }
}
