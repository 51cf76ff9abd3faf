//! The tower face of the token layer: [`RefreshLayer`], its builder, the [`Refresh`] middleware and
//! its response future.
//!
//! The service decides for each request whether the layer intercepts it. Intercepted requests go to
//! the room `endpoint`; all other requests pass through without an allocation.

mod builder;
pub(crate) mod check;
mod future;
mod layer;
mod service;
mod to_completion;

pub use self::builder::RefreshLayerBuilder;
pub use self::check::{CheckError, ProbeOutcome, UnguardedPath};
pub use self::future::ResponseFuture;
pub use self::layer::RefreshLayer;
pub use self::service::Refresh;
