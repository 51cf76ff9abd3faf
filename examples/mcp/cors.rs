//! Clients that are web pages: they may read what any other client may (Fetch, CORS protocol).

use std::time::Duration;

use axum::http::Method;
use axum::http::header::{HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

/// How long a browser remembers that it may ask.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// For what clients call themselves, and never for pages that people see. Without credentials: a client shows its token,
/// no cookie of a browser counts.
pub(crate) fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        // `*` would not stand for `Authorization`.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([WWW_AUTHENTICATE, RETRY_AFTER, HeaderName::from_static("mcp-session-id")])
        .max_age(MAX_AGE)
        .vary([HeaderName::from_static("access-control-request-headers")])
}
