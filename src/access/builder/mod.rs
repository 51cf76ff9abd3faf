//! The builder of [`AccessLayer`]: every option, with its default. It checks the settings when it
//! is built.

mod upstream;

use std::sync::Arc;
use std::time::Duration;

use crate::access::guard::{Guard, StoreHandle};
use crate::access::layer::AccessLayer;
use crate::access::policy::{Policy, ValidatedPolicy};
use crate::access::requirements::{Requirements, ScopePolicy};
use crate::access::subscriber::Subscriber;
use crate::access_token::cache::Cache;
use crate::clock::Clock;
use crate::endpoint::config::check_prefix;
use crate::endpoint::direct::DirectService;
use crate::endpoint::state::State;
use crate::error::ConfigError;
use crate::event::{Callback, Event};
use crate::store::Store;

const LONGEST_TTL: Duration = Duration::from_secs(24 * 3600);

/// A builder for [`AccessLayer`]. [`build`](AccessLayerBuilder::build) checks the settings.
#[must_use]
pub struct AccessLayerBuilder<St> {
    store: StoreHandle<St>,
    clock: Arc<dyn Clock>,
    prefix: String,
    policy: Policy,
    cache_size: u64,
    cache_ttl: Duration,
    on_event: Option<Callback>,
    end_responses: bool,
    upstream_refresh: Option<DirectService>,
}

impl<St: Store> AccessLayerBuilder<St> {
    pub(super) fn new(store: StoreHandle<St>, clock: Arc<dyn Clock>, prefix: String) -> Self {
        Self {
            store,
            clock,
            prefix,
            policy: Policy {
                realm: "oauth".into(),
                ..Policy::default()
            },
            cache_size: 64 << 20,
            cache_ttl: Duration::from_secs(10),
            on_event: None,
            end_responses: false,
            upstream_refresh: None,
        }
    }

    pub(crate) fn over(state: &Arc<State<St>>) -> Self {
        let prefix = state.config().access_prefix.clone();
        let store = StoreHandle::State(Arc::clone(state));
        let mut builder = Self::new(store, Arc::clone(&state.clock), prefix);
        builder.on_event = state.on_event.clone();
        builder
    }

    /// Sets whether the `Authorization` header is removed instead of carrying the upstream access
    /// token. Default: `false`. Use it for services that need only the
    /// [`AccessGrant`](crate::AccessGrant).
    pub fn strip(mut self, strip: bool) -> Self {
        self.policy.strip = strip;
        self
    }

    /// Adds requirements for all paths. A resource or metadata that is already set is replaced.
    ///
    /// The next methods add one requirement each.
    pub fn require(mut self, requirements: Requirements) -> Self {
        self.policy.base = requirements.below(&self.policy.base);
        self
    }

    /// Adds a scope token that the access token must have (RFC 6749 §3.3). If this is called
    /// several times, all of them are required. A token without them, or whose scope is unknown,
    /// gets 403 `insufficient_scope`, with a challenge that names the scope of the token and what
    /// is missing. Default: none.
    pub fn require_scope(mut self, scope: impl Into<String>) -> Self {
        self.policy.base = self.policy.base.require_scope(scope);
        self
    }

    /// Adds scope tokens of which the access token must have one. If this is called several times,
    /// a token must have one of each call. Default: none.
    ///
    /// If all are missing, the challenge names the first one, because the scope of a challenge is
    /// what a client requests (RFC 6750 §3). So begin with the one that grants the least.
    pub fn require_any_scope(
        mut self,
        scopes: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        self.policy.base = self.policy.base.require_any_scope(scopes);
        self
    }

    /// Sets which required scope tokens a granted scope token covers, for scopes that include
    /// others. Default: only itself, which it covers in any case.
    ///
    /// The function is called with a required and a granted scope token. It decides whether a token
    /// is accepted, and challenges leave out a required scope that another one covers. It
    /// runs within the request and when the layer is built, and must not block.
    ///
    /// ```
    /// use tower_oauth_refresh::{AccessLayer, MemoryStore};
    ///
    /// // `repo` covers `repo:read`.
    /// let access = AccessLayer::builder(MemoryStore::new())
    ///     .require_scope("repo:read")
    ///     .scope_policy(|required, granted| {
    ///         required.strip_prefix(granted).is_some_and(|rest| rest.starts_with(':'))
    ///     })
    ///     .build();
    /// # assert!(access.is_ok());
    /// ```
    pub fn scope_policy(
        mut self,
        covers: impl Fn(&str, &str) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.policy.scope_policy = ScopePolicy::new(covers);
        self
    }

    /// Sets the resource that the routes belong to (RFC 8707). Tokens that are not valid for it are
    /// rejected as `invalid_token`. Default: tokens for any resource are accepted.
    ///
    /// A token is valid for the resources that the token response of the inner service named, or
    /// that its client requested and
    /// [`allowed_resources`](crate::RefreshLayerBuilder::allowed_resources) lists. A token whose
    /// resources are unknown is rejected, too. Resources are compared byte for byte. `resource`
    /// must be an absolute URI without a fragment.
    pub fn resource(mut self, resource: impl Into<String>) -> Self {
        self.policy.base = self.policy.base.resource(resource);
        self
    }

    /// Sets the URL of the resource metadata, which is the `resource_metadata` of every challenge
    /// (RFC 9728 §5.1). Default: none.
    pub fn resource_metadata(mut self, url: impl Into<String>) -> Self {
        self.policy.base = self.policy.base.resource_metadata(url);
        self
    }

    /// Adds a resource that is served at and below `path`, with requirements of its own. Default:
    /// none; the requirements of this builder apply to all paths.
    ///
    /// Below `path`, the scopes of this builder and those of `requirements` are required. The
    /// resource and the metadata are those of `requirements` or, if it has none, those of this
    /// builder. If the path is below that of another resource, the same holds for that one, too:
    /// the scopes of both apply, and the resources must not differ. All other paths have the
    /// requirements of this builder (see [`open_elsewhere`](Self::open_elsewhere)).
    ///
    /// The path is compared with the one that the service sees, by the rules of
    /// [`path`](crate::path), because the inner service may read paths differently from this
    /// layer:
    ///
    /// - All spellings of `path` belong to the resource: `//orders`, `/%6Frders`, `/ORDERS`,
    ///   `/orders;a=b/x`. The inner service gets the request under the configured spelling.
    /// - A request gets 400 [`AmbiguousPath`](crate::AccessError::AmbiguousPath) if servers resolve
    ///   its path differently (`/x/../orders`, `/a%2fb`), if some servers drop the name of a script
    ///   from it (`/index.php/orders`), or if it may be another resource (`/orders.csv`,
    ///   `/orders:batchGet`: add each as a resource of its own).
    ///
    /// In a nested axum router, `path` has no prefix of the nest.
    ///
    /// ```
    /// use tower_oauth_refresh::access::Requirements;
    /// use tower_oauth_refresh::{AccessLayer, MemoryStore};
    ///
    /// let orders = Requirements::new()
    ///     .resource("https://api.example.com/orders")
    ///     .resource_metadata(
    ///         "https://api.example.com/.well-known/oauth-protected-resource/orders",
    ///     )
    ///     .require_scope("orders");
    /// let access = AccessLayer::builder(MemoryStore::new())
    ///     .resource("https://api.example.com/")
    ///     .resource_for("/orders", orders)
    ///     .resource_for("/orders/refunds", Requirements::new().require_scope("refunds"))
    ///     .build();
    /// # assert!(access.is_ok());
    /// ```
    pub fn resource_for(mut self, path: impl Into<String>, requirements: Requirements) -> Self {
        self.policy.resources.push((path.into(), requirements));
        self
    }

    /// Allows requests with an ambiguous path below `prefix` although
    /// [`resource_for`](Self::resource_for) is set. Several calls add up. Default: none.
    ///
    /// The rules and the risk are those of
    /// [`RefreshLayerBuilder::allow_ambiguous_paths`](crate::RefreshLayerBuilder::allow_ambiguous_paths).
    /// The prefix must not be the path of a resource or below one. Such a request has the
    /// requirements of paths without a resource.
    pub fn allow_ambiguous_paths(mut self, prefix: impl Into<String>) -> Self {
        self.policy.allowed.push(prefix.into());
        self
    }

    /// Sets whether requests for paths without a [`resource_for`](Self::resource_for) pass
    /// unchanged and unchecked. Default: `false`; they need a token. With `true` and without a
    /// `resource_for`, all requests pass.
    ///
    /// Their `Authorization` header reaches the inner service, and there is no
    /// [`AccessGrant`](crate::AccessGrant).
    pub fn open_elsewhere(mut self, open: bool) -> Self {
        self.policy.open_elsewhere = open;
        self
    }

    /// Sets whether CORS preflights (Fetch §3.3.2) pass without a token, and without any
    /// `Authorization` header. Default: `false`; they must be answered outside this layer. Use it
    /// if the inner service answers them itself.
    ///
    /// A request with content is not a preflight. The response loses its content, because a handler
    /// that does not distinguish methods would disclose what it guards.
    pub fn pass_preflights(mut self, pass: bool) -> Self {
        self.policy.pass_preflights = pass;
        self
    }

    /// Sets whether requests without an access token are accepted, too. Default: `false`.
    ///
    /// With `true`, a request that has no `Authorization` header, or one of another scheme, passes
    /// unchanged, even if a scope or a resource is required. It has no
    /// [`AccessGrant`](crate::AccessGrant). A request with a bearer token is checked as always, so
    /// that a client with an expired token refreshes it.
    pub fn allow_anonymous(mut self, allow: bool) -> Self {
        self.policy.allow_anonymous = allow;
        self
    }

    /// Sets the `realm` of every challenge (RFC 9110 §11.5). Default: `oauth`. It must be printable
    /// ASCII and not empty.
    pub fn realm(mut self, realm: impl Into<String>) -> Self {
        self.policy.realm = realm.into();
        self
    }

    /// Sets the prefix of access tokens. It must be the
    /// [`access_token_prefix`](crate::RefreshLayerBuilder::access_token_prefix) of the
    /// [`RefreshLayer`](crate::RefreshLayer). Default: `at_`, or the prefix of the `RefreshLayer`
    /// that this layer was made from.
    pub fn access_token_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the size of the cache in bytes. Default: 64 MiB, which holds about 100,000 tokens. Zero
    /// disables the cache: every request reads the store.
    pub fn cache_size(mut self, bytes: u64) -> Self {
        self.cache_size = bytes;
        self
    }

    /// Sets how long an access token is cached. Default: 10 s. At most one day. Zero disables the
    /// cache: every request reads the store.
    ///
    /// This is also the longest time that a token stays valid after the end of its grant if the
    /// channel of the store fails. The ends of all grants of a client
    /// ([`RefreshLayer::end_client`](crate::RefreshLayer::end_client)) are cached for half of it,
    /// at most a second, and a token that is read with them counts as read at the same time.
    pub fn cache_ttl(mut self, ttl: Duration) -> Self {
        self.cache_ttl = ttl;
        self
    }

    /// Sets whether a response ends when its access token or its grant does. Default: `false`.
    ///
    /// A token is checked when its request arrives. Without this setting, a response that has begun
    /// continues as long as the inner service sends data: a stream of server-sent events outlives
    /// the expiry of its token and the revocation of its grant. With it, the response ends
    ///
    /// - when the token expires, but not within the first second of the response, so that an
    ///   accepted request gets its short response,
    /// - when the end of the token or its grant is announced: immediately on every instance whose
    ///   store has a channel ([`Store::announcements`]). If the [`RefreshLayer`] that this layer
    ///   was made from handles the revocation, the response ends before the client has the response
    ///   to its revocation,
    /// - otherwise within [`cache_ttl`](Self::cache_ttl) or one second, whichever is longer. Within
    ///   that time the token is read again, once for all responses with the same token. If the
    ///   store does not confirm it in time, the response ends, too, as a new request would get 503.
    ///
    /// It ends with a body error, [`ResponseEnded`](crate::access::ResponseEnded), so that it does
    /// not appear complete: over HTTP/2 the stream is reset, over HTTP/1.1 the connection is closed
    /// before the last chunk. A client of server-sent events reconnects, gets 401, and refreshes
    /// its token.
    ///
    /// The body must be polled in a tokio runtime with time enabled. A guarded response costs one
    /// allocation, and a timer and an entry in a table if it is not sent in one piece. Data that
    /// the server has already buffered for a slow client is still sent. The body of the request and
    /// upgraded connections (WebSocket, `CONNECT`) are not covered: the application must end an
    /// upgraded connection itself.
    ///
    /// [`RefreshLayer`]: crate::RefreshLayer
    pub fn end_responses(mut self, end: bool) -> Self {
        self.end_responses = end;
        self
    }

    /// Sets a callback that is called with events of these kinds: [`AccessRefused`],
    /// [`StoreUnavailable`] and [`StoreCorrupt`]. Default: the callback of the
    /// [`RefreshLayer`](crate::RefreshLayer) that this layer was made from, if there is one. It
    /// runs within the request and must not block.
    ///
    /// Accepted requests emit no event, and neither do requests that only the client can correct:
    /// those with an unknown or expired token, or a token for another scope or resource.
    ///
    /// [`AccessRefused`]: crate::EventKind::AccessRefused
    /// [`StoreUnavailable`]: crate::EventKind::StoreUnavailable
    /// [`StoreCorrupt`]: crate::EventKind::StoreCorrupt
    pub fn on_event(mut self, callback: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.on_event = Some(Arc::new(callback));
        self
    }

    /// Sets the clock by which tokens expire. Default: [`SystemClock`](crate::SystemClock), or the
    /// clock of the [`RefreshLayer`](crate::RefreshLayer) that this layer was made from.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Checks the settings and builds the layer.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if a setting is invalid.
    pub fn build(self) -> Result<AccessLayer<St>, ConfigError> {
        check_prefix("access_token_prefix", &self.prefix)?;
        let ttl = self.cache_ttl;
        if ttl > LONGEST_TTL {
            return Err(ConfigError::CacheTtl);
        }
        let policy = ValidatedPolicy::new(self.policy)?;
        // The last check, because it changes the refresh layer.
        match (&self.store, self.upstream_refresh) {
            (_, None) => {}
            (StoreHandle::State(state), Some(service)) => state.config().renew_at(service)?,
            (StoreHandle::Own(_), Some(_)) => return Err(ConfigError::UpstreamRefreshWithoutLayer),
        }
        let cached = self.cache_size > 0 && !ttl.is_zero();
        // A cache without a size or a time to live holds no tokens, but it still stores announced
        // ends and the registry of open responses.
        let subscribes = cached || self.end_responses;
        let cache = Arc::new(Cache::new(self.cache_size, ttl));
        let epochs = match &self.store {
            StoreHandle::Own(_) => Arc::default(),
            StoreHandle::State(state) => {
                if subscribes {
                    state.register(&cache);
                }
                Arc::clone(&state.epochs)
            }
        };
        let guard = Guard {
            store: self.store,
            clock: self.clock,
            prefix: self.prefix,
            cache,
            epochs,
            epochs_max_age: if cached { ttl / 2 } else { Duration::ZERO },
            subscriber: subscribes.then(Subscriber::default),
            on_event: self.on_event,
            end_responses: self.end_responses,
        };
        Ok(AccessLayer {
            guard: Arc::new(guard),
            policy: Arc::new(policy),
        })
    }
}

redacted_debug!(self: <St> AccessLayerBuilder {
    policy, cache_size, cache_ttl, end_responses, upstream_refresh,
});
