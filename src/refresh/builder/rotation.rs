//! Options for rotation: how long an old token is accepted, and which clients get a new one.

use std::time::Duration;

use super::RefreshLayerBuilder;
use crate::rotation_policy::{ClientInfo, PolicyOfClient, RotationPolicy};
use crate::store::Store;

impl<St: Store> RefreshLayerBuilder<St> {
    /// Sets the time after a rotation in which the same request gets the same response again, with
    /// any token that leads to the current one. Default: 60 s. At most a hundred years. Zero
    /// disables replay.
    ///
    /// A client that sends the same request twice stays logged in: from two tabs, as a retry, or
    /// because a response was lost. The stored response is sealed under the token that it contains.
    /// A replay must have the same client secret, scope and resources. Any other request with an
    /// old token reaches the inner service and gets the current token, in the
    /// [`shared_token_window`](Self::shared_token_window).
    pub fn retry_window(mut self, window: Duration) -> Self {
        self.windows.retry = Some(window);
        self
    }

    /// Sets the time for which a token that was rotated away still leads to the current one.
    /// Default: the [`retry_window`](Self::retry_window). At most the
    /// [`idle_lifetime`](Self::idle_lifetime). Zero disables this window.
    ///
    /// A request with such a token gets the current token and a new access token, even if the
    /// current token was already presented. It also starts the window of the old token again. With
    /// an hour or a day, any number of processes with private copies of one token stay logged in:
    /// editors, command-line tools, agents. The price: within this window a stolen copy cannot be
    /// distinguished from a stale one, so neither ends the grant.
    ///
    /// A grant that is rotated again within the window keeps the link of each older token in the
    /// store, at most 256 bytes of Redis memory each. One request follows at most 64 links: a token
    /// that is further behind gets `invalid_grant`.
    pub fn shared_token_window(mut self, window: Duration) -> Self {
        self.windows.shared = Some(window);
        self
    }

    /// Sets the time after a rotation in which the previous token may be rotated again, as long as
    /// its successor was never presented. Default: as long as the grant lives. Zero disables
    /// recovery. Any other value must be longer than the [`retry_window`](Self::retry_window) and
    /// at most a hundred years.
    ///
    /// Recovery is for clients that lost the response and return after the other windows, such as
    /// laptops that were closed over a weekend. FAPI 2.0 Security Profile §5.3.2.1 asks servers
    /// that rotate refresh tokens to let such clients retry.
    pub fn recovery_window(mut self, window: Duration) -> Self {
        self.windows.recovery = Some(window);
        self
    }

    /// Sets whether all windows are zero, so that an old token ends its grant (the strictest
    /// reading of RFC 9700 §4.14.2). Default: `false`. With `true`, [`build`](Self::build) returns
    /// an error if a window other than zero is set, too.
    ///
    /// Requests that arrive while another request rotates the same token are rejected, but do not
    /// end the grant.
    pub fn strict(mut self, strict: bool) -> Self {
        self.windows.strict = strict;
        self
    }

    /// Sets the callback that returns the rotation policy of a client. Default:
    /// [`RotationPolicy::EveryUse`] for every client.
    ///
    /// The callback is called once for each refresh request, before the layer reads or locks
    /// anything. A new policy of a client applies from its next refresh. The callback runs within
    /// the request and must not block. If it panics, only that request fails.
    ///
    /// RFC 9700 §4.14.2 requires that the refresh tokens of public clients are rotated or
    /// sender-constrained, so check [`authenticates`](ClientInfo::authenticates) or
    /// [`sender_constrained`](ClientInfo::sender_constrained) before you return another policy:
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use tower_oauth_refresh::{MemoryStore, RefreshLayer, RotationPolicy};
    ///
    /// let refresh = RefreshLayer::builder(MemoryStore::new()).rotation_policy(|client| {
    ///     match client.client_id.as_str() {
    ///         "alexa" if client.authenticates => RotationPolicy::account_linking(),
    ///         _ if client.sender_constrained => {
    ///             RotationPolicy::WhenOlderThan(Duration::from_secs(24 * 3600))
    ///         }
    ///         _ => RotationPolicy::EveryUse,
    ///     }
    /// });
    /// # assert!(refresh.build().is_ok());
    /// ```
    pub fn rotation_policy(
        mut self,
        policy: impl Fn(&ClientInfo) -> RotationPolicy + Send + Sync + 'static,
    ) -> Self {
        self.config.rotation_policy = PolicyOfClient::new(policy);
        self
    }
}
