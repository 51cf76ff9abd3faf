//! Security headers for all responses: they prevent browsers from sniffing content types, framing
//! pages and loading resources.

use axum::http::header::{
    CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::response::Response;
use tower::util::MapResponseLayer;

use crate::issuer::Issuer;

const ALWAYS: [(HeaderName, HeaderValue); 4] = [
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
];

/// Adds each header unless the response already has it.
pub(crate) fn layer(
    issuer: &Issuer,
) -> MapResponseLayer<impl Fn(Response) -> Response + Clone + use<>> {
    let https = issuer.is_https();
    MapResponseLayer::new(move |mut response: Response| {
        let headers = response.headers_mut();
        for (name, value) in ALWAYS {
            headers.entry(name).or_insert(value);
        }
        if https {
            let year = HeaderValue::from_static("max-age=31536000");
            headers.entry(STRICT_TRANSPORT_SECURITY).or_insert(year);
        }
        response
    })
}
