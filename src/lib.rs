//! A [`tower::Layer`] that binds and rotates OAuth refresh tokens in front of an existing token
//! endpoint, without logging users out when a response is lost or two requests race.
//!
//! Put [`RefreshLayer`] in front of a token endpoint that speaks HTTP through a [`tower::Service`]:
//! an axum app that issues its own tokens, a reverse proxy to an identity provider, a hyper server.
//! This inner service needs no change. It continues to issue and accept its own refresh tokens, the
//! upstream tokens. Clients see only the refresh tokens of the layer. They are opaque, rotated on
//! every use (RFC 9700 §4.14.2) and bound to one client. The store holds hashes of them, and
//! upstream tokens that are sealed under them, so a copy of the store contains no usable token.
//!
//! ```
//! use axum::{Form, Json, Router, routing::post};
//! use serde_json::{Value, json};
//! use tower_oauth_refresh::{MemoryStore, RefreshLayer};
//!
//! /// The existing token endpoint of an app.
//! async fn token(Form(form): Form<Vec<(String, String)>>) -> Json<Value> {
//!     // ... looks up the code or the refresh token, and issues tokens ...
//! #   let _ = form;
//!     Json(json!({ "access_token": "a", "token_type": "Bearer", "refresh_token": "the app's" }))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let refresh = RefreshLayer::builder(MemoryStore::new()).token_path("/oauth/token").build()?;
//! let app: Router = Router::new().route("/oauth/token", post(token)).layer(refresh);
//!
//! let log_in = http::Request::post("/oauth/token")
//!     .header("content-type", "application/x-www-form-urlencoded")
//!     .body(axum::body::Body::from("grant_type=authorization_code&code=c&client_id=spa"))?;
//! let response = tower::ServiceExt::oneshot(app, log_in).await?;
//! let body = axum::body::to_bytes(response.into_body(), 4096).await?;
//! let body: Value = serde_json::from_slice(&body)?;
//! assert!(body["refresh_token"].as_str().is_some_and(|token| token.starts_with("rt_")));
//! # Ok(())
//! # }
//! ```
//!
//! # Requirements
//!
//! - Token requests are forms and token responses are JSON (RFC 6749). Log-ins with a JSON body and
//!   sessions in cookies are not covered.
//! - A token request must identify its client: by `client_id`, by HTTP Basic, by a
//!   `client_assertion`, or by a [`ClientId`] that a layer outside adds to the request extensions.
//!   Otherwise its response has no refresh token.
//! - Refresh tokens that were issued before the layer was installed need
//!   [`adopt_until`](RefreshLayerBuilder::adopt_until). Without it, the users who hold them must
//!   log in again.
//!
//! # How requests are handled
//!
//! - **`POST` to the token path with `grant_type=refresh_token`**: the layer looks up the token,
//!   checks its client, and forwards the request with the upstream token. The response carries the
//!   next refresh token. If the same request is sent again within the
//!   [`retry_window`](RefreshLayerBuilder::retry_window), the client gets the same response. Within
//!   the [`shared_token_window`](RefreshLayerBuilder::shared_token_window) an old token still leads
//!   to the current one. An old token whose windows are over was stolen, or is a stale copy: it
//!   ends the grant. If the client of the grant authenticates, the grant ends only if the inner
//!   service accepts the credential of that request.
//! - **`POST` to the token path with any other grant type**: forwarded unchanged. The refresh token
//!   in the response is replaced, and the response states how long the new one is valid.
//! - **`POST` to the revocation path** (RFC 7009): forwarded with the upstream token, then the
//!   grant ends.
//! - **`POST` to the introspection path** (RFC 7662), if one
//!   [is set](RefreshLayerBuilder::introspection_path): forwarded with the upstream token. The
//!   response describes the token of the layer.
//! - **Other methods at these paths**: GET, HEAD and OPTIONS pass if they carry no token request,
//!   every other method gets 405.
//! - **Everything else**: passed through unchanged, without a copy or an allocation. With
//!   [`match_normalized_paths`](RefreshLayerBuilder::match_normalized_paths), requests with an
//!   ambiguous [`path`] are rejected.
//!
//! # Where to put the layer
//!
//! ```text
//! client -> tracing, CORS, compression, limits -> RefreshLayer -> token endpoint (inner service)
//!                                                      |
//!                                                    Store
//! ```
//!
//! Put the layer outside the handlers of the guarded paths and inside compression, CORS, tracing
//! and request limits: it must read the responses of the inner service as uncompressed JSON.
//! `Router::layer` of axum covers only the routes that were added before it, and a layer in a
//! nested router sees the path without the prefix of the nest.
//!
//! The layer limits the calls of the inner service itself, so put a time-out of the server outside
//! the layer. There it only ends the client's wait; the rotation continues. A time-out inside the
//! layer counts as an error of the inner service: the client's token stays valid in the layer, but
//! tokens that the inner service has issued by then are lost. If the inner service rotates its own
//! refresh tokens, the session is lost with them.
//!
//! The layer binds tokens to clients but does not authenticate clients. The inner service does that
//! on every rotation, before the rotation is committed. A replayed response does not reach the
//! inner service. It is bound to the client secret or the `Authorization` header of the first
//! request. A request with a client assertion or with a proof (`DPoP`, an attestation) never gets a
//! replayed response.
//!
//! # Sessions
//!
//! Every token response of the layer carries the [`GrantKey`] of its grant in its extensions. A
//! layer outside can store it with the session that the log-in started. The application can then
//! end the grant with [`RefreshLayer::end_grant`], for example on a page that lists sessions, or to
//! log a user out everywhere.
//!
//! # Access tokens
//!
//! If clients must not get the access tokens of the inner service either, set
//! [`reference_access_tokens`](RefreshLayerBuilder::reference_access_tokens). Clients then get
//! reference access tokens: opaque tokens of the layer that end with their grant. An `AccessLayer`
//! on the routes of the resource server exchanges them for the upstream access tokens.
//!
//! # Terms
//!
//! - **Upstream token**: a token issued by the inner service.
//! - **Grant**: one authorization given to one client. All refresh tokens that descend from it
//!   belong to it. Other software calls this a token family.
//! - **Generation**: how often a grant has been rotated. A recovery counts as two rotations.
//! - **Current and previous token**: the newest refresh token of a grant, and the one that was
//!   presented for the last rotation.
//! - **Link**: the secret of a newer token, sealed under an older one. It leads from an old token
//!   to the one that replaced it.
//! - **Replay**: return the stored response of the last rotation again.
//! - **Converge**: answer a request with an old token, within the shared token window, with the
//!   current token.
//! - **Recover**: rotate from the previous token, after the shared token window, because its
//!   successor was never presented.
//! - **Keep**: answer a refresh with the presented token again, because the [`RotationPolicy`] of
//!   its client says so.
//! - **Reuse**: an old token whose windows are over. It ends the grant, unless the client of the
//!   grant authenticates and the request does not.
//! - **Adopt**: take in a grant that began before the layer was installed.
//! - **Window**: the time after a rotation in which a replay, a convergence or a recovery is
//!   allowed.
//!
//! # Features
//!
//! - `memory` (default): [`MemoryStore`], for tests and for one process whose grants may be lost on
//!   a restart.
//! - `redis`: `RedisStore`, which keeps grants in Redis: a single server, Sentinel or Cluster.
//! - `redis-tls`: `RedisStore` with TLS, through rustls.
//! - `postgres`: `PostgresStore`, which keeps grants in PostgreSQL. Needs Rust 1.94.
//! - `redb`: `RedbStore`, which keeps the grants of a single process in a file. Needs Rust 1.90.
//! - `tiered` (default): [`TieredStore`], a cache in front of another store.
//! - `access` (default): [`AccessLayer`], which guards a resource server, and its cache.
//! - `axum`: [`AccessGrant`] is an extractor of axum 0.8.
//! - `metrics`: the module [`metrics`], which records events and store calls through the `metrics`
//!   facade.
//! - `conformance`: [`store_conformance!`], which tests an implementation of [`Store`] against its
//!   contract.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![warn(
    missing_debug_implementations,
    clippy::must_use_candidate,
    clippy::return_self_not_must_use
)]
#![cfg_attr(docsrs, feature(doc_cfg))]
// These lints apply to the private items that `fuzzing` exports, too.
#![cfg_attr(
    fuzzing,
    allow(
        missing_debug_implementations,
        missing_docs,
        clippy::must_use_candidate,
        clippy::return_self_not_must_use
    )
)]

#[macro_use]
mod debug;

#[cfg(feature = "access")]
pub mod access;
mod access_token;
mod body;
mod cas;
mod client_credentials;
mod clock;
mod codec;
mod endpoint;
mod epochs;
mod error;
mod event;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod grant;
mod key_lock;
mod link;
#[cfg(doc)]
pub mod manual;
#[cfg(feature = "metrics")]
pub mod metrics;
mod random;
mod refresh;
mod revocation_key;
mod rotation_policy;
mod seal;
pub mod store;
mod subject;
mod token;
mod wire;

#[cfg(feature = "access")]
pub use self::access::{
    AccessError, AccessGrant, AccessGrantBuilder, AccessLayer, AccessLayerBuilder,
};
pub use self::body::{RequestBody, ResponseBody};
pub use self::client_credentials::ClientCredentials;
pub use self::clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use self::endpoint::sessions::Session;
pub use self::error::{ConfigError, RefreshError};
pub use self::event::{ClientProof, Event, EventKind, Reuse};
pub use self::grant::{GrantKey, InvalidGrantKey};
pub use self::random::{OsRandom, RandomUnavailable, SecureRandom};
pub use self::refresh::{
    CheckError, ProbeOutcome, Refresh, RefreshLayer, RefreshLayerBuilder, ResponseFuture,
    UnguardedPath,
};
pub use self::rotation_policy::{ClientInfo, RotationPolicy};
#[cfg(feature = "memory")]
pub use self::store::MemoryStore;
pub use self::store::{BoxStore, Store, StoreError};
#[cfg(feature = "postgres")]
pub use self::store::{PostgresConnectError, PostgresStore, PostgresStoreBuilder};
#[cfg(feature = "redb")]
pub use self::store::{RedbOpenError, RedbStore, RedbStoreBuilder};
#[cfg(feature = "redis")]
pub use self::store::{RedisConnectError, RedisStore, RedisStoreBuilder, RedisUrlError};
#[cfg(feature = "tiered")]
pub use self::store::{TieredStore, TieredStoreBuilder};
pub use self::subject::{InvalidSubject, SessionLabel, Subject};
pub use self::wire::client::{ClientId, InvalidClientId, SenderConstrained};
pub use self::wire::path;

/// Compiles and runs the code of the README.
#[cfg(all(doctest, feature = "access", feature = "memory", feature = "redis"))]
#[doc = include_str!("../README.md")]
struct Readme;
