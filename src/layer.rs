use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use tower_layer::Layer;

use crate::clock::{Clock, SystemClock};
use crate::config::{self, Config, Paths};
use crate::ending::{self, Ending};
use crate::error::ConfigError;
use crate::event::Event;
use crate::grant::GrantKey;
use crate::random::{OsRandom, SecureRandom};
use crate::service::Refresh;
use crate::shared::Shared;
use crate::store::{Store, StoreError};

/// Layer that applies the [`Refresh`] middleware.
///
/// The layer sees only the requests that reach it. In axum, a request without a route goes to a
/// fallback, and after `merge`, `nest`, `route_layer` or a `fallback` that was set later that may
/// be outside of the layer. A revocation that misses the layer may then get 200 from the fallback
/// while the token stays good. So add a route inside of the layer for each guarded path, even if it
/// only answers 404 because the app has no such endpoint:
///
/// ```
/// # use axum::{Router, http::StatusCode, routing::post};
/// # let router: Router = Router::new()
/// .route("/oauth/revoke", post(|| async { StatusCode::NOT_FOUND }))
/// # ;
/// ```
///
/// [`check`](RefreshLayer::check) tests that every guarded path is covered.
///
/// Every service that one layer or a clone of it makes shares the same store, the same queues of
/// requests and the same [`drain`](RefreshLayer::drain). See the [crate docs](crate) for an
/// example.
#[must_use = "a layer does nothing until it is applied to a service"]
pub struct RefreshLayer<St> {
    shared: Arc<Shared<St>>,
}

impl<St: Store> RefreshLayer<St> {
    /// Settings for a layer over this store, all at their defaults.
    pub fn builder(store: St) -> RefreshLayerBuilder<St> {
        RefreshLayerBuilder::new(store)
    }

    /// The layer with every setting at its default.
    pub fn new(store: St) -> Self {
        let config = Config::default();
        Self {
            shared: Arc::new(Shared::new(
                store,
                config,
                Arc::new(SystemClock),
                Arc::new(OsRandom),
                None,
            )),
        }
    }

    /// Settings for a layer that guards the routes of a resource server in the same process: over
    /// the same store, with the same clock, the same prefix of access tokens and the same callback
    /// for events.
    #[cfg(feature = "tiered")]
    pub fn access(&self) -> crate::AccessLayerBuilder<St> {
        crate::AccessLayerBuilder::over(&self.shared)
    }

    /// Ends a grant, and its access tokens on every instance, as the reuse of an old token does:
    /// for a page of sessions, to log a user out everywhere, or when an authorization code is used
    /// twice (RFC 6749 §4.1.2).
    ///
    /// `true` if there was a grant to end; once it has ended, `false`, however often it is called
    /// again. What begins from then on finds no grant, and a rotation that is under way gets
    /// `invalid_grant`: it has no answer yet, and will find nothing to commit it to. An
    /// [`AccessLayer`](crate::AccessLayer) refuses the access tokens as soon as it hears of the
    /// end, and within its [`cache_ttl`](crate::AccessLayerBuilder::cache_ttl) whatever happens;
    /// that they end with it depends on no setting of this layer, so that a program which has none
    /// to serve may make one over the same store.
    ///
    /// The inner service hears nothing of it. Its token can be opened by nobody but the client, so
    /// it is revoked there by a client's revocation request (RFC 7009) alone; until it expires the
    /// inner service keeps a session that nobody reaches. Nor do access tokens of the inner service
    /// end, where clients hold those.
    ///
    /// From its first poll it runs to its end, also when the future is dropped in a tokio runtime,
    /// and [`drain`](Self::drain) waits for it. A grant that its client has revoked while the inner
    /// service was away has ended: it is left there for the client to repeat that.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; the grant may have ended or not, and calling again is safe. The end is as
    /// lasting as a write of the store is.
    ///
    /// # Example
    ///
    /// Every session of a user is noted when it begins, and all of them end when the password is
    /// changed:
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    ///
    /// use axum::response::Response;
    /// use axum::{Extension, Router, middleware::map_response, routing::post};
    /// use tower_oauth_refresh::{GrantKey, MemoryStore, RefreshLayer, StoreError};
    ///
    /// /// Who has logged in: the app's token endpoint says so in the extensions of its response.
    /// #[derive(Clone)]
    /// struct User(u64);
    ///
    /// /// The table of sessions.
    /// type Sessions = Arc<Mutex<Vec<(u64, GrantKey)>>>;
    ///
    /// async fn note(sessions: Sessions, response: Response) -> Response {
    ///     let found = response.extensions();
    ///     if let (Some(User(user)), Some(grant)) = (found.get(), found.get::<GrantKey>()) {
    ///         sessions.lock().unwrap().push((*user, *grant));
    ///     }
    ///     response
    /// }
    ///
    /// async fn password_changed(
    ///     user: u64,
    ///     sessions: &Sessions,
    ///     refresh: &RefreshLayer<MemoryStore>,
    /// ) -> Result<(), StoreError> {
    ///     let all = sessions.lock().unwrap().clone();
    ///     for (_, grant) in all.into_iter().filter(|(whose, _)| *whose == user) {
    ///         refresh.end_grant(&grant).await?;
    ///     }
    ///     Ok(())
    /// }
    ///
    /// # async fn token() -> impl axum::response::IntoResponse {
    /// #     let answer = r#"{"access_token":"a","token_type":"Bearer","refresh_token":"r"}"#;
    /// #     (Extension(User(7)), answer)
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let sessions = Sessions::default();
    /// let noted = Arc::clone(&sessions);
    /// let refresh = RefreshLayer::new(MemoryStore::new());
    /// let app: Router = Router::new()
    ///     .route("/token", post(token))
    ///     .layer(refresh.clone())
    ///     .layer(map_response(move |response| note(Arc::clone(&noted), response)));
    /// # let log_in = http::Request::post("/token")
    /// #     .header("content-type", "application/x-www-form-urlencoded")
    /// #     .body(axum::body::Body::from("grant_type=authorization_code&code=c&client_id=spa"))?;
    /// # let answer = tower::ServiceExt::oneshot(app, log_in).await?;
    /// # assert_eq!(answer.status(), 200);
    /// # let grant = sessions.lock().unwrap()[0].1;
    /// # password_changed(7, &sessions, &refresh).await?;
    /// # assert!(!refresh.end_grant(&grant).await?, "it has ended");
    /// # Ok(())
    /// # }
    /// ```
    pub fn end_grant(
        &self,
        grant: &GrantKey,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send + use<St> {
        Ending::new(ending::end(Arc::clone(&self.shared), *grant.key()))
    }

    pub(crate) fn shared(&self) -> &Shared<St> {
        &self.shared
    }

    /// Waits until no rotation, adoption or revocation is under way, and no end of a grant.
    ///
    /// The graceful shutdown of a server waits for connections. What goes on after its client has
    /// hung up is on none of them: call this after the server has stopped taking requests and
    /// before the runtime is shut down. New requests are not kept out.
    pub fn drain(&self) -> impl Future<Output = ()> + Send + use<St> {
        self.shared.running().drained()
    }
}

impl<St> Clone for RefreshLayer<St> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<St> fmt::Debug for RefreshLayer<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshLayer")
            .field("config", self.shared.config())
            .finish_non_exhaustive()
    }
}

impl<S, St> Layer<S> for RefreshLayer<St> {
    type Service = Refresh<S, St>;

    fn layer(&self, inner: S) -> Self::Service {
        Refresh::new(inner, Arc::clone(&self.shared))
    }
}

/// Settings of a [`RefreshLayer`]; [`build`](RefreshLayerBuilder::build) checks them.
#[must_use]
pub struct RefreshLayerBuilder<St> {
    store: St,
    config: Config,
    paths: Paths,
    retry_window: Option<Duration>,
    recovery_window: Option<Duration>,
    strict: bool,
    clock: Arc<dyn Clock>,
    random: Arc<dyn SecureRandom>,
    on_event: Option<Arc<dyn Fn(&Event) + Send + Sync>>,
}

impl<St: Store> RefreshLayerBuilder<St> {
    fn new(store: St) -> Self {
        Self {
            store,
            config: Config::default(),
            paths: Paths::default(),
            retry_window: None,
            recovery_window: None,
            strict: false,
            clock: Arc::new(SystemClock),
            random: Arc::new(OsRandom),
            on_event: None,
        }
    }

    /// The path of the token endpoint (RFC 6749 §3.2). Default: `/token`.
    ///
    /// It is compared with the path that the service sees, byte for byte. Inside a nested axum
    /// router that is the stripped one. It is not a route pattern: `{`, `}`, `*` and segments that
    /// begin with `:` are a [`ConfigError`].
    pub fn token_path(mut self, path: impl Into<String>) -> Self {
        self.paths.token = path.into();
        self
    }

    /// The path of the revocation endpoint (RFC 7009 §2). Default: `/revoke`.
    ///
    /// **Add a route at this path**, inside of the layer, even if it only answers 404: without one,
    /// a router may send the request past the layer (see [`RefreshLayer`]).
    ///
    /// The grant ends when the inner service has confirmed it, has no such endpoint (404, 405,
    /// `unsupported_token_type`) or cannot be reached. In the last case the client gets 503 and can
    /// send the same again for ten minutes, so that the inner service learns of it.
    pub fn revocation_path(mut self, path: impl Into<String>) -> Self {
        self.paths.revocation = path.into();
        self
    }

    /// The path of the introspection endpoint (RFC 7662 §2). Default: none, requests for it go
    /// through untouched.
    ///
    /// Add a route at this path, inside of the layer, as for the
    /// [`revocation_path`](Self::revocation_path).
    ///
    /// A token of the layer is introspected by the inner service under its upstream token, so that
    /// the caller is authenticated there; `client_id`, `scope`, `exp`, `iat` and `token_type` of
    /// the answer are those of the layer's token, or absent where they are not known. Of whatever
    /// is not alive the answer is `{"active":false}` and nothing else. Tokens of another format are
    /// forwarded as they are.
    pub fn introspection_path(mut self, path: impl Into<String>) -> Self {
        self.paths.introspection = Some(path.into());
        self
    }

    /// Also guards every other spelling of the guarded paths, and everything below them. Default:
    /// off, paths are compared byte for byte.
    ///
    /// Set it if the inner service may read paths differently from this layer, which every proxy
    /// must expect. Then
    ///
    /// - a POST request to `/token/`, `//token`, `/%74oken`, `/TOKEN`, `/token;a=b`, `/token.json`
    ///   or `/token/x` is handled like one to `/token`, and reaches the inner service as `/token`
    ///   with its query;
    /// - a POST request to any path that servers resolve to different places (`/x/../token`,
    ///   `/token%2f`, `/a\b`) gets 400 `invalid_request`. [`path`](crate::path) lists what is
    ///   ambiguous, and [`allow_ambiguous_paths`](Self::allow_ambiguous_paths) makes exceptions;
    /// - so does a POST request to a path from which servers drop a segment so that a guarded path
    ///   is left (`/index.php/token`).
    ///
    /// If one guarded path is below another, requests below both are for the inner one. Each must
    /// have one reading itself.
    pub fn match_normalized_paths(mut self) -> Self {
        self.paths.normalized = true;
        self
    }

    /// Lets POST requests with an ambiguous path pass below `prefix`. May be called several times.
    /// Default: none.
    ///
    /// For routes of the inner service that need an encoded slash, backslash or percent sign, such
    /// as `/api/v4/projects/group%2Fname` of GitLab. The path must begin with the prefix byte for
    /// byte. A path below it is still refused if it has a dot segment, an invalid escape or a
    /// control character in any encoding, or if some server could take it for a guarded path.
    ///
    /// The risk: if the inner service resolves such a path to a place outside of the prefix in a
    /// way that the rules do not consider, and issues tokens there, those tokens reach the client
    /// unguarded. Set the routes that need it, not `/`.
    ///
    /// [`build`](Self::build) fails without
    /// [`match_normalized_paths`](Self::match_normalized_paths), and for a prefix that is a guarded
    /// path or below one.
    pub fn allow_ambiguous_paths(mut self, prefix: impl Into<String>) -> Self {
        self.paths.allowed.push(prefix.into());
        self
    }

    /// The prefix of refresh tokens, by which secret scanners find leaked ones. Default: `rt_`. At
    /// most 32 bytes.
    ///
    /// A token is the prefix and 72 characters of base64url, of which the last eight are a checksum
    /// over the prefix and the rest: the first six bytes of SHA-256 over
    /// `tower-oauth-refresh checksum`, the prefix and the 48 bytes that the 64 characters before
    /// encode. The checksum is not a protection, because anyone can compute it. It distinguishes
    /// the layer's tokens from foreign or damaged ones that look alike, without a read of the
    /// store.
    ///
    /// If the prefix changes, every token issued before counts as foreign. If the inner service has
    /// a `RefreshLayer` of its own and tokens are [adopted](Self::adopt_until), the two layers need
    /// different prefixes.
    pub fn token_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.config.prefix = prefix.into();
        self
    }

    /// Replaces `access_token` in every token answer as well, by an opaque one of the layer's own.
    /// Default: the inner service's goes to the client.
    ///
    /// An [`AccessLayer`](crate::AccessLayer) on the routes of the resource server turns it back
    /// into the upstream's, or takes it away. It lives as long as the answer's `expires_in` says
    /// (an hour if that is missing), and no longer than its grant: when that is revoked, expires or
    /// ends for reuse, its access tokens end with it.
    ///
    /// No token of the inner service reaches a client in an answer of the token, revocation or
    /// introspection endpoint:
    ///
    /// - An `id_token` is removed (see [`keep_id_token`](Self::keep_id_token)), and so is every
    ///   member at any depth that has the name of a token (`accessToken`, `user_token`, `jwt`;
    ///   case, `_` and `-` are ignored), whose text assigns a value to such a name (JSON in a
    ///   string, a query), that is a JWT, or that mentions a removed token. The same applies to
    ///   headers, including `Set-Cookie`. Every other byte of the answer is kept.
    /// - An error that discloses a token, or an answer that cannot be inspected, is withheld: the
    ///   client gets 502.
    ///
    /// A token is not recognized if its name does not suggest one, it is not a JWT, and no other
    /// member holds it under the name of a token.
    ///
    /// A token request that names no client gets `invalid_client` before the inner service is
    /// asked, because its answer could not be bound to a client. If the store fails when a grant
    /// begins, the client gets 503, because there is no token to return.
    ///
    /// The token is a bearer token (RFC 6750), whatever `token_type` says: tokens that the inner
    /// service binds to a key (DPoP, mutual TLS) are not for this.
    pub fn reference_access_tokens(mut self) -> Self {
        self.config.reference = true;
        self
    }

    /// What access tokens begin with, if they are the layer's own. Default: `at_`. Another one than
    /// that of refresh tokens.
    pub fn access_token_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.config.access_prefix = prefix.into();
        self
    }

    /// Leaves the `id_token` in the answers although the access tokens are the layer's own.
    ///
    /// It tells the client who the user is (OpenID Connect Core §2), and is no access token; but
    /// there are resource servers that take it for one. Its `at_hash` is that of the upstream's
    /// access token: a client that compares it with the one it gets will refuse the answer.
    pub fn keep_id_token(mut self) -> Self {
        self.config.keep_id_token = true;
        self
    }

    /// Sets resources (RFC 8707) that an access token is for when its client asks for them.
    /// Default: none. Several calls add up.
    ///
    /// With [`reference_access_tokens`](Self::reference_access_tokens) the layer stores which
    /// resources an access token is for, and
    /// [`AccessLayerBuilder::resource`](crate::AccessLayerBuilder::resource) requires one of them.
    /// The `resource` parameter of a token request proves nothing: an inner service that does not
    /// know RFC 8707 ignores it. So a resource counts if the token answer names it in a `resource`
    /// member (a string or an array of strings). If the answer has no such member, a resource
    /// counts if it was requested and is in this list. A request for any other resource is
    /// forwarded and answered as before, but its access token is not for that resource.
    ///
    /// List the resources that every client of the inner service may have, or that the inner
    /// service checks but does not name in its answers. All resources are compared byte for byte.
    pub fn allowed_resources(
        mut self,
        resources: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.config
            .allowed_resources
            .extend(resources.into_iter().map(Into::into));
        self
    }

    /// How long after a rotation the previous token is given the same answer again. Default: 60 s.
    /// Zero: never, and no recovery either.
    ///
    /// Two tabs, a retry, a lost answer: whoever sends the same request again within this time is
    /// not logged out. The answer is sealed under the token and the client secret of the request,
    /// and asks for the same scope and resources.
    pub fn retry_window(mut self, window: Duration) -> Self {
        self.retry_window = Some(window);
        self
    }

    /// How long after a rotation the previous token may be rotated again, as long as its successor
    /// has never been presented. Default: 24 h, or twice the [`retry_window`](Self::retry_window)
    /// if that is longer. Zero: never.
    ///
    /// For clients that lost the answer and come back after the retry window: suspended laptops,
    /// phones. It is what FAPI 2.0 Security Profile §5.3.2.1 asks of servers that rotate.
    pub fn recovery_window(mut self, window: Duration) -> Self {
        self.recovery_window = Some(window);
        self
    }

    /// Neither replay nor recovery: an old token ends its grant (RFC 9700 §4.14.2 in its plainest
    /// reading).
    ///
    /// Requests that arrive together with the one that rotates are refused, but do not end the
    /// grant.
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// How long a grant lives without a rotation. Default: 30 days.
    ///
    /// It is shorter where the inner service says so, by `refresh_expires_in` or
    /// `refresh_token_expires_in` (0: no such end). A change holds for a grant from its next
    /// rotation on.
    pub fn idle_lifetime(mut self, lifetime: Duration) -> Self {
        self.config.idle_lifetime = lifetime;
        self
    }

    /// How long a grant lives from its beginning, however often it is rotated. Default: no such
    /// end.
    ///
    /// It is fixed when a grant begins: a change holds for new ones.
    pub fn absolute_lifetime(mut self, lifetime: Duration) -> Self {
        self.config.absolute_lifetime = Some(lifetime);
        self
    }

    /// How long a client waits for a rotation before it gets 503; the rotation goes on without it,
    /// and a retry gets its answer. Default: 10 s.
    ///
    /// The inner service has twice this time, and a dead instance blocks a grant for a little
    /// longer than that.
    pub fn rotation_timeout(mut self, timeout: Duration) -> Self {
        self.config.rotation_timeout = timeout;
        self
    }

    /// Takes in sessions from before the layer was there: until this time, a refresh token that
    /// does not have the layer's format is forwarded as it is, and its session is the layer's from
    /// then on. Default: never.
    pub fn adopt_until(mut self, time: SystemTime) -> Self {
        self.config.adopt_until = Some(time.into());
        self
    }

    /// Sets how long the inner service may take to answer a token request that is not a refresh: an
    /// authorization code, a device code, client credentials. Default: 30 s; at most an hour.
    ///
    /// The time includes waiting for the inner service to be ready and reading its answer. When the
    /// time is over, the client gets 504 `temporarily_unavailable`
    /// ([`Error::UpstreamTimeout`](crate::Error::UpstreamTimeout)), nothing is stored, and tokens
    /// that the inner service issues later are lost. An authorization code that the inner service
    /// has accepted is used up: the user must log in again. Raise it for servers that hold a
    /// request open until the user has consented (CIBA with long polling).
    pub fn issue_timeout(mut self, timeout: Duration) -> Self {
        self.config.issue_timeout = timeout;
        self
    }

    /// Sets how long the body of a guarded request may take to arrive. Default: 10 s; at most an
    /// hour.
    ///
    /// A body that is not complete by then gets 408 `invalid_request`
    /// ([`Error::RequestTimeout`](crate::Error::RequestTimeout)), over HTTP/1 with
    /// `Connection: close` (RFC 9110 §15.5.9). The time begins when the service is called, after
    /// the head of the request has arrived.
    pub fn request_body_timeout(mut self, timeout: Duration) -> Self {
        self.config.request_body_timeout = timeout;
        self
    }

    /// Sets whether a log-in fails when its grant cannot be stored. Default: `false`.
    ///
    /// By default the client then gets the inner service's answer without a refresh token (RFC 6749
    /// §5.1 allows that): the user is logged in until the access token expires. With `true` the
    /// client gets 503 `temporarily_unavailable`, and must begin again if the inner service has
    /// used up its authorization code. In both cases the refresh token of the inner service is
    /// lost.
    pub fn refuse_unstored_grants(mut self, refuse: bool) -> Self {
        self.config.refuse_unstored_grants = refuse;
        self
    }

    /// The largest request body on the guarded paths, in bytes. Default: 64 KiB. A larger one gets
    /// 413.
    pub fn max_request_body(mut self, bytes: usize) -> Self {
        self.config.max_request_body = bytes;
        self
    }

    /// Sets the size limit of an answer of the inner service on the token path, in bytes, errors
    /// included. Default: 256 KiB. A larger answer is withheld: the client gets 502.
    pub fn max_response_body(mut self, bytes: usize) -> Self {
        self.config.max_response_body = bytes;
        self
    }

    /// Answers `invalid_grant` with 401 in place of the 400 of RFC 6749 §5.2, for clients that try
    /// again for ever on 400 and log in again on 401.
    pub fn unauthorized_on_invalid_grant(mut self) -> Self {
        self.config.invalid_grant_status = StatusCode::UNAUTHORIZED;
        self
    }

    /// Calls `callback` on every [`Event`]. It runs within the request and must not block.
    pub fn on_event(mut self, callback: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.on_event = Some(Arc::new(callback));
        self
    }

    /// Where the time comes from. Default: [`SystemClock`]. Stores have clocks of their own.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Where the randomness of tokens, nonces and versions comes from. Default: [`OsRandom`].
    pub fn random(mut self, random: impl SecureRandom) -> Self {
        self.random = Arc::new(random);
        self
    }

    /// The layer with these settings.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for a setting, or two together, that make no sense.
    pub fn build(self) -> Result<RefreshLayer<St>, ConfigError> {
        let Self {
            store,
            mut config,
            paths,
            retry_window,
            recovery_window,
            strict,
            clock,
            random,
            on_event,
        } = self;
        config.paths = paths.checked()?;
        config.windows = config::Windows::checked(retry_window, recovery_window, strict)?;
        config.check()?;
        Ok(RefreshLayer {
            shared: Arc::new(Shared::new(store, config, clock, random, on_event)),
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
