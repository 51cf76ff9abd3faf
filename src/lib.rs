//! One `tower::Layer` that binds OAuth refresh tokens to their client and rotates them without losing a session.

#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod answer;
mod body;
mod client;
mod clock;
mod config;
mod error;
mod event;
mod exchange;
mod form;
mod future;
mod grant;
mod json;
mod layer;
mod path;
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

pub use self::body::{RequestBody, ResponseBody};
pub use self::client::{ClientId, InvalidClientId};
pub use self::clock::{Clock, SystemClock, Timestamp};
pub use self::error::{ConfigError, Error};
pub use self::event::{Event, EventKind, GrantName};
pub use self::future::ResponseFuture;
pub use self::layer::{RefreshLayer, RefreshLayerBuilder};
pub use self::random::{OsRandom, RandomUnavailable, SecureRandom};
pub use self::service::Refresh;
#[cfg(feature = "memory")]
pub use self::store::MemoryStore;
pub use self::store::{Store, StoreError};
