//! The responses of the listener itself.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Response, StatusCode};
use http_body_util::Full;

/// The reason why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The method is not upper-case.
    Method,
    /// The request body made no progress.
    Stalled,
    /// Too many requests are in flight.
    InFlight,
    /// The request bodies need too much memory.
    Memory,
}

impl Refusal {
    /// Refuses methods that are not in upper case, because some servers match methods without case.
    ///
    /// Registered methods consist of upper-case letters and hyphens.
    pub(crate) fn of_method(method: &Method) -> Option<Self> {
        let upper = |byte: u8| byte.is_ascii_uppercase() || byte == b'-';
        (!method.as_str().bytes().all(upper)).then_some(Self::Method)
    }

    const fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Method => (
                StatusCode::BAD_REQUEST,
                "invalid_request",
                "the method must be in upper case",
            ),
            Self::Stalled => (
                StatusCode::REQUEST_TIMEOUT,
                "invalid_request",
                "the request body did not arrive",
            ),
            Self::InFlight | Self::Memory => (
                StatusCode::SERVICE_UNAVAILABLE,
                "temporarily_unavailable",
                "the server is busy, try again",
            ),
        }
    }

    /// Returns the error in the format of OAuth (RFC 6749 §5.2), which clients of both servers can
    /// read.
    pub(crate) fn response(self) -> Response<Full<Bytes>> {
        let (status, error, description) = self.parts();
        let body = format!(r#"{{"error":"{error}","error_description":"{description}"}}"#);
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
