//! [`RotationPolicy`]: the refreshes that replace the refresh token of a client.

use std::sync::Arc;
use std::time::Duration;

use crate::wire::client::ClientId;

/// The rule by which a refresh replaces the refresh token of the client with the next one. Set for
/// each client with
/// [`RefreshLayerBuilder::rotation_policy`](crate::RefreshLayerBuilder::rotation_policy).
///
/// A token that is not replaced is *kept*: the response contains the presented token again. All
/// other rules stay the same. The inner service is called, and the layer stores the upstream token
/// that it returns, so the inner service may rotate its tokens as it likes. Requests that arrive at
/// once share one call of the inner service, and within the
/// [`retry_window`](crate::RefreshLayerBuilder::retry_window) the same request gets the same
/// response. The grant still expires, can be revoked, and is bound to its client.
///
/// # Security
///
/// RFC 9700 §4.14.2 requires that the refresh tokens of public clients are sender-constrained or
/// rotated. [`Never`](Self::Never) and [`WhenOlderThan`](Self::WhenOlderThan) are therefore for
/// clients that authenticate, or whose tokens the inner service binds to a key (DPoP, mutual TLS).
/// A stolen copy of a kept token is only noticed when the token is rotated: with `Never`, no reuse
/// is detected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RotationPolicy {
    /// Every refresh replaces the token. The default.
    #[default]
    EveryUse,
    /// A refresh replaces the token if it was issued at least this long ago.
    WhenOlderThan(Duration),
    /// No refresh replaces the token. The client keeps it as long as its grant lives.
    ///
    /// A token that was replaced before this policy was set keeps its rules: in its
    /// [`shared_token_window`](crate::RefreshLayerBuilder::shared_token_window) it leads to the
    /// current token, and if the client never presented a newer one it can be recovered. A token
    /// from before the layer is replaced once, when it is
    /// [adopted](crate::RefreshLayerBuilder::adopt_until).
    Never,
}

impl RotationPolicy {
    /// Returns the policy of the [FAPI 2.0 Security Profile]: [`Never`](Self::Never).
    ///
    /// §5.3.2.1 (9): authorization servers "shall not use refresh token rotation except in
    /// extraordinary circumstances". Its note 1 gives the reason: a client that fails to receive or
    /// store the new token has no way to try again. The profile only allows confidential clients
    /// and sender-constrained access tokens. Open Finance Brasil ([Financial-grade API Security
    /// Profile 1.0], §5.2.2) forbids rotation, too.
    ///
    /// [FAPI 2.0 Security Profile]: https://openid.net/specs/fapi-security-profile-2_0-final.html
    /// [Financial-grade API Security Profile 1.0]:
    ///     https://openfinancebrasil.atlassian.net/wiki/spaces/OF/pages/245694465
    #[must_use]
    pub const fn fapi2() -> Self {
        Self::Never
    }

    /// Returns the policy of the Model Context Protocol: [`EveryUse`](Self::EveryUse).
    ///
    /// Its authorization specification of 2025-11-25 ([section Token Theft]) says: "For public
    /// clients, authorization servers MUST rotate refresh tokens as described in OAuth 2.1 Section
    /// 4.3.1". It requires nothing of clients that authenticate, and most MCP clients are public.
    ///
    /// [section Token Theft]:
    ///     https://modelcontextprotocol.io/specification/2025-11-25/basic/authorization#token-theft
    #[must_use]
    pub const fn mcp() -> Self {
        Self::EveryUse
    }

    /// Returns the policy for platforms that link accounts, such as Google and Amazon Alexa:
    /// [`Never`](Self::Never).
    ///
    /// Google exchanges one "long-lived refresh token" for access tokens: the response to a refresh
    /// in its [documentation](https://developers.google.com/identity/account-linking/oauth-linking)
    /// has no refresh token. [Alexa] saves a pair of tokens when the user links the account, and
    /// uses that refresh token from then on. Many such platforms ignore or lose a new one, and the
    /// user must then link the account again. They authenticate with a client secret.
    ///
    /// [Alexa]:
    ///     https://developer.amazon.com/en-US/docs/alexa/account-linking/configure-authorization-code-grant.html
    #[must_use]
    pub const fn account_linking() -> Self {
        Self::Never
    }
}

/// The client of a refresh request, for the callback of
/// [`RefreshLayerBuilder::rotation_policy`](crate::RefreshLayerBuilder::rotation_policy).
///
/// It describes the request before the inner service has checked it. If the inner service rejects
/// the credential or the proof, nothing is kept or replaced.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientInfo {
    /// The client that the request names.
    pub client_id: ClientId,
    /// Whether the request carries a credential of the client: a secret, a `client_assertion`, an
    /// `OAuth-Client-Attestation` header, another `Authorization` scheme, or a [`ClientId`] that an
    /// outer layer has added to its extensions.
    pub authenticates: bool,
    /// Whether the request proves possession of a key: it has a `DPoP` header (RFC 9449), or an
    /// outer layer has added the mark [`SenderConstrained`](crate::SenderConstrained).
    pub sender_constrained: bool,
}

/// The callback that returns the policy of a client. Without one, it is the default.
#[derive(Clone, Default)]
pub(crate) struct PolicyOfClient(Option<Arc<dyn Fn(&ClientInfo) -> RotationPolicy + Send + Sync>>);

impl PolicyOfClient {
    pub(crate) fn new(
        policy: impl Fn(&ClientInfo) -> RotationPolicy + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(policy)))
    }

    /// Returns the policy of the client that `client` returns.
    pub(crate) fn of(&self, client: impl FnOnce() -> ClientInfo) -> RotationPolicy {
        self.0
            .as_ref()
            .map_or_else(RotationPolicy::default, |policy| policy(&client()))
    }
}

redacted_debug!(self: PolicyOfClient { is_set: self.0.is_some() });
