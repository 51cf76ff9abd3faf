//! Error responses that the listener itself sends.

use bytes::Bytes;
use http::header::{HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Response, StatusCode};
use http_body_util::Full;

use crate::oauth_error::oauth_error;

/// The reason why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The method contains lower-case letters or other unusual characters.
    Method,
    /// The method asks for an echo of the request: `TRACE`, or `TRACK` of IIS.
    Echo,
    /// The request body made no progress.
    Stalled,
    /// Too many requests are in flight.
    InFlight,
    /// The request bodies use too much memory.
    Memory,
}

impl Refusal {
    /// Returns a refusal unless the method consists of upper-case letters and hyphens, as all
    /// registered methods do, and is not one that echoes the request.
    ///
    /// Some servers ignore the case of methods, so `post` could reach an endpoint for which only
    /// `POST` is guarded. An echo contains what the server has added for the upstream, such as the
    /// upstream's access token, and cookies that scripts must not read.
    pub fn of_method(method: &Method) -> Option<Self> {
        let upper = |byte: u8| byte.is_ascii_uppercase() || byte == b'-';
        match method.as_str() {
            "TRACE" | "TRACK" => Some(Self::Echo),
            name => (!name.bytes().all(upper)).then_some(Self::Method),
        }
    }

    const fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Method => (
                StatusCode::BAD_REQUEST,
                "invalid_request",
                "the method must be in upper case",
            ),
            Self::Echo => (
                StatusCode::NOT_IMPLEMENTED,
                "invalid_request",
                "TRACE and TRACK are not supported",
            ),
            Self::Stalled => (
                StatusCode::REQUEST_TIMEOUT,
                "invalid_request",
                "the request body did not arrive in time",
            ),
            Self::InFlight | Self::Memory => (
                StatusCode::SERVICE_UNAVAILABLE,
                "temporarily_unavailable",
                "the server is busy, try again",
            ),
        }
    }

    /// Returns the error response.
    pub fn response(self) -> Response<Full<Bytes>> {
        let (status, error, description) = self.parts();
        let mut response = oauth_error(status, error, description);
        let nosniff = HeaderValue::from_static("nosniff");
        response
            .headers_mut()
            .insert(X_CONTENT_TYPE_OPTIONS, nosniff);
        response
    }
}
