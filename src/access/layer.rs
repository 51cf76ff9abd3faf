//! [`AccessLayer`].

use std::sync::Arc;

use tower::Layer;

use crate::access::builder::AccessLayerBuilder;
use crate::access::guard::{Guard, StoreHandle};
use crate::access::policy::ValidatedPolicy;
use crate::access::requirements::Requirements;
use crate::access::service::Access;
use crate::clock::SystemClock;
use crate::endpoint::config::ACCESS_PREFIX;
use crate::error::ConfigError;
use crate::store::{InstrumentedStore, Store};

/// Layer that applies the [`Access`] middleware. It guards the routes of a resource server whose
/// clients hold access tokens of a [`RefreshLayer`](crate::RefreshLayer) with
/// [`reference_access_tokens`](crate::RefreshLayerBuilder::reference_access_tokens).
///
/// Every request must present an access token in its `Authorization` header (RFC 6750 §2.1). The
/// inner service gets the upstream access token instead or, with
/// [`strip`](AccessLayerBuilder::strip), no token. In both cases it finds an
/// [`AccessGrant`](crate::AccessGrant) in the extensions of the request. All other requests are
/// rejected with a challenge (RFC 6750 §3). Requests that need no token, such as CORS preflights,
/// must be answered outside this layer, unless
/// [`open_elsewhere`](AccessLayerBuilder::open_elsewhere),
/// [`pass_preflights`](AccessLayerBuilder::pass_preflights) or
/// [`allow_anonymous`](AccessLayerBuilder::allow_anonymous) is set.
///
/// `TRACE` and `TRACK` are rejected on guarded routes
/// ([`AccessError::Trace`](crate::AccessError::Trace)).
///
/// A single layer can guard several resources
/// ([`resource_for`](AccessLayerBuilder::resource_for)).
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
/// let orders = get(async |Extension(grant): Extension<AccessGrant>| {
///     format!("orders of {}", grant.client_id())
/// });
/// let app: Router = Router::new().route("/orders", orders.layer(access)).layer(refresh);
/// # drop(app);
/// # Ok(())
/// # }
/// ```
///
/// Clones share the cache, and so do layers made with [`and_scope`](AccessLayer::and_scope),
/// [`and_any_scope`](AccessLayer::and_any_scope), [`with_resource`](AccessLayer::with_resource) and
/// [`with_resource_metadata`](AccessLayer::with_resource_metadata).
#[must_use = "a layer does nothing until it is applied to a service"]
pub struct AccessLayer<St> {
    pub(super) guard: Arc<Guard<St>>,
    pub(super) policy: Arc<ValidatedPolicy>,
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
            StoreHandle::Own(InstrumentedStore::new(store)),
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
        self.and_any_scope([scope])
    }

    /// Returns a copy of this layer that requires one of these scope tokens, too. The copy shares
    /// the cache.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Scope`] if a part of `scopes` is not exactly one scope token, and
    /// [`ConfigError::NoScope`] if it is empty.
    pub fn and_any_scope(
        &self,
        scopes: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Self, ConfigError> {
        self.require(|base| base.require_any_scope(scopes))
    }

    /// Returns a copy of this layer for the routes of another
    /// [`resource`](AccessLayerBuilder::resource). The copy shares the cache.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Uri`] if the argument is not an absolute URI without a fragment, and
    /// [`ConfigError::NestedResource`] if it contradicts
    /// [`resource_for`](AccessLayerBuilder::resource_for).
    pub fn with_resource(&self, resource: impl Into<String>) -> Result<Self, ConfigError> {
        self.require(|base| base.resource(resource))
    }

    /// Returns a copy of this layer with another
    /// [`resource_metadata`](AccessLayerBuilder::resource_metadata) in its challenges. The copy
    /// shares the cache.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Uri`] if the argument is not an absolute URI without a fragment.
    pub fn with_resource_metadata(&self, url: impl Into<String>) -> Result<Self, ConfigError> {
        self.require(|base| base.resource_metadata(url))
    }

    fn require(
        &self,
        change: impl FnOnce(Requirements) -> Requirements,
    ) -> Result<Self, ConfigError> {
        Ok(Self {
            guard: Arc::clone(&self.guard),
            policy: Arc::new(self.policy.require(change)?),
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

redacted_debug!(self: <St> AccessLayer { policy });

impl<S, St> Layer<S> for AccessLayer<St> {
    type Service = Access<S, St>;

    fn layer(&self, inner: S) -> Self::Service {
        Access {
            inner,
            guard: Arc::clone(&self.guard),
            policy: Arc::clone(&self.policy),
        }
    }
}
