//! Options for the requests that the layer itself sends to the inner service.

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower::{BoxError, Service};

use super::RefreshLayerBuilder;
use crate::client_credentials::ClientCredentials;
use crate::endpoint::direct::DirectService;
use crate::revocation_key::RevocationKey;
use crate::store::Store;

impl<St: Store> RefreshLayerBuilder<St> {
    /// Sets the service with which the layer itself renews upstream access tokens. Default: none;
    /// an access token of the layer ends with the upstream access token. [`build`](Self::build)
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
    /// - If the inner service refuses the refresh with an error code, or the refresh token that was
    ///   issued with the access token does not lead to the current one, the access token ends with
    ///   the upstream access token: the client gets 401 and must refresh. The grant does not end,
    ///   not even with `invalid_grant`, because only a request of its client proves that.
    /// - Each refresh extends [`idle_lifetime`](Self::idle_lifetime). A grant whose access token is
    ///   not used for that long ends. [`absolute_lifetime`](Self::absolute_lifetime) ends it in any
    ///   case.
    /// - No upstream access token is renewed for a client that sends a proof
    ///   ([`SenderConstrained`](crate::SenderConstrained), `DPoP`, `OAuth-Client-Attestation`),
    ///   because the inner service may have bound its tokens to it; nor if the request named an
    ///   `audience`, or a scope or resources of which the response does not say that they were
    ///   granted, because the new upstream access token could do more than the one before.
    ///
    /// The service gets `POST` requests for [`token_path`](Self::token_path) with a form as body,
    /// and `Authorization` if the [credentials](ClientCredentials) need it. It can be the inner
    /// service, or a client of it; to send the requests to another server, change their URI with
    /// [`ServiceExt::map_request`](tower::ServiceExt::map_request). It is called in a task. If it
    /// accepts every body, as a router of axum does, name one:
    /// `upstream_refresh::<_, axum::body::Body, _>(router, credentials)`.
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
        self.config.upstream_refresh = Some(DirectService::new(service, credentials));
        self
    }

    /// Sets a server key for which upstream refresh tokens are sealed a second time, so that the
    /// layer itself can revoke them. Default: none, and then only a token of its client opens an
    /// upstream token. [`build`](Self::build) returns an error without
    /// [`upstream_revocation`](Self::upstream_revocation).
    ///
    /// The price: an attacker with this key and a copy of the store has the newest upstream refresh
    /// token of every grant. Keep the key outside of the store, and out of its backups. It must be
    /// uniformly random, and the same on all instances.
    ///
    /// A grant that began without the key has it from its next refresh on. If the key changes, a
    /// grant that was not refreshed since cannot be revoked at the inner service
    /// ([`EventKind::UpstreamRevocationFailed`](crate::EventKind::UpstreamRevocationFailed)).
    pub fn revocation_key(mut self, key: [u8; 32]) -> Self {
        self.config.revocation_key = Some(RevocationKey::new(key));
        self
    }

    /// Revokes the newest upstream token of a grant at the inner service (RFC 7009) when the layer
    /// ends the grant without its client. Default: the token stays valid there until it expires,
    /// although no client can reach it. [`build`](Self::build) returns an error without
    /// [`revocation_key`](Self::revocation_key).
    ///
    /// That is after [`end_grant`](crate::RefreshLayer::end_grant),
    /// [`end_sessions`](crate::RefreshLayer::end_sessions) and reuse, and when a client revokes its
    /// grant with a token that is too old to open the upstream token. A refresh that finds that its
    /// grant has ended revokes the upstream token that it has just received. After
    /// [`end_client`](crate::RefreshLayer::end_client) and
    /// [`end_all`](crate::RefreshLayer::end_all), which do not know which grants there are, the
    /// upstream token of a grant is revoked when its client next presents a refresh token. That of
    /// an expired grant is not.
    ///
    /// `service` gets `POST` requests for the [`revocation_path`](Self::revocation_path), which
    /// have not passed the layer, with the `client_id` of the grant and these `credentials`. It can
    /// be the inner service, or a client of the authorization server.
    ///
    /// The revocation is sent in the background, so it neither delays nor fails the call that ended
    /// the grant, which must run in a tokio runtime. A 2xx response is a success. After a time-out,
    /// an error or one of the status codes 408, 425, 429 and 5xx it is tried again, for up to ten
    /// minutes. Any other response is final. The events are
    /// [`UpstreamRevoked`](crate::EventKind::UpstreamRevoked) and
    /// [`UpstreamRevocationFailed`](crate::EventKind::UpstreamRevocationFailed). Until then it
    /// exists only in the memory of this process: [`drain`](crate::RefreshLayer::drain) waits for
    /// an attempt, but not for the next one.
    ///
    /// Some servers revoke more than one token: Google ends all sessions of the user at this
    /// client.
    ///
    /// ```
    /// use std::convert::Infallible;
    ///
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::Full;
    /// use tower::service_fn;
    /// use tower_oauth_refresh::{ClientCredentials, MemoryStore, RefreshLayer};
    ///
    /// /// A client of the authorization server.
    /// async fn send(_: Request<Full<Bytes>>) -> Result<Response<Full<Bytes>>, Infallible> {
    ///     Ok(Response::default())
    /// }
    ///
    /// # fn layer(key: [u8; 32]) -> Result<(), tower_oauth_refresh::ConfigError> {
    /// let refresh = RefreshLayer::builder(MemoryStore::new())
    ///     .revocation_key(key)
    ///     .upstream_revocation(service_fn(send), ClientCredentials::public())
    ///     .build()?;
    /// # drop(refresh);
    /// # Ok(())
    /// # }
    /// # assert!(layer([7; 32]).is_ok());
    /// ```
    pub fn upstream_revocation<S, ReqBody, ResBody>(
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
        self.config.upstream_revocation = Some(DirectService::new(service, credentials));
        self
    }
}
