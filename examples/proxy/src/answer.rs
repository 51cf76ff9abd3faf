//! Error responses of the proxy itself.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::Full;

/// Returns an error response in the format of OAuth (RFC 6749 §5.2), which the clients of an
/// authorization server understand.
pub(crate) fn error(status: StatusCode, description: &str) -> Response<Full<Bytes>> {
    error_with_code(
        status,
        if status.is_server_error() {
            "server_error"
        } else {
            "invalid_request"
        },
        description,
    )
}

/// Returns an error response with this OAuth error code.
pub(crate) fn error_with_code(
    status: StatusCode,
    code: &str,
    description: &str,
) -> Response<Full<Bytes>> {
    let body = serde_json::json!({ "error": code, "error_description": description });
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
