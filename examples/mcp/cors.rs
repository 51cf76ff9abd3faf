//! Clients that are web pages: they may read what any other client may (Fetch, CORS protocol).

use std::time::Duration;

use axum::Router;
use axum::http::Method;
use axum::http::header::{HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

use crate::app::App;
use crate::error;

/// How long a browser remembers that it may ask.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Lets web pages call what clients call, and never what people see. Without credentials: a client
/// shows its token, no cookie of a browser counts.
pub(crate) fn with_cors(router: Router<App>) -> Router<App> {
    // An answer to every method: what is added later would not be asked whether a page may.
    router
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(cors())
}

fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        // `*` would not stand for `Authorization`.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([
            WWW_AUTHENTICATE,
            RETRY_AFTER,
            HeaderName::from_static("mcp-session-id"),
        ])
        .max_age(MAX_AGE)
        .vary([HeaderName::from_static("access-control-request-headers")])
}
