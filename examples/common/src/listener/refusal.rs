//! Error responses that the listener itself sends.

use std::net::Ipv6Addr;

use bytes::Bytes;
use http::header::{HOST, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::Full;

use crate::oauth_error::oauth_error;

/// The reason why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The method contains lower-case letters or other unusual characters.
    Method,
    /// The method asks for an echo of the request: `TRACE`, or `TRACK` of IIS.
    Echo,
    /// `Host` is missing, repeated or malformed, or the request target has a malformed host.
    Host,
    /// The request body made no progress.
    Stalled,
    /// Too many requests are in flight.
    InFlight,
    /// The request bodies use too much memory.
    Memory,
}

impl Refusal {
    /// Returns the refusal of a request that no service may get.
    pub fn of_request<B>(request: &Request<B>) -> Option<Self> {
        Self::of_method(request.method())
            .or_else(|| (!names_valid_host(request)).then_some(Self::Host))
    }

    /// Returns a refusal unless the method consists of upper-case letters and hyphens, as all
    /// registered methods do, and is not one that echoes the request.
    ///
    /// Some servers ignore the case of methods, so `post` could reach an endpoint for which only
    /// `POST` is guarded. An echo contains what the server has added for the upstream, such as the
    /// upstream's access token, and cookies that scripts must not read.
    fn of_method(method: &Method) -> Option<Self> {
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
            Self::Host => (
                StatusCode::BAD_REQUEST,
                "invalid_request",
                "the Host of the request is missing, repeated or malformed",
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

/// Returns whether the request has the hosts that it must have (RFC 9112 §3.2), and each is one
/// host.
///
/// Services and upstreams build URLs from the host. With a comma in it, it would be two hosts in
/// `X-Forwarded-Host`, and with `@` or a slash another host in a URL.
fn names_valid_host<B>(request: &Request<B>) -> bool {
    let mut lines = request.headers().get_all(HOST).iter();
    let host = lines.next();
    if lines.next().is_some() {
        return false;
    }
    let target = request.uri().authority().map(Authority::as_str);
    let is_missing = host.is_none() && target.is_none();
    if is_missing && request.version() == Version::HTTP_11 {
        return false;
    }
    // A target without an authority has an empty Host.
    host.is_none_or(|host| host.is_empty() || host.to_str().is_ok_and(is_authority))
        && target.is_none_or(is_authority)
}

/// Returns whether the text is the name or the address of a host, with or without a port. Names
/// consist of unreserved characters (RFC 3986 §2.3): no host in use has others.
fn is_authority(text: &str) -> bool {
    let is_port = |port: &str| {
        let digits = port.strip_prefix(':');
        port.is_empty()
            || digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if let Some((address, port)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address.parse::<Ipv6Addr>().is_ok() && is_port(port);
    }
    let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
    let is_in_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_in_name) && is_port(port)
}
