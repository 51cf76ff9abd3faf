use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tower_layer::Layer;

use super::cache::Cache;
use super::guard::{Guard, Rules, Source, Terms};
use super::listener::Listener;
use super::service::Access;
use crate::clock::{Clock, SystemClock};
use crate::config::{ACCESS_PREFIX, check_prefix};
use crate::error::ConfigError;
use crate::event::{Callback, Event};
use crate::shared::Shared;
use crate::store::Store;

const LONGEST_TTL: Duration = Duration::from_secs(24 * 3600);

/// Layer that applies the [`Access`] middleware: for the routes of a resource server whose clients
/// hold access tokens of a [`RefreshLayer`](crate::RefreshLayer) with
/// [`reference_access_tokens`](crate::RefreshLayerBuilder::reference_access_tokens).
///
/// Every request must present an access token in its `Authorization` header (RFC 6750 §2.1). The
/// inner service gets the upstream's in its place or, with [`strip`](AccessLayerBuilder::strip),
/// none; either way it finds an [`AccessGrant`](crate::AccessGrant) in the extensions of the
/// request. Every other request is refused with the challenge of RFC 6750 §3; answer what must need
/// no token (the preflights of CORS) outside of it.
///
/// What was read from the store is remembered for a short time: a request with such a token does no
/// I/O. A token is refused when it or its grant has ended: at once where the store has a channel
/// for that ([`Store::announcements`]), and when the time to live of what is remembered is over
/// whatever happens to the channel.
///
/// ```
/// use axum::{Extension, Router, routing::get};
/// use tower_oauth_refresh::{AccessGrant, AccessLayer, MemoryStore, RefreshLayer};
///
/// # fn main() -> Result<(), tower_oauth_refresh::ConfigError> {
/// let refresh = RefreshLayer::builder(MemoryStore::new()).reference_access_tokens().build()?;
/// let access = refresh.access().require_scope("orders").build()?;
/// let orders = get(async |Extension(grant): Extension<AccessGrant>| format!("orders of {}", grant.client_id()));
/// let app: Router = Router::new().route("/orders", orders.layer(access)).layer(refresh);
/// # drop(app);
/// # Ok(())
/// # }
/// ```
///
/// A clone shares what is remembered, and so does a layer with
/// [more scopes](AccessLayer::and_scope) or for [another resource](AccessLayer::with_resource).
#[must_use = "a layer does nothing until it is applied to a service"]
pub struct AccessLayer<St> {
    guard: Arc<Guard<St>>,
    rules: Arc<Rules>,
}

impl<St: Store> AccessLayer<St> {
    /// Settings for a layer over the store of the [`RefreshLayer`](crate::RefreshLayer), wherever
    /// that runs, all at their defaults.
    ///
    /// In one process with it, [`RefreshLayer::access`](crate::RefreshLayer::access) takes over
    /// what it was set to.
    pub fn builder(store: St) -> AccessLayerBuilder<St> {
        AccessLayerBuilder::new(
            Source::Own(store),
            Arc::new(SystemClock),
            ACCESS_PREFIX.to_owned(),
        )
    }

    /// The same layer for routes that require one more scope. It shares what is remembered with
    /// this one.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Scope`] if this is not one scope token.
    pub fn and_scope(&self, scope: impl Into<String>) -> Result<Self, ConfigError> {
        self.but(|terms| terms.scopes.push(scope.into()))
    }

    /// The same layer for the routes of this [`resource`](AccessLayerBuilder::resource) in the
    /// place of that of this layer. It shares what is remembered with this one.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Uri`] if this is no absolute URI without a fragment.
    pub fn with_resource(&self, resource: impl Into<String>) -> Result<Self, ConfigError> {
        self.but(|terms| terms.resource = Some(resource.into()))
    }

    /// The same layer with this [`resource_metadata`](AccessLayerBuilder::resource_metadata) in its
    /// challenges. It shares what is remembered with this one.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Uri`] if this is no absolute URI without a fragment.
    pub fn with_resource_metadata(&self, url: impl Into<String>) -> Result<Self, ConfigError> {
        self.but(|terms| terms.metadata = Some(url.into()))
    }

    fn but(&self, change: impl FnOnce(&mut Terms)) -> Result<Self, ConfigError> {
        Ok(Self {
            guard: Arc::clone(&self.guard),
            rules: Arc::new(self.rules.but(change)?),
        })
    }
}

impl<St> Clone for AccessLayer<St> {
    fn clone(&self) -> Self {
        Self {
            guard: Arc::clone(&self.guard),
            rules: Arc::clone(&self.rules),
        }
    }
}

impl<St> fmt::Debug for AccessLayer<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLayer")
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

impl<S, St> Layer<S> for AccessLayer<St> {
    type Service = Access<S, St>;

    fn layer(&self, inner: S) -> Self::Service {
        Access::new(inner, Arc::clone(&self.guard), Arc::clone(&self.rules))
    }
}

/// Settings of an [`AccessLayer`]; [`build`](AccessLayerBuilder::build) checks them.
#[must_use]
pub struct AccessLayerBuilder<St> {
    store: Source<St>,
    clock: Arc<dyn Clock>,
    prefix: String,
    terms: Terms,
    cache_size: u64,
    cache_ttl: Duration,
    on_event: Option<Callback>,
    end_responses: bool,
}

impl<St: Store> AccessLayerBuilder<St> {
    fn new(store: Source<St>, clock: Arc<dyn Clock>, prefix: String) -> Self {
        Self {
            store,
            clock,
            prefix,
            terms: Terms {
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

    pub(crate) fn over(shared: &Arc<Shared<St>>) -> Self {
        let prefix = shared.config().access_prefix.clone();
        let builder = Self::new(Source::Shared(Arc::clone(shared)), shared.clock(), prefix);
        Self {
            on_event: shared.on_event(),
            ..builder
        }
    }

    /// Takes the token away in place of putting the upstream's there: for services that need the
    /// [`AccessGrant`](crate::AccessGrant) and nothing else. Default: the inner service gets the
    /// upstream's.
    pub fn strip(mut self) -> Self {
        self.terms.strip = true;
        self
    }

    /// A scope token that must have been granted (RFC 6749 §3.3); called several times, all of them
    /// must. Without it the answer is 403 `insufficient_scope`, also where it is not known what was
    /// granted. Default: none.
    pub fn require_scope(mut self, scope: impl Into<String>) -> Self {
        self.terms.scopes.push(scope.into());
        self
    }

    /// The resource that the routes belong to (RFC 8707): tokens that are not for this one are
    /// refused as `invalid_token`. Default: tokens for any.
    ///
    /// A token is for the resources that the token answer of the inner service named, or that its
    /// client asked for and [`allowed_resources`](crate::RefreshLayerBuilder::allowed_resources)
    /// lists. A token whose resources are unknown is refused, too. Resources are compared byte for
    /// byte.
    pub fn resource(mut self, resource: impl Into<String>) -> Self {
        self.terms.resource = Some(resource.into());
        self
    }

    /// Where the metadata of the resource is, for the `resource_metadata` of every challenge (RFC
    /// 9728 §5.1).
    pub fn resource_metadata(mut self, url: impl Into<String>) -> Self {
        self.terms.metadata = Some(url.into());
        self
    }

    /// The `realm` of every challenge (RFC 9110 §11.5). Default: `oauth`.
    pub fn realm(mut self, realm: impl Into<String>) -> Self {
        self.terms.realm = realm.into();
        self
    }

    /// What access tokens begin with: as the [`RefreshLayer`](crate::RefreshLayer) was
    /// [set to](crate::RefreshLayerBuilder::access_token_prefix). Default: `at_`.
    pub fn access_token_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How many bytes of access tokens are remembered. Default: 64 MiB, which is 100,000 tokens.
    /// Zero: none, and every request asks the store.
    pub fn cache_size(mut self, bytes: u64) -> Self {
        self.cache_size = bytes;
        self
    }

    /// For how long an access token is remembered, at most a day. Default: 10 s. Zero: not at all,
    /// and every request asks the store.
    ///
    /// It is also the longest that a token outlives its grant, should the channel of the store
    /// fail.
    pub fn cache_ttl(mut self, ttl: Duration) -> Self {
        self.cache_ttl = ttl;
        self
    }

    /// Sets whether a response ends when its access token or its grant does. Default: `false`.
    ///
    /// A token is checked when its request arrives. Without this, a response that has begun goes on
    /// for as long as the inner service sends: a stream of server-sent events outlives the expiry
    /// of its token and the revocation of its grant. With it, the response ends
    ///
    /// - when the token expires, but not within the first second of the response, so that a request
    ///   that was accepted gets its short response,
    /// - when the end of the token or its grant is announced: at once on every instance whose store
    ///   has a channel ([`Store::announcements`]), and before the client has its answer where the
    ///   [`RefreshLayer`] of this layer revokes,
    /// - otherwise within [`cache_ttl`](Self::cache_ttl), at least a second. Within that time the
    ///   token is read again, once for all responses of one token. If the store does not confirm it
    ///   in time, the response ends, too, just as a new request would get 503.
    ///
    /// It ends with a body error, [`ResponseEnded`](crate::access::ResponseEnded), so that it does
    /// not look complete: over HTTP/2 the stream is reset, over HTTP/1.1 the connection is closed
    /// before the last chunk. A client of server-sent events connects again, gets 401, and
    /// refreshes its token.
    ///
    /// The body must be polled in a tokio runtime with time enabled. A guarded response costs one
    /// allocation; if it is not sent in one piece, a timer and an entry in a table are added. Data
    /// that the server already holds for a slow client is still sent. The body of the request and a
    /// connection that was upgraded (WebSocket, `CONNECT`) are not covered: the program must end an
    /// upgraded connection itself.
    ///
    /// [`RefreshLayer`]: crate::RefreshLayer
    pub fn end_responses(mut self, end: bool) -> Self {
        self.end_responses = end;
        self
    }

    /// Calls `callback` on what an operator wants to know, in the place of the callback of the
    /// [`RefreshLayer`](crate::RefreshLayer) that this one comes from, if it does:
    /// [`AccessRefused`], [`StoreUnavailable`] and [`StoreCorrupt`]. It runs within the request and
    /// must not block.
    ///
    /// A request that is let through tells nothing, and nor does one whose token nobody knows, or
    /// whose scope or resource is another: those are the client's to put right.
    ///
    /// [`AccessRefused`]: crate::EventKind::AccessRefused
    /// [`StoreUnavailable`]: crate::EventKind::StoreUnavailable
    /// [`StoreCorrupt`]: crate::EventKind::StoreCorrupt
    pub fn on_event(mut self, callback: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.on_event = Some(Arc::new(callback));
        self
    }

    /// Where the time comes from by which tokens expire. Default: [`SystemClock`].
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The layer with these settings.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for a setting that makes no sense.
    pub fn build(self) -> Result<AccessLayer<St>, ConfigError> {
        let Self {
            store,
            clock,
            prefix,
            terms,
            cache_size,
            cache_ttl,
            on_event,
            end_responses,
        } = self;
        check_prefix("access_token_prefix", &prefix)?;
        if cache_ttl > LONGEST_TTL {
            return Err(ConfigError::CacheTtl);
        }
        let rules = Rules::new(terms)?;
        // A cache without size or time to live remembers no token, but knows what has ended and
        // which responses are open.
        let cached = cache_size > 0 && !cache_ttl.is_zero();
        let cache = (cached || end_responses).then(|| Arc::new(Cache::new(cache_size, cache_ttl)));
        if let (Source::Shared(shared), Some(cache)) = (&store, &cache) {
            shared.register(cache);
        }
        let end_responses = end_responses.then_some(cache_ttl);
        let listener = Listener::default();
        let guard = Guard {
            store,
            clock,
            prefix,
            cache,
            listener,
            on_event,
            end_responses,
        };
        Ok(AccessLayer {
            guard: Arc::new(guard),
            rules: Arc::new(rules),
        })
    }
}

impl<St> fmt::Debug for AccessLayerBuilder<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLayerBuilder")
            .field("terms", &self.terms)
            .field("cache_size", &self.cache_size)
            .field("cache_ttl", &self.cache_ttl)
            .field("end_responses", &self.end_responses)
            .finish_non_exhaustive()
    }
}
