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
    /// Sets a server key for which upstream refresh tokens are sealed a second time, so that the
    /// layer itself can revoke them. Default: none. Only the client's token then opens the upstream
    /// token. [`build`](Self::build) returns an error without
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
    /// The layer revokes the upstream token after [`end_grant`](crate::RefreshLayer::end_grant),
    /// [`end_sessions`](crate::RefreshLayer::end_sessions) and reuse, and when a client revokes its
    /// grant with a token that is too old to open the upstream token. A refresh that finds that its
    /// grant has ended revokes the upstream token that it has just received.
    /// [`end_client`](crate::RefreshLayer::end_client) and
    /// [`end_all`](crate::RefreshLayer::end_all) do not know which grants exist, so the layer
    /// revokes the upstream token of such a grant when its client next presents a refresh token. It
    /// does not revoke the upstream token of an expired grant.
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
