//! Options for the tokens of the layer: their format, and what an access token stands for.

use std::time::Duration;

use super::RefreshLayerBuilder;
use crate::store::Store;

impl<St: Store> RefreshLayerBuilder<St> {
    /// Sets the prefix of refresh tokens, which lets secret scanners recognize leaked tokens.
    /// Default: `rt_`. At most 32 bytes of `A-Z a-z 0-9 - . _ ~`.
    ///
    /// A token is the prefix followed by 72 characters of base64url. The last eight are a checksum
    /// over the prefix and the other 64 characters: the first six bytes of SHA-256 over
    /// `tower-oauth-refresh checksum`, the prefix, and the 48 bytes that the 64 characters encode.
    /// The checksum does not protect the token, because anyone can compute it. It lets the layer
    /// recognize foreign or damaged tokens without reading the store.
    ///
    /// If the prefix changes, all tokens issued before count as foreign. If the inner service has a
    /// `RefreshLayer` of its own and tokens are [adopted](Self::adopt_until), the two layers need
    /// different prefixes.
    pub fn token_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.config.prefix = prefix.into();
        self
    }

    /// Sets whether the `access_token` of every token response is replaced with an opaque reference
    /// access token of the layer. Default: `false`; the client gets the access token of the inner
    /// service.
    ///
    /// An [`AccessLayer`](crate::AccessLayer) on the routes of the resource server exchanges it for
    /// the upstream access token, or removes it. A reference access token is valid for as long as
    /// the `expires_in` of the response says (one hour if that is missing, see also
    /// [`access_token_lifetime`](Self::access_token_lifetime)), but not longer than its grant. When
    /// the grant is revoked, expires or ends because of reuse, its access tokens end, too.
    ///
    /// No token of the inner service reaches a client in a response of the token, revocation or
    /// introspection endpoint:
    ///
    /// - An `id_token` is removed (see [`keep_id_token`](Self::keep_id_token)). Members at any
    ///   depth are removed if their name is that of a token (`accessToken`, `user_token`, `jwt`;
    ///   case, `_` and `-` are ignored), if their text assigns a value to such a name (JSON in a
    ///   string, a query string), if their value is a JWT, or if it contains a removed token. The
    ///   same applies to headers, including `Set-Cookie`. All other bytes of the response stay as
    ///   they are.
    /// - An error response that discloses a token, or a response that cannot be inspected, is
    ///   withheld: the client gets 502.
    ///
    /// The layer cannot recognize a token whose name does not suggest one, that is not a JWT, and
    /// that no other member holds under the name of a token.
    ///
    /// A token request without a client identifier gets `invalid_client` before the inner service
    /// is called, because its response could not be bound to a client. If the store fails when a
    /// grant begins, the client gets 503, because there is no token to return.
    ///
    /// The token is a bearer token (RFC 6750), whatever `token_type` says. Do not use this with an
    /// inner service that binds tokens to a key (DPoP, mutual TLS).
    pub fn reference_access_tokens(mut self, reference: bool) -> Self {
        self.config.reference = reference;
        self
    }

    /// Sets the prefix of reference access tokens. Default: `at_`. At most 32 bytes of
    /// `A-Z a-z 0-9 - . _ ~`, and different from the [`token_prefix`](Self::token_prefix).
    pub fn access_token_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.config.access_prefix = prefix.into();
        self
    }

    /// Sets how long a reference access token lives. Default: as long as the upstream access token.
    /// At least a millisecond, at most a hundred years. [`build`](Self::build) returns an error
    /// without [`reference_access_tokens`](Self::reference_access_tokens).
    ///
    /// An access token expires earlier if the `expires_in` of the inner service says that its
    /// upstream access token does, unless the layer
    /// [renews](crate::AccessLayerBuilder::upstream_refresh) the upstream access token. It always
    /// ends with its grant. With this setting, every token response of the layer states the
    /// lifetime of its access token in `expires_in`, in whole seconds. If the responses of the
    /// inner service have no `expires_in`, choose at most the lifetime of its access tokens:
    /// otherwise the layer accepts access tokens that the inner service does not.
    ///
    /// A change of this setting applies to access tokens that are issued from then on.
    pub fn access_token_lifetime(mut self, lifetime: Duration) -> Self {
        self.config.access_token_lifetime = Some(lifetime);
        self
    }

    /// Sets whether an `id_token` stays in responses although
    /// [`reference_access_tokens`](Self::reference_access_tokens) is set. Default: `false`. With
    /// `true`, [`build`](Self::build) returns an error without that setting.
    ///
    /// An `id_token` identifies the user to the client (OpenID Connect Core §2) and is not an
    /// access token, but some resource servers accept it as one. Its `at_hash` belongs to the
    /// upstream access token, so a client that compares it with the access token it received will
    /// reject the response.
    pub fn keep_id_token(mut self, keep: bool) -> Self {
        self.config.keep_id_token = keep;
        self
    }

    /// Adds resources (RFC 8707) that an access token is valid for if its client requests them.
    /// Default: none. Several calls add up. Each must be an absolute URI without a fragment.
    ///
    /// With [`reference_access_tokens`](Self::reference_access_tokens) the layer stores which
    /// resources an access token is valid for, and
    /// [`AccessLayerBuilder::resource`](crate::AccessLayerBuilder::resource) requires one of them.
    /// The `resource` parameter of a token request proves nothing, because an inner service that
    /// does not support RFC 8707 ignores it. So a resource counts if the token response names it in
    /// a `resource` member (a string or an array of strings). If the response has no such member, a
    /// resource counts if it was requested and is in this list. A request for any other resource is
    /// forwarded and answered as before, but its access token is not valid for that resource.
    ///
    /// List the resources that every client of the inner service may use, or that the inner service
    /// checks but does not name in its responses. Resources are compared byte for byte.
    pub fn allowed_resources(
        mut self,
        resources: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.config
            .allowed_resources
            .extend(resources.into_iter().map(Into::into));
        self
    }
}
