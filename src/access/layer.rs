//! [`AccessLayer`] and its builder.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tower::Layer;

use crate::access::guard::{Guard, StoreHandle};
use crate::access::policy::{Policy, ValidatedPolicy};
use crate::access::service::Access;
use crate::access::subscriber::Subscriber;
use crate::access_token::cache::Cache;
use crate::clock::{Clock, SystemClock};
use crate::endpoint::config::{ACCESS_PREFIX, check_prefix};
use crate::endpoint::state::State;
use crate::error::ConfigError;
use crate::event::{Callback, Event};
use crate::store::Store;

const LONGEST_TTL: Duration = Duration::from_secs(24 * 3600);

/// Layer that applies the [`Access`] middleware. It guards the routes of a resource server whose
/// clients hold access tokens of a [`RefreshLayer`](crate::RefreshLayer) with
/// [`reference_access_tokens`](crate::RefreshLayerBuilder::reference_access_tokens).
///
/// Every request must present an access token in its `Authorization` header (RFC 6750 §2.1). The
/// inner service gets the upstream access token instead or, with
/// [`strip`](AccessLayerBuilder::strip), no token. In both cases it finds an
/// [`AccessGrant`](crate::AccessGrant) in the extensions of the request. All other requests are
/// rejected with a challenge (RFC 6750 §3). Requests that need no token, such as CORS preflights,
/// must be answered outside this layer.
///
/// A token that was read from the store is cached for a short time, and requests with a cached
/// token need no I/O. A token is rejected when it or its grant has ended: immediately if the store
/// has a channel for announcements ([`Store::announcements`]), and otherwise, or if the channel
/// fails, when its cache entry expires ([`cache_ttl`](AccessLayerBuilder::cache_ttl)).
///
/// ```
/// use axum::{Extension, Router, routing::get};
/// use tower_oauth_refresh::{AccessGrant, AccessLayer, MemoryStore, RefreshLayer};
///
/// # fn main() -> Result<(), tower_oauth_refresh::ConfigError> {
/// let refresh = RefreshLayer::builder(MemoryStore::new()).reference_access_tokens(true).build()?;
/// let access = refresh.access().require_scope("orders").build()?;
/// let orders = get(async |Extension(grant): Extension<AccessGrant>| format!("orders of {}", grant.client_id()));
/// let app: Router = Router::new().route("/orders", orders.layer(access)).layer(refresh);
/// # drop(app);
/// # Ok(())
/// # }
/// ```
///
/// Clones share the cache, and so do layers made with [`and_scope`](AccessLayer::and_scope),
/// [`with_resource`](AccessLayer::with_resource) and
/// [`with_resource_metadata`](AccessLayer::with_resource_metadata).
#[must_use = "a layer does nothing until it is applied to a service"]
pub struct AccessLayer<St> {
    guard: Arc<Guard<St>>,
    policy: Arc<ValidatedPolicy>,
}

impl<St: Store> AccessLayer<St> {
    /// Returns a builder for a layer over `store`, with all settings at their defaults. The store
    /// must be the one that the [`RefreshLayer`](crate::RefreshLayer) uses, which may run in
    /// another process.
    ///
    /// In the process of the `RefreshLayer`, use
    /// [`RefreshLayer::access`](crate::RefreshLayer::access) instead, which takes the store, the
    /// clock, the prefix and the event callback from that layer.
    pub fn builder(store: St) -> AccessLayerBuilder<St> {
        AccessLayerBuilder::new(
            StoreHandle::Own(store),
            Arc::new(SystemClock),
            ACCESS_PREFIX.to_owned(),
        )
    }

    /// Returns a copy of this layer that requires one more scope token. The copy shares the cache.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Scope`] if `scope` is not exactly one scope token.
    pub fn and_scope(&self, scope: impl Into<String>) -> Result<Self, ConfigError> {
        self.but(|policy| policy.scopes.push(scope.into()))
    }

    /// Returns a copy of this layer for the routes of another
    /// [`resource`](AccessLayerBuilder::resource). The copy shares the cache.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Uri`] if the argument is not an absolute URI without a fragment.
    pub fn with_resource(&self, resource: impl Into<String>) -> Result<Self, ConfigError> {
        self.but(|policy| policy.resource = Some(resource.into()))
    }

    /// Returns a copy of this layer with another
    /// [`resource_metadata`](AccessLayerBuilder::resource_metadata) in its challenges. The copy
    /// shares the cache.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Uri`] if the argument is not an absolute URI without a fragment.
    pub fn with_resource_metadata(&self, url: impl Into<String>) -> Result<Self, ConfigError> {
        self.but(|policy| policy.metadata = Some(url.into()))
    }

    fn but(&self, change: impl FnOnce(&mut Policy)) -> Result<Self, ConfigError> {
        Ok(Self {
            guard: Arc::clone(&self.guard),
            policy: Arc::new(self.policy.but(change)?),
        })
    }
}

impl<St> Clone for AccessLayer<St> {
    fn clone(&self) -> Self {
        Self {
            guard: Arc::clone(&self.guard),
            policy: Arc::clone(&self.policy),
        }
    }
}

impl<St> fmt::Debug for AccessLayer<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLayer")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl<S, St> Layer<S> for AccessLayer<St> {
    type Service = Access<S, St>;

    fn layer(&self, inner: S) -> Self::Service {
        Access::new(inner, Arc::clone(&self.guard), Arc::clone(&self.policy))
    }
}

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
}

impl<St: Store> AccessLayerBuilder<St> {
    fn new(store: StoreHandle<St>, clock: Arc<dyn Clock>, prefix: String) -> Self {
        Self {
            store,
            clock,
            prefix,
            policy: Policy {
                strip: false,
                realm: "oauth".into(),
                scopes: Vec::new(),
                resource: None,
                metadata: None,
            },
            cache_size: 64 << 20,
            cache_ttl: Duration::from_secs(10),
            on_event: None,
            end_responses: false,
        }
    }

    pub(crate) fn over(state: &Arc<State<St>>) -> Self {
        let prefix = state.config().access_prefix.clone();
        let builder = Self::new(StoreHandle::State(Arc::clone(state)), state.clock(), prefix);
        Self {
            on_event: state.on_event(),
            ..builder
        }
    }

    /// Sets whether the `Authorization` header is removed instead of carrying the upstream access
    /// token. Default: `false`. Use it for services that need only the
    /// [`AccessGrant`](crate::AccessGrant).
    pub fn strip(mut self, strip: bool) -> Self {
        self.policy.strip = strip;
        self
    }

    /// Adds a scope token that the access token must have (RFC 6749 §3.3). If this is called
    /// several times, all of them are required. A token without them, or whose scope is unknown,
    /// gets 403 `insufficient_scope`. Default: none.
    pub fn require_scope(mut self, scope: impl Into<String>) -> Self {
        self.policy.scopes.push(scope.into());
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
        self.policy.resource = Some(resource.into());
        self
    }

    /// Sets the URL of the resource metadata, which is the `resource_metadata` of every challenge
    /// (RFC 9728 §5.1). Default: none.
    pub fn resource_metadata(mut self, url: impl Into<String>) -> Self {
        self.policy.metadata = Some(url.into());
        self
    }

    /// Sets the `realm` of every challenge (RFC 9110 §11.5). Default: `oauth`. It must be printable
    /// ASCII and not empty.
    pub fn realm(mut self, realm: impl Into<String>) -> Self {
        self.policy.realm = realm.into();
        self
    }

    /// Sets the prefix of access tokens. It must be the one that
    /// [was set](crate::RefreshLayerBuilder::access_token_prefix) for the
    /// [`RefreshLayer`](crate::RefreshLayer). Default: `at_`.
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
    /// channel of the store fails.
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

    /// Sets the clock by which tokens expire. Default: [`SystemClock`], or the clock of the
    /// [`RefreshLayer`](crate::RefreshLayer) that this layer was made from.
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
        let Self {
            store,
            clock,
            prefix,
            policy,
            cache_size,
            cache_ttl,
            on_event,
            end_responses,
        } = self;
        check_prefix("access_token_prefix", &prefix)?;
        if cache_ttl > LONGEST_TTL {
            return Err(ConfigError::CacheTtl);
        }
        let policy = ValidatedPolicy::new(policy)?;
        // A cache without a size or a time to live holds no tokens, but it still stores announced
        // ends and the registry of open responses.
        let cached = cache_size > 0 && !cache_ttl.is_zero();
        let cache = (cached || end_responses).then(|| Arc::new(Cache::new(cache_size, cache_ttl)));
        if let (StoreHandle::State(state), Some(cache)) = (&store, &cache) {
            state.register(cache);
        }
        let end_responses = end_responses.then_some(cache_ttl);
        let epochs = match &store {
            StoreHandle::Own(_) => Arc::default(),
            StoreHandle::State(state) => Arc::clone(state.epochs()),
        };
        let guard = Guard {
            epochs,
            store,
            clock,
            prefix,
            cache,
            subscriber: Subscriber::default(),
            on_event,
            end_responses,
        };
        Ok(AccessLayer {
            guard: Arc::new(guard),
            policy: Arc::new(policy),
        })
    }
}

impl<St> fmt::Debug for AccessLayerBuilder<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLayerBuilder")
            .field("policy", &self.policy)
            .field("cache_size", &self.cache_size)
            .field("cache_ttl", &self.cache_ttl)
            .field("end_responses", &self.end_responses)
            .finish_non_exhaustive()
    }
}
