//! Options for the requests that the layer itself sends to the inner service.

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower::{BoxError, Service};

use super::RefreshLayerBuilder;
use crate::client_credentials::ClientCredentials;
use crate::endpoint::direct::DirectService;
use crate::store::Store;

impl<St: Store> RefreshLayerBuilder<St> {
    /// Sets the service with which the layer itself renews upstream access tokens. Default: none; an
    /// access token of the layer ends with the upstream access token. [`build`](Self::build)
    /// returns an error without [`access_token_lifetime`](Self::access_token_lifetime).
    ///
    /// Many clients never refresh. With this setting an access token lives for its
    /// `access_token_lifetime`, however short the upstream access token lives. When a request
    /// presents it to an [`AccessLayer`](crate::AccessLayer) that was made
    /// [from this layer](crate::RefreshLayer::access), and the upstream access token ends within a
    /// minute (or a quarter of its lifetime, if that is less) or has ended, the layer refreshes the
    /// grant at the inner service. The tokens of the client stay as they are. All requests of all
    /// instances share one refresh, and a rotation by the client never runs at the same time.
    ///
    /// - Requests wait for the refresh: for at most a second while the upstream access token is
    ///   still valid, otherwise for [`rotation_timeout`](Self::rotation_timeout). If the inner
    ///   service or the store is unavailable, requests go on with the old token until it ends, and
    ///   get 503 with `Retry-After` after that.
    /// - If the inner service refuses the refresh, or the refresh token that was issued with the
    ///   access token does not lead to the current one, the access token ends with the upstream
    ///   access token. If the inner service answers `invalid_grant`, the grant ends.
    /// - Each refresh extends [`idle_lifetime`](Self::idle_lifetime). A grant whose access token is
    ///   not used for that long ends. [`absolute_lifetime`](Self::absolute_lifetime) ends it in any
    ///   case.
    /// - No upstream access token is renewed for a client that proves that it holds a key
    ///   ([`SenderConstrained`](crate::SenderConstrained), `DPoP`), because the inner service may
    ///   have bound its tokens to that key.
    ///
    /// The service gets `POST` requests for [`token_path`](Self::token_path) with a form as body,
    /// and `Authorization` if the [credentials](ClientCredentials) need it. It can be the inner
    /// service, or a client of it; to send the requests to another server, change their URI with
    /// [`ServiceExt::map_request`](tower::ServiceExt::map_request). It is called in a task.
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
        self.config.upstream_refresh = Some(DirectService::new(service, credentials));
        self
    }
}
