//! Cross-origin access for clients that run in web pages: they may read the same responses as other
//! clients (Fetch, CORS protocol).

use std::time::Duration;

use axum::Router;
use axum::http::Method;
use axum::http::header::{HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

use crate::app::App;
use crate::error;

/// The time for which a browser caches a preflight response.
const MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Allows web pages to call these routes. It must be applied only to the routes for clients, never
/// to the pages for users. Credentials are not allowed: a client sends its token, and cookies have
/// no effect.
pub(crate) fn with_cors(router: Router<App>) -> Router<App> {
    // The fallback must be added before the layer, because the layer does not apply to routes and
    // fallbacks that are added later.
    router
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(cors())
}

fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        // `*` does not include `Authorization`.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([
            WWW_AUTHENTICATE,
            RETRY_AFTER,
            HeaderName::from_static("mcp-session-id"),
        ])
        .max_age(MAX_AGE)
        .vary([HeaderName::from_static("access-control-request-headers")])
}
