//! The builder of [`RefreshLayer`]: every option, with its default. It checks the settings when it
//! is built.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::StatusCode;

use crate::clock::{Clock, SystemClock};
use crate::endpoint::config::{self, Config, Paths};
use crate::endpoint::state::State;
use crate::error::ConfigError;
use crate::event::Event;
use crate::random::{OsRandom, SecureRandom};
use crate::refresh::layer::RefreshLayer;
use crate::rotation_policy::{ClientInfo, PolicyOfClient, RotationPolicy};
use crate::store::Store;
use crate::subject::SubjectKey;

/// A builder for [`RefreshLayer`]. [`build`](RefreshLayerBuilder::build) checks the settings.
///
/// ```
/// use std::time::Duration;
///
/// use tower_oauth_refresh::{MemoryStore, RefreshLayer};
///
/// # fn main() -> Result<(), tower_oauth_refresh::ConfigError> {
/// let refresh = RefreshLayer::builder(MemoryStore::new())
///     .token_path("/oauth/token")
///     .revocation_path("/oauth/revoke")
///     .idle_lifetime(Duration::from_secs(14 * 24 * 3600))
///     .on_event(|event| tracing::info!(kind = %event.kind, "refresh token event"))
///     .build()?;
/// # drop(refresh);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct RefreshLayerBuilder<St> {
    store: St,
    config: Config,
    paths: Paths,
    retry_window: Option<Duration>,
    shared_token_window: Option<Duration>,
    recovery_window: Option<Duration>,
    strict: bool,
    clock: Arc<dyn Clock>,
    random: Arc<dyn SecureRandom>,
    on_event: Option<Arc<dyn Fn(&Event) + Send + Sync>>,
}

impl<St: Store> RefreshLayerBuilder<St> {
    pub(super) fn new(store: St) -> Self {
        Self {
            store,
            config: Config::default(),
            paths: Paths::default(),
            retry_window: None,
            shared_token_window: None,
            recovery_window: None,
            strict: false,
            clock: Arc::new(SystemClock),
            random: Arc::new(OsRandom),
            on_event: None,
        }
    }

    /// Sets the path of the token endpoint (RFC 6749 §3.2). Default: `/token`.
    ///
    /// It is compared byte for byte with the path that the service sees. In a nested axum router
    /// that is the path without the prefix of the nest. It is not a route pattern: `{`, `}`, `*`
    /// and segments that begin with `:` are a [`ConfigError`].
    pub fn token_path(mut self, path: impl Into<String>) -> Self {
        self.paths.token = path.into();
        self
    }

    /// Sets the path of the revocation endpoint (RFC 7009 §2). Default: `/revoke`.
    ///
    /// **Add a route for this path** inside the layer, even if the handler only returns 404.
    /// Without a route, a router may send the request past the layer (see [`RefreshLayer`]).
    ///
    /// The grant ends if the inner service confirms the revocation, does not support it (404, 405
    /// or `unsupported_token_type`), or is unavailable (it fails, returns a 5xx status, or does not
    /// respond in time). If it is unavailable, the client gets 503 and the revocation is pending:
    /// for ten minutes, or until the grant expires, the client can repeat the request so that the
    /// inner service receives it.
    ///
    /// If the client of the grant authenticates itself and the inner service does not support the
    /// revocation, the grant ends only if the token endpoint accepts the client. The layer sends a
    /// refresh request with a token that was never issued to [`token_path`](Self::token_path), by
    /// the service that got the revocation. If `Router::layer` puts the layer around each route,
    /// that service is only the handler of this path: wrap the whole router instead, or the client
    /// gets 502 and the grant continues.
    pub fn revocation_path(mut self, path: impl Into<String>) -> Self {
        self.paths.revocation = path.into();
        self
    }

    /// Sets the path of the introspection endpoint (RFC 7662 §2). Default: none; such requests pass
    /// through unchanged.
    ///
    /// Add a route for this path inside the layer, as for the
    /// [`revocation_path`](Self::revocation_path).
    ///
    /// The layer forwards the request with the upstream token, so that the inner service
    /// authenticates the caller. In the response, `client_id`, `scope`, `exp`, `iat` and
    /// `token_type` describe the token of the layer; a member whose value is unknown is left out.
    /// For a token that is not active the response is only `{"active":false}`. Requests about
    /// tokens of another format are forwarded unchanged.
    pub fn introspection_path(mut self, path: impl Into<String>) -> Self {
        self.paths.introspection = Some(path.into());
        self
    }

    /// Sets whether other spellings of the guarded paths, and all paths below them, are guarded,
    /// too. Default: `false`; paths are compared byte for byte.
    ///
    /// Use this if the inner service may interpret paths differently from this layer. A proxy must
    /// assume so. With `true`:
    ///
    /// - A POST request to `/token/`, `//token`, `/%74oken`, `/TOKEN`, `/token;a=b`, `/token.json`
    ///   or `/token/x` is handled like one to `/token`. It reaches the inner service as `/token`,
    ///   with its query.
    /// - A POST request to a path that servers resolve differently (`/x/../token`, `/token%2f`,
    ///   `/a\b`) gets 400 `invalid_request`. [`path`](crate::wire::path) lists what is ambiguous,
    ///   and [`allow_ambiguous_paths`](Self::allow_ambiguous_paths) allows exceptions.
    /// - A POST request also gets 400 if some servers remove a segment of its path and the result
    ///   is a guarded path (`/index.php/token`).
    ///
    /// If one guarded path is below another, a request below both belongs to the longer one. The
    /// guarded paths themselves must not be ambiguous.
    pub fn match_normalized_paths(mut self, normalized: bool) -> Self {
        self.paths.normalized = normalized;
        self
    }

    /// Allows POST requests with an ambiguous path below `prefix`. Several calls add up. Default:
    /// none.
    ///
    /// Use this for routes of the inner service that need an encoded slash, backslash or percent
    /// sign, such as `/api/v4/projects/group%2Fname` of GitLab. The path must begin with the prefix
    /// byte for byte. A path below it is still rejected if it has a dot segment, an invalid escape
    /// or a control character in any encoding, or if a server could interpret it as a guarded path.
    ///
    /// The risk: the inner service may resolve such a path to a place outside the prefix in a way
    /// that the rules do not cover. If it issues tokens there, they reach the client without
    /// protection. So allow only the routes that need it, not `/`.
    ///
    /// [`build`](Self::build) returns an error if
    /// [`match_normalized_paths`](Self::match_normalized_paths) is not set, or if the prefix is a
    /// guarded path or below one.
    pub fn allow_ambiguous_paths(mut self, prefix: impl Into<String>) -> Self {
        self.paths.allowed.push(prefix.into());
        self
    }

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
    /// the upstream access token, or removes it. It lives as long as the `expires_in` of the
    /// response says (one hour if that is missing, see also
    /// [`access_token_lifetime`](Self::access_token_lifetime)), but not longer than its grant. When
    /// the grant is revoked, expires or ends because of reuse, its access tokens end too.
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
    /// It lives shorter if the `expires_in` of the inner service says that the upstream access
    /// token does, and it ends with its grant. With this setting, every token response of the layer
    /// states the lifetime of its access token in `expires_in`, in whole seconds. If the inner
    /// service states none, set it to the lifetime of the upstream access tokens or less, because
    /// otherwise the layer accepts tokens that the inner service does not.
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

    /// Sets the time after a rotation in which the same request gets the same response again, with
    /// any token that leads to the current one. Default: 60 s. Zero disables replay.
    ///
    /// A client that sends the same request twice stays logged in: from two tabs, as a retry, or
    /// because a response was lost. The stored response is sealed under the token that it contains.
    /// A replay must have the same client secret, scope and resources. Any other request with an
    /// old token reaches the inner service and gets the current token, in the
    /// [`shared_token_window`](Self::shared_token_window).
    pub fn retry_window(mut self, window: Duration) -> Self {
        self.retry_window = Some(window);
        self
    }

    /// Sets the time for which a token that was rotated away still leads to the current one.
    /// Default: the [`retry_window`](Self::retry_window). At most the
    /// [`idle_lifetime`](Self::idle_lifetime). Zero disables it.
    ///
    /// A request with such a token gets the current one, with a new access token, whether or not its
    /// successor was presented. Each such request starts the window of its token again. With an hour or a day, any number of processes with private
    /// copies of one token stay logged in: editors, command-line tools, agents. The price: within
    /// this window a stolen copy cannot be told from a stale one, so neither ends the grant.
    ///
    /// A grant that is rotated again within the window keeps the link of each older token in the
    /// store, at most 256 bytes of Redis each. One request follows at most 64 links: a token that is
    /// further behind gets `invalid_grant`.
    pub fn shared_token_window(mut self, window: Duration) -> Self {
        self.shared_token_window = Some(window);
        self
    }

    /// Sets the time after a rotation in which the previous token may be rotated again, as long as
    /// its successor was never presented. Default: as long as the grant lives. Zero disables
    /// recovery. Otherwise it must be longer than the [`retry_window`](Self::retry_window).
    ///
    /// It is for clients that lost the response and return after the other windows, such as laptops
    /// that were closed over a weekend. FAPI 2.0 Security Profile §5.3.2.1 asks servers that rotate
    /// refresh tokens to let such clients retry.
    pub fn recovery_window(mut self, window: Duration) -> Self {
        self.recovery_window = Some(window);
        self
    }

    /// Sets whether all windows are zero, so that an old token ends its grant (the strictest reading
    /// of RFC 9700 §4.14.2). Default: `false`. With `true`,
    /// [`build`](Self::build) returns an error if a window other than zero is set, too.
    ///
    /// Requests that arrive while another request rotates the same token are rejected, but do not
    /// end the grant.
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Sets the callback that returns the rotation policy of a client. Default:
    /// [`RotationPolicy::EveryUse`] for every client.
    ///
    /// It is called once for each refresh request, before the layer reads or locks anything. A
    /// change of the policy of a client applies from its next refresh. The callback runs within the
    /// request and must not block. If it panics, only that request fails.
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

    /// Sets how long a grant lives without a rotation. Default: 30 days. At least a millisecond.
    ///
    /// It is shorter if the response of the inner service has a shorter `refresh_token_timeout`,
    /// `refresh_expires_in` or `refresh_token_expires_in` (0 means no limit). A change of this
    /// setting applies to a grant from its next rotation.
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
    /// limit. At least a millisecond.
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

    /// Sets how long a client waits for a rotation before it gets 503. The rotation continues
    /// without the client, and a retry gets its response. Default: 10 s. At least a millisecond, at
    /// most an hour.
    ///
    /// The inner service has twice this time to respond. An instance that dies during a rotation
    /// blocks the grant for five seconds longer than that.
    pub fn rotation_timeout(mut self, timeout: Duration) -> Self {
        self.config.rotation_timeout = timeout;
        self
    }

    /// Adopts grants that began before the layer was installed: until `time`, a refresh token that
    /// does not have the format of the layer is forwarded unchanged, and its grant becomes a grant
    /// of the layer. Default: never; the users of such tokens must log in again.
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
    /// [`build`](Self::build) returns an error if
    /// [`reference_access_tokens`](Self::reference_access_tokens) is set, too: set it to `false`
    /// first, and hand back when the reference access tokens have expired. The same holds for
    /// [`adopt_until`](Self::adopt_until).
    pub fn hand_back(mut self, hand_back: bool) -> Self {
        self.config.hand_back = hand_back;
        self
    }

    /// Sets how long the inner service may take to answer a token request that is not a refresh,
    /// such as one with an authorization code, a device code or client credentials. Default: 30 s.
    /// At least a millisecond, at most an hour.
    ///
    /// The time includes waiting for the inner service to be ready and reading its response. When
    /// it is over, the client gets 504 `temporarily_unavailable`
    /// ([`RefreshError::UpstreamTimeout`](crate::RefreshError::UpstreamTimeout)), nothing is
    /// stored, and tokens that the inner service issues later are lost. If the inner service has
    /// accepted an authorization code by then, the code is used up and the user must log in again.
    /// Raise the limit for servers that keep a request open until the user has consented (CIBA with
    /// long polling).
    pub fn issue_timeout(mut self, timeout: Duration) -> Self {
        self.config.issue_timeout = timeout;
        self
    }

    /// Sets how long the body of a guarded request may take to arrive. Default: 10 s. At least a
    /// millisecond, at most an hour.
    ///
    /// A request whose body is not complete by then gets 408 `invalid_request`
    /// ([`RefreshError::RequestTimeout`](crate::RefreshError::RequestTimeout)), over HTTP/1 with
    /// `Connection: close` (RFC 9110 §15.5.9). The time begins when the service is called, after
    /// the head of the request has arrived.
    pub fn request_body_timeout(mut self, timeout: Duration) -> Self {
        self.config.request_body_timeout = timeout;
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

    /// Sets the size limit of a request body on the guarded paths, in bytes. Default: 64 KiB. At
    /// least 1 byte, at most 16 MiB. A larger request gets 413.
    pub fn max_request_body(mut self, bytes: usize) -> Self {
        self.config.max_request_body = bytes;
        self
    }

    /// Sets the size limit of a response of the inner service that the layer reads, in bytes. It
    /// applies to the guarded paths and to errors as well. Default: 256 KiB. At least 1 byte, at
    /// most 16 MiB. A larger response is withheld: the client gets 502, or an empty 200 if the
    /// response confirms a revocation.
    pub fn max_response_body(mut self, bytes: usize) -> Self {
        self.config.max_response_body = bytes;
        self
    }

    /// Sets whether `invalid_grant` responses have the status 401 instead of the 400 of RFC 6749
    /// §5.2. Default: `false`. Use it for clients that retry forever on 400 and log in again on
    /// 401.
    pub fn unauthorized_on_invalid_grant(mut self, unauthorized: bool) -> Self {
        self.config.invalid_grant_status = if unauthorized {
            StatusCode::UNAUTHORIZED
        } else {
            StatusCode::BAD_REQUEST
        };
        self
    }

    /// Sets the claims of the ID token that are kept with a grant, for
    /// [`AccessGrant::claim`](crate::AccessGrant::claim). Default: none. They are read when the
    /// [subject](crate::Subject) of the grant is, and again from each later ID token of the same
    /// subject. The first claims, in this order, that fit into 2 KiB of JSON are kept. The store has
    /// them sealed under the tokens of the grant.
    pub fn claims(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.config.claims = names.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the claim of the ID token that is the id of the [subject](crate::Subject). Default: `sub`.
    /// It must identify the user for ever: Microsoft Entra ID, whose `sub` differs from client to
    /// client, has `oid`. An email address can change its owner.
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

    /// Sets a callback that is called with every [`Event`]. Default: none. It runs within the
    /// request and must not block.
    pub fn on_event(mut self, callback: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.on_event = Some(Arc::new(callback));
        self
    }

    /// Sets the clock. Default: [`SystemClock`]. Stores use clocks of their own.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the random number generator for tokens, nonces and versions. Default: [`OsRandom`].
    pub fn random(mut self, random: impl SecureRandom) -> Self {
        self.random = Arc::new(random);
        self
    }

    /// Checks the settings and builds the layer.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if a setting is invalid or contradicts another one.
    pub fn build(self) -> Result<RefreshLayer<St>, ConfigError> {
        let Self {
            store,
            mut config,
            paths,
            retry_window,
            shared_token_window,
            recovery_window,
            strict,
            clock,
            random,
            on_event,
        } = self;
        config.paths = paths.checked()?;
        config.windows =
            config::Windows::checked(retry_window, shared_token_window, recovery_window, strict)?;
        // The default never contradicts a short idle lifetime.
        if shared_token_window.is_some_and(|window| window > config.idle_lifetime) {
            return Err(ConfigError::SharedTokenWindow);
        }
        config.check()?;
        Ok(RefreshLayer {
            shared: Arc::new(State::new(store, config, clock, random, on_event)),
        })
    }
}

impl<St> fmt::Debug for RefreshLayerBuilder<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshLayerBuilder")
            .field("config", &self.config)
            .field("paths", &self.paths)
            .finish_non_exhaustive()
    }
}
