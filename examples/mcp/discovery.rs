//! The documents by which clients find their way (RFC 8414, RFC 9728).

use axum::Router;

use crate::app::App;

/// These are absolute: they lie at the root of the host, whatever the path of the issuer.
pub(crate) fn routes(_: &App) -> Router<App> {
    Router::new()
}
