//! The renewal of upstream access tokens.

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower::{BoxError, Service};

use super::AccessLayerBuilder;
use crate::client_credentials::ClientCredentials;
use crate::endpoint::direct::DirectService;
use crate::store::Store;

impl<St: Store> AccessLayerBuilder<St> {
    /// Sets the service with which the layer itself renews upstream access tokens. Default: none;
    /// an access token of the layer ends with the upstream access token. [`build`](Self::build)
    /// returns an error if this layer was not made [from a refresh
    /// layer](crate::RefreshLayer::access), or if that has no
    /// [`access_token_lifetime`](crate::RefreshLayerBuilder::access_token_lifetime).
    ///
    /// Many clients never refresh. With this setting an access token lives for its
    /// `access_token_lifetime`, even if its upstream access token expires earlier. When a request
    /// presents the access token, and the upstream access token has expired or expires within a
    /// minute (or a quarter of its lifetime, if that is less), the layer refreshes the grant at the
    /// inner service. The tokens of the client stay as they are. All requests of all instances
    /// share one refresh, and a rotation by the client never runs at the same time.
    ///
    /// - Requests wait for the refresh: for at most a second while the upstream access token is
    ///   still valid, otherwise for
    ///   [`rotation_timeout`](crate::RefreshLayerBuilder::rotation_timeout). If the inner service
    ///   or the store is unavailable, requests continue with the earlier upstream access token
    ///   until it expires. After that they get 503 with `Retry-After`.
    /// - If the inner service refuses the refresh with an error code, or the refresh token that was
    ///   issued with the access token does not lead to the current one, the access token ends with
    ///   the upstream access token: the client gets 401 and must refresh. The grant does not end,
    ///   not even with `invalid_grant`, because only a request of its client can show that it has
    ///   ended at the inner service.
    /// - Each refresh extends [`idle_lifetime`](crate::RefreshLayerBuilder::idle_lifetime), so a
    ///   grant whose access token is not used for that long ends. A use alone does not extend it.
    ///   But while the token is in use, the layer refreshes before half of the lifetime has passed,
    ///   so a grant lives for at least half of it after each use.
    ///   [`absolute_lifetime`](crate::RefreshLayerBuilder::absolute_lifetime) ends it in any case.
    /// - No upstream access token is renewed for a client that sends a proof
    ///   ([`SenderConstrained`](crate::SenderConstrained), `DPoP`, `OAuth-Client-Attestation`),
    ///   because the inner service may have bound its tokens to it; nor if the request named an
    ///   `audience`, or a scope or resources of which the response does not say that they were
    ///   granted, because the new upstream access token could do more than the one before.
    ///
    /// The service gets `POST` requests for the
    /// [`token_path`](crate::RefreshLayerBuilder::token_path) with a form as body, and
    /// `Authorization` if the [credentials](ClientCredentials) need it. It can be the inner
    /// service, or a client of it; to send the requests to another server, change their URI with
    /// [`ServiceExt::map_request`](tower::ServiceExt::map_request). It is called in a task. If it
    /// accepts every body, as a router of axum does, name one: `upstream_refresh::<_,
    /// axum::body::Body, _>(router, credentials)`.
    ///
    /// The setting is one of the refresh layer, too: it issues access tokens that outlive their
    /// upstream access tokens as soon as this layer is built, and all access layers that are made
    /// from it renew them. So build this layer before the first request is served, on every
    /// instance, also on one that only issues tokens, and set this for one access layer of each
    /// refresh layer; [`build`](Self::build) returns an error for a second one.
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use std::time::Duration;
    ///
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::Full;
    /// use tower::service_fn;
    /// use tower_oauth_refresh::{ClientCredentials, ConfigError, MemoryStore, RefreshLayer};
    ///
    /// /// A client of the authorization server.
    /// async fn send(_: Request<Full<Bytes>>) -> Result<Response<Full<Bytes>>, Infallible> {
    ///     Ok(Response::default())
    /// }
    ///
    /// # fn layers() -> Result<(), ConfigError> {
    /// let refresh = RefreshLayer::builder(MemoryStore::new())
    ///     .reference_access_tokens(true)
    ///     .access_token_lifetime(Duration::from_secs(24 * 3600))
    ///     .build()?;
    /// let access = refresh
    ///     .access()
    ///     .upstream_refresh(service_fn(send), ClientCredentials::public())
    ///     .build()?;
    /// # drop(access);
    /// # Ok(())
    /// # }
    /// # assert!(layers().is_ok());
    /// ```
    ///
    /// Upgrade all instances before the first one sets this: an older one does not know when the
    /// upstream access token ends. An `AccessLayer` over the store alone, or of an instance without
    /// this setting, rejects an access token when its upstream access token has ended.
    ///
    /// For this, the record of an access token holds the refresh token, sealed under the access
    /// token. So an access token together with a dump of the store opens the grant.
    pub fn upstream_refresh<S, ReqBody, ResBody>(
        mut self,
        service: S,
        credentials: ClientCredentials,
    ) -> Self
    where
        S: Service<Request<ReqBody>, Response = Response<ResBody>>,
        S: Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
        ReqBody: From<Bytes> + Send + 'static,
        ResBody: Body<Data = Bytes> + Send + 'static,
    {
        self.upstream_refresh = Some(DirectService::new(service, credentials));
        self
    }
}
