//! [`RefreshLayer`] and its builder: the configuration that applications use.
//!
//! The builder checks the settings when it is built. The layer then wraps services in [`Refresh`].
//! It also holds what applies to all of them: [`end_grant`](RefreshLayer::end_grant),
//! [`drain`](RefreshLayer::drain) and [`check`](RefreshLayer::check).

use std::fmt;
use std::sync::Arc;

use tower::Layer;

use crate::clock::SystemClock;
use crate::endpoint::config::Config;
use crate::endpoint::end_grant;
use crate::endpoint::state::State;
use crate::grant::GrantKey;
use crate::random::OsRandom;
use crate::refresh::builder::RefreshLayerBuilder;
use crate::refresh::ending::Ending;
use crate::refresh::service::Refresh;
use crate::store::{Store, StoreError};

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
    pub(super) shared: Arc<State<St>>,
}

impl<St: Store> RefreshLayer<St> {
    /// Returns a builder for a layer over `store`, with all settings at their defaults.
    pub fn builder(store: St) -> RefreshLayerBuilder<St> {
        RefreshLayerBuilder::new(store)
    }

    /// Creates a layer with all settings at their defaults.
    pub fn new(store: St) -> Self {
        let config = Config::default();
        Self {
            shared: Arc::new(State::new(
                store,
                config,
                Arc::new(SystemClock),
                Arc::new(OsRandom),
                None,
            )),
        }
    }

    /// Returns a builder for an [`AccessLayer`](crate::AccessLayer) that guards the routes of a
    /// resource server in the same process. It uses the store, the clock, the prefix of access
    /// tokens and the event callback of this layer.
    #[cfg(feature = "access")]
    pub fn access(&self) -> crate::AccessLayerBuilder<St> {
        crate::AccessLayerBuilder::over(&self.shared)
    }

    /// Ends a grant and its reference access tokens on every instance, for example to log a user
    /// out everywhere, or because an authorization code was used twice (RFC 6749 §4.1.2).
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
    /// The inner service is not informed. Only the client can open the sealed upstream token, so
    /// only a revocation request (RFC 7009) of the client revokes it there. Until it expires, the
    /// inner service keeps a session that no client can reach. Access tokens of the inner service
    /// that clients hold directly do not end either.
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
    ///
    /// # Example
    ///
    /// The app records every session of a user and ends all of them when the password changes:
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    ///
    /// use axum::response::Response;
    /// use axum::{Extension, Router, middleware::map_response, routing::post};
    /// use tower_oauth_refresh::{GrantKey, MemoryStore, RefreshLayer, StoreError};
    ///
    /// /// The user who logged in. The app's token endpoint adds it to the extensions of its response.
    /// #[derive(Clone)]
    /// struct User(u64);
    ///
    /// /// The table of sessions.
    /// type Sessions = Arc<Mutex<Vec<(u64, GrantKey)>>>;
    ///
    /// async fn record(sessions: Sessions, response: Response) -> Response {
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
    ///     for (_, grant) in all.into_iter().filter(|(owner, _)| *owner == user) {
    ///         refresh.end_grant(&grant).await?;
    ///     }
    ///     Ok(())
    /// }
    ///
    /// # async fn token() -> impl axum::response::IntoResponse {
    /// #     let body = r#"{"access_token":"a","token_type":"Bearer","refresh_token":"r"}"#;
    /// #     (Extension(User(7)), body)
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let sessions = Sessions::default();
    /// let recorded = Arc::clone(&sessions);
    /// let refresh = RefreshLayer::new(MemoryStore::new());
    /// let app: Router = Router::new()
    ///     .route("/token", post(token))
    ///     .layer(refresh.clone())
    ///     .layer(map_response(move |response| record(Arc::clone(&recorded), response)));
    /// # let log_in = http::Request::post("/token")
    /// #     .header("content-type", "application/x-www-form-urlencoded")
    /// #     .body(axum::body::Body::from("grant_type=authorization_code&code=c&client_id=spa"))?;
    /// # let response = tower::ServiceExt::oneshot(app, log_in).await?;
    /// # assert_eq!(response.status(), 200);
    /// # let grant = sessions.lock().unwrap()[0].1;
    /// # password_changed(7, &sessions, &refresh).await?;
    /// # assert!(!refresh.end_grant(&grant).await?, "the grant has already ended");
    /// # Ok(())
    /// # }
    /// ```
    pub fn end_grant(
        &self,
        grant: &GrantKey,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send + use<St> {
        Ending::new(end_grant::end(Arc::clone(&self.shared), *grant.key()))
    }

    pub(crate) fn shared(&self) -> &State<St> {
        &self.shared
    }

    /// Waits until no rotation, adoption or revocation is in progress, and no call of
    /// [`end_grant`](Self::end_grant).
    ///
    /// The graceful shutdown of a server waits for connections. Work that continues after its
    /// client has disconnected belongs to no connection. So call this after the server has stopped
    /// accepting requests and before the runtime is shut down. New requests are not rejected.
    pub fn drain(&self) -> impl Future<Output = ()> + Send + use<St> {
        let in_flight = self.shared.in_flight().clone();
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
