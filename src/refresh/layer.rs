//! [`RefreshLayer`] and its builder: the configuration that applications use.
//!
//! The builder checks the settings when it is built. The layer then wraps services in [`Refresh`].
//! It also holds what applies to all of them: [`end_grant`](RefreshLayer::end_grant),
//! [`drain`](RefreshLayer::drain) and [`check`](RefreshLayer::check).

use std::sync::Arc;

use tower::Layer;

use crate::endpoint::end_grant;
use crate::endpoint::sessions::{self, Index, Session};
use crate::endpoint::state::State;
use crate::grant::GrantKey;
use crate::refresh::builder::RefreshLayerBuilder;
use crate::refresh::service::Refresh;
use crate::refresh::to_completion::to_completion;
use crate::store::{Store, StoreError};
use crate::subject::Subject;
use crate::wire::client::ClientId;

/// Layer that applies the [`Refresh`] middleware.
///
/// The layer sees only the requests that reach it. In axum, a request without a route goes to a
/// fallback. After `merge`, `nest` or `route_layer`, or with a `fallback` that was set later, that
/// fallback may be outside the layer. A revocation request may then get 200 from the fallback while
/// the token stays valid. So add a route inside the layer for each guarded path, even if the
/// handler only returns 404 because the app has no such endpoint:
///
/// ```
/// # use axum::{Router, http::StatusCode, routing::post};
/// # let router: Router = Router::new()
/// .route("/oauth/revoke", post(|| async { StatusCode::NOT_FOUND }))
/// # ;
/// ```
///
/// [`check`](RefreshLayer::check) tests that the layer covers every guarded path.
///
/// All services made from one layer and its clones share the store, the locks between requests with
/// the same token, and [`drain`](RefreshLayer::drain). See the [crate docs](crate) for an example.
#[must_use = "a layer does nothing until it is applied to a service"]
pub struct RefreshLayer<St> {
    pub(crate) shared: Arc<State<St>>,
}

impl<St: Store> RefreshLayer<St> {
    /// Returns a builder for a layer over `store`, with all settings at their defaults.
    pub fn builder(store: St) -> RefreshLayerBuilder<St> {
        RefreshLayerBuilder::new(store)
    }

    /// Creates a layer with all settings at their defaults.
    pub fn new(store: St) -> Self {
        Self::builder(store).finish()
    }

    /// Returns a builder for an [`AccessLayer`](crate::AccessLayer) that guards the routes of a
    /// resource server in the same process. It uses the store, the clock, the prefix of access
    /// tokens and the event callback of this layer.
    #[cfg(feature = "access")]
    pub fn access(&self) -> crate::AccessLayerBuilder<St> {
        crate::AccessLayerBuilder::over(&self.shared)
    }

    /// Ends a grant and its reference access tokens on every instance, for example because an
    /// authorization code was used twice (RFC 6749 §4.1.2).
    /// [`end_sessions`](Self::end_sessions) ends all grants of a user.
    ///
    /// Returns `true` if the grant existed and this call ended it, and `false` if it had already
    /// ended or expired, or never existed. Requests that begin later find no grant. A rotation in
    /// progress gets `invalid_grant`, because it has not answered its client yet and cannot commit
    /// to a grant that has ended.
    ///
    /// An [`AccessLayer`](crate::AccessLayer) rejects the access tokens of the grant as soon as it
    /// receives the announcement of the end, and after
    /// [`cache_ttl`](crate::AccessLayerBuilder::cache_ttl) at the latest. This does not depend on
    /// any setting of this layer: a program that serves no requests can create a layer over the
    /// same store only to end grants.
    ///
    /// The inner service is not informed, unless
    /// [`upstream_revocation`](RefreshLayerBuilder::upstream_revocation) is set: only the client
    /// can open the sealed upstream token, so only a revocation request (RFC 7009) of the client
    /// revokes it there. Until it expires, the inner service keeps a session that no client can
    /// reach. Access tokens of the inner service that clients hold directly do not end either.
    ///
    /// After its first poll the call runs to completion, even if the future is dropped, as long as
    /// it is dropped inside a tokio runtime. [`drain`](Self::drain) waits for it. A grant whose
    /// revocation by the client is pending counts as ended; it stays in the store so that the
    /// client can repeat the revocation.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store fails. The grant may or may not have ended; calling again is
    /// safe. The end is as durable as any other write of the store.
    pub fn end_grant(
        &self,
        grant: &GrantKey,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send + use<St> {
        to_completion(end_grant::end(Arc::clone(&self.shared), *grant.key()))
    }

    /// Returns the sessions of a user: the grants of this [`Subject`] that have neither ended nor
    /// expired, oldest first. The list of an unknown subject is empty.
    ///
    /// It costs one call of the store and one for each session, at most 16 at a time. A user has at
    /// most 1,000 listed sessions: a log-in beyond that replaces an ended session in the list, or
    /// the oldest one ([`EventKind::SessionUnlisted`](crate::EventKind::SessionUnlisted)).
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store fails, or if an entry is damaged.
    ///
    /// # Example
    ///
    /// ```
    /// use tower_oauth_refresh::{MemoryStore, RefreshLayer, StoreError, Subject};
    ///
    /// /// The user has changed the password.
    /// async fn password_changed(
    ///     refresh: &RefreshLayer<MemoryStore>,
    ///     user: &Subject,
    /// ) -> Result<(), StoreError> {
    ///     for session in refresh.sessions(user).await? {
    ///         let since = session.created_at();
    ///         tracing::info!(client = session.client_id(), ?since, "ending");
    ///     }
    ///     refresh.end_sessions(user).await?;
    ///     Ok(())
    /// }
    /// ```
    pub fn sessions(
        &self,
        subject: &Subject,
    ) -> impl Future<Output = Result<Vec<Session>, StoreError>> + Send + use<St> {
        sessions::list(Arc::clone(&self.shared), subject.clone())
    }

    /// Ends every session of a user, like [`end_grant`](Self::end_grant). Returns how many this
    /// call has ended.
    ///
    /// The call ends the session of every log-in that was answered before it, and may miss one that
    /// is answered meanwhile. It does not end a session that could not be listed
    /// ([`EventKind::SessionUnlisted`](crate::EventKind::SessionUnlisted)).
    ///
    /// # Errors
    ///
    /// The first [`StoreError`] if the store fails for a session. The call still ends the other
    /// sessions. Calling again is safe.
    pub fn end_sessions(
        &self,
        subject: &Subject,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send + use<St> {
        let index = sessions::user_index(&self.shared, subject);
        to_completion(sessions::end(Arc::clone(&self.shared), index, None))
    }

    /// Ends the sessions of a user that began in one session at the identity provider, like
    /// [`end_sessions`](Self::end_sessions): the user has logged out on one device (OpenID Connect
    /// Back-Channel Logout 1.0 §2.6, a logout token with `sub` and `sid`).
    ///
    /// A session whose [`sid`](Session::sid) is unknown ends, too, because it may be one of these.
    ///
    /// # Errors
    ///
    /// Like [`end_sessions`](Self::end_sessions).
    pub fn end_sessions_of(
        &self,
        subject: &Subject,
        sid: &str,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send + use<St> {
        let index = sessions::user_index(&self.shared, subject);
        let (shared, sid) = (Arc::clone(&self.shared), Some(sid.to_owned()));
        to_completion(sessions::end(shared, index, sid))
    }

    /// Ends the sessions that began in one session at the identity provider `issuer`, like
    /// [`end_sessions`](Self::end_sessions), without the name of their user (OpenID Connect
    /// Back-Channel Logout 1.0 §2.6, a logout token with `sid` only).
    ///
    /// It finds the sessions that began while
    /// [`provider_sessions`](crate::RefreshLayerBuilder::provider_sessions) was set, with an ID
    /// token of this issuer.
    ///
    /// # Errors
    ///
    /// Like [`end_sessions`](Self::end_sessions).
    pub fn end_provider_session(
        &self,
        issuer: &str,
        sid: &str,
    ) -> impl Future<Output = Result<usize, StoreError>> + Send + use<St> {
        let shared = Arc::clone(&self.shared);
        let index = Index::of_sid(issuer, sid, shared.config().subject_key.as_ref());
        to_completion(sessions::end(shared, index, None))
    }

    /// Ends every grant of a client that has begun until now, and its access tokens, for example
    /// because the client was compromised. Its users can log in again.
    ///
    /// The call makes three calls of the store, however many grants there are. This instance
    /// refuses the grants from now on, and other instances within a second. Their entries stay in
    /// the store until they expire. Instances that guard resources refuse the access tokens as soon
    /// as they receive the announcement, and after
    /// [`cache_ttl`](crate::AccessLayerBuilder::cache_ttl) at the latest.
    ///
    /// The tokens that the inner service issued stay valid there. With
    /// [`upstream_revocation`](RefreshLayerBuilder::upstream_revocation), the layer revokes the
    /// upstream token of a grant when its client next presents a refresh token. An upstream token
    /// that was never adopted can still be adopted.
    ///
    /// The clocks of the instances decide whether a grant began before the call: a grant that began
    /// within their difference may survive. The event is
    /// [`EndedByApplication`](crate::EventKind::EndedByApplication), without a grant.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store fails, if the clock of this machine is not set, or if 1,000
    /// other clients have been ended since the last [`end_all`](Self::end_all). Calling again is
    /// safe.
    pub fn end_client(
        &self,
        client_id: &ClientId,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + use<St> {
        to_completion(Arc::clone(&self.shared).begin_epoch(Some(client_id.clone())))
    }

    /// Ends every grant that has begun until now, and its access tokens, like
    /// [`end_client`](Self::end_client) for all clients. It also repairs a damaged entry of the
    /// epochs, with which every request fails ([`StoreError::Corrupt`]).
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the store fails. Calling again is safe.
    pub fn end_all(&self) -> impl Future<Output = Result<(), StoreError>> + Send + use<St> {
        to_completion(Arc::clone(&self.shared).begin_epoch(None))
    }

    /// Waits until no rotation, adoption or revocation is in progress, no session is being listed,
    /// and no call that ends grants is running. It does not wait for the next attempt of a failed
    /// revocation of an upstream token.
    ///
    /// The graceful shutdown of a server waits for connections, but a rotation that continues after
    /// its client has disconnected belongs to no connection. So call `drain` after the server has
    /// stopped accepting requests and before the runtime is shut down. The layer still accepts new
    /// requests.
    pub fn drain(&self) -> impl Future<Output = ()> + Send + use<St> {
        let in_flight = self.shared.in_flight.clone();
        async move {
            // A closed tracker still accepts operations. `wait` returns only for a closed one.
            in_flight.close();
            in_flight.wait().await;
        }
    }
}

impl<St> Clone for RefreshLayer<St> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

redacted_debug!(self: <St> RefreshLayer { config: self.shared.config() });

impl<S, St> Layer<S> for RefreshLayer<St> {
    type Service = Refresh<S, St>;

    fn layer(&self, inner: S) -> Self::Service {
        Refresh::new(inner, Arc::clone(&self.shared))
    }
}
