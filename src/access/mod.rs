//! Reference access tokens: opaque access tokens of the layer that stand for upstream access
//! tokens.
//!
//! Use this if clients must not hold access tokens of the inner service, or if access tokens must
//! end with their grant.
//!
//! 1. The token endpoint has a `RefreshLayer` with `reference_access_tokens(true)`. It replaces the
//!    upstream access token of every token response with a reference access token, and stores the
//!    upstream token sealed under it.
//! 2. The routes of the resource server have an `AccessLayer`. The resource server may run in the
//!    same process, or in another process over the same store. The layer rejects requests without a
//!    valid token, and sends the others to the inner service with the upstream access token and an
//!    `AccessGrant` in the request extensions.
//! 3. When a grant ends, the store announces it, and every `AccessLayer` rejects the access tokens
//!    of that grant from then on. Without an announcement, a token is rejected when its cache entry
//!    expires.

// `layer`, `builder`, `service` and `future` are the middleware: `policy` finds the route of a
// request by its path, `bearer` parses the `Authorization` header, `guard` validates tokens with
// the help of the cache, `route` checks their scope and resource against its `requirements`,
// `subscriber` applies announcements to the cache, `challenge` writes the error responses, and
// `body` is the response body. If responses end with their tokens, `watch` decides when. `extract`
// is the extractor for axum.

mod bearer;
mod body;
mod builder;
mod challenge;
#[cfg(feature = "axum")]
mod extract;
mod future;
mod guard;
mod layer;
mod policy;
mod requirements;
mod route;
mod service;
mod subscriber;
mod watch;

pub use crate::access_token::grant::{AccessGrant, AccessGrantBuilder};

#[cfg(feature = "axum")]
pub use self::extract::AccessRejection;
pub use self::{
    body::{AccessBody, ResponseEnded},
    builder::AccessLayerBuilder,
    challenge::AccessError,
    future::ResponseFuture,
    layer::AccessLayer,
    requirements::Requirements,
    service::Access,
};
