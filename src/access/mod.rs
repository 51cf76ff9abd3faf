//! Access tokens by reference: what clients hold in the place of the upstream's.
//!
//! The token endpoint has a `RefreshLayer` with `reference_access_tokens()`; the routes of the
//! resource server, in the same process or in another one over the same store, have an
//! `AccessLayer` (feature `tiered`).

// `record` is what the store keeps of a token, `mint` makes one, `check` says whether one is alive,
// `revocation` ends one. `layer`, `service` and `future` guard routes: `present` reads what a
// request presents, `guard` decides over a `cache` that a `listener` keeps right, `challenge`
// refuses, `grant` is what the routes get. `body` is the body of the response, which a `watch` may
// end: `open` passes announced ends to it.

#[cfg(feature = "tiered")]
mod body;
#[cfg(feature = "tiered")]
mod cache;
#[cfg(feature = "tiered")]
mod challenge;
pub(crate) mod check;
#[cfg(feature = "tiered")]
mod future;
#[cfg(feature = "tiered")]
mod grant;
#[cfg(feature = "tiered")]
mod guard;
#[cfg(feature = "tiered")]
mod layer;
#[cfg(feature = "tiered")]
mod listener;
pub(crate) mod mint;
#[cfg(feature = "tiered")]
mod open;
#[cfg(feature = "tiered")]
mod present;
pub(crate) mod record;
pub(crate) mod revocation;
#[cfg(feature = "tiered")]
mod service;
#[cfg(feature = "tiered")]
mod watch;

#[cfg(feature = "tiered")]
pub(crate) use self::cache::Cache;
#[cfg(feature = "tiered")]
pub use self::{
    body::{AccessBody, ResponseEnded},
    challenge::AccessError,
    future::ResponseFuture,
    grant::{AccessGrant, AccessGrantBuilder},
    layer::{AccessLayer, AccessLayerBuilder},
    service::Access,
};
