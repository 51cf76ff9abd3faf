//! Error responses of the proxy itself.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use server_common::oauth_error::oauth_error;

/// Returns an error response whose error code depends on the status only.
pub(crate) fn error(status: StatusCode, description: &str) -> Response<Full<Bytes>> {
    let code = if status.is_server_error() {
        "server_error"
    } else {
        "invalid_request"
    };
    oauth_error(status, code, description)
}
