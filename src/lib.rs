//! One [`tower::Layer`](tower_layer::Layer) that ends the ways in which OAuth servers lose their
//! users' sessions.
//!
//! Put [`RefreshLayer`] in front of any token endpoint that speaks HTTP through a
//! [`tower::Service`]: an axum app that issues its own tokens, a reverse proxy to an identity
//! provider, a bare hyper server. The inner service needs no change. It goes on issuing and
//! accepting *its* refresh tokens, the upstream tokens; clients see only the layer's own: opaque,
//! rotated on every use (RFC 9700 §4.14.2), bound to one client, and worth nothing in a dump of the
//! store.
//!
//! [`tower::Service`]: tower_service::Service
//!
//! ```
//! use axum::{Form, Json, Router, routing::post};
//! use serde_json::{Value, json};
//! use tower_oauth_refresh::{MemoryStore, RefreshLayer};
//!
//! /// The token endpoint of an app, as it was.
//! async fn token(Form(form): Form<Vec<(String, String)>>) -> Json<Value> {
//!     // ... looks the code or the refresh token up, and issues ...
//! #   let _ = form;
//!     Json(json!({ "access_token": "a", "token_type": "Bearer", "refresh_token": "the app's own" }))
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
//! let answer = tower::ServiceExt::oneshot(app, log_in).await?;
//! let answer: Value = serde_json::from_slice(&axum::body::to_bytes(answer.into_body(), 4096).await?)?;
//! assert!(answer["refresh_token"].as_str().is_some_and(|token| token.starts_with("rt_")));
//! # Ok(())
//! # }
//! ```
//!
//! # What it does to a request
//!
//! - **`POST` to the token path, `grant_type=refresh_token`**: the token is looked up and its
//!   client checked, the request goes on with the upstream token in its place, the answer comes
//!   back with the next token. The same request again gets the same answer for a while
//!   ([`retry_window`](RefreshLayerBuilder::retry_window)); an old token that no honest client
//!   sends ends the grant.
//! - **`POST` to the token path, any other grant type**: goes on as it is; the refresh token of the
//!   answer is replaced.
//! - **`POST` to the revocation path** (RFC 7009): goes on with the upstream token, then the grant
//!   ends.
//! - **`POST` to the introspection path** (RFC 7662), if there is
//!   [one](RefreshLayerBuilder::introspection_path): goes on with the upstream token, the answer is
//!   about the layer's.
//! - **Everything else**: goes through untouched, without a copy or an allocation. With
//!   [`match_normalized_paths`](RefreshLayerBuilder::match_normalized_paths), `POST` requests with
//!   an ambiguous [`path`] are refused.
//!
//! # Where to put it
//!
//! Outside of whatever handles the guarded paths, inside of compression, CORS, tracing and request
//! limits: it reads the inner service's answers as plain JSON. `Router::layer` of axum covers the
//! routes that were added before it, and a nested router sees the stripped path. A time-out outside
//! of it may cut the client's wait short, the rotation goes on; one inside of it counts as an error
//! of the inner service: the client's token stays good here, but what the inner service has issued
//! by then is lost, and the session with it if each of its tokens is good once. Better have none:
//! the layer bounds the call by itself.
//!
//! It binds tokens to clients, it does not authenticate clients: the inner service does that on
//! every rotation, before anything is committed. An answer that is given again does not reach the
//! inner service; it is sealed under the client secret or the `Authorization` of the first request.
//!
//! # Sessions
//!
//! Every token answer of the layer carries the [`GrantKey`] of its grant in the extensions of the
//! response, for a layer outside that notes which session a log-in began. With it the program ends
//! a grant itself, by
//! [`RefreshLayer::end_grant`]: on a page of sessions, or when a user is to be logged out everywhere.
//!
//! # Access tokens
//!
//! Some servers must not hand the upstream's access token to the client either. With
//! [`reference_access_tokens`](RefreshLayerBuilder::reference_access_tokens) clients get one of the
//! layer's own, which an `AccessLayer` on the routes of the resource server turns back into the
//! upstream's, and which ends with its grant.
//!
//! # Features
//!
//! - `memory` (default): [`MemoryStore`].
//! - `redis`: `RedisStore`, grants in Redis: one server, Sentinel or Cluster.
//! - `redis-tls`: the same over TLS, with rustls.
//! - `redb`: `RedbStore`, for one process that keeps its grants in a file. Needs Rust 1.90.
//! - `tiered` (default): [`TieredStore`], a cache in front of another store, and [`AccessLayer`]
//!   with its cache.
//! - `store-tests`: [`store_tests!`], the contract of [`Store`] as tests.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod access;
mod answer;
mod body;
mod both;
mod check;
mod client;
mod clock;
mod config;
mod disclosure;
mod ending;
mod error;
mod event;
mod exchange;
mod fields;
mod form;
mod future;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod grant;
mod introspection;
mod json;
mod layer;
pub mod path;
mod queue;
mod random;
mod revocation;
mod rotation;
mod running;
mod scope;
mod seal;
mod service;
mod shared;
pub mod store;
mod text;
mod token;
mod upstream;

#[cfg(feature = "tiered")]
pub use self::access::{
    AccessError, AccessGrant, AccessGrantBuilder, AccessLayer, AccessLayerBuilder,
};
pub use self::body::{RequestBody, ResponseBody};
pub use self::check::{CheckError, Found, Unguarded};
pub use self::client::{ClientId, InvalidClientId};
pub use self::clock::{Clock, SystemClock, Timestamp};
pub use self::error::{ConfigError, Error};
pub use self::event::{Event, EventKind, GrantName};
pub use self::future::ResponseFuture;
pub use self::grant::{GrantKey, InvalidGrantKey};
pub use self::layer::{RefreshLayer, RefreshLayerBuilder};
pub use self::random::{OsRandom, RandomUnavailable, SecureRandom};
pub use self::service::Refresh;
#[cfg(feature = "memory")]
pub use self::store::MemoryStore;
#[cfg(feature = "tiered")]
pub use self::store::TieredStore;
pub use self::store::{BoxStore, Store, StoreError};
#[cfg(feature = "redb")]
pub use self::store::{RedbOpenError, RedbStore, RedbStoreBuilder};
#[cfg(feature = "redis")]
pub use self::store::{RedisConnectError, RedisStore, RedisStoreBuilder, RedisUrlError};

/// The code of the README, compiled and run.
#[cfg(all(doctest, feature = "memory", feature = "tiered", feature = "redis"))]
#[doc = include_str!("../README.md")]
struct Readme;
