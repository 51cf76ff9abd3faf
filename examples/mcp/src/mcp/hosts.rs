//! Checks the host name of a request to the MCP endpoint, and the origin of the web page that sends
//! it.
//!
//! After DNS rebinding, a malicious page sends its own host name as `Host`, and every page sends
//! its `Origin`. Both are parsed and compared with a list: a prefix or a suffix of an allowed value
//! is not allowed.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use server_common::listener::Throttle;

use super::host::AllowedHost;
use crate::cli::AllowedOrigin;
use crate::error::OauthError;
use crate::issuer::Issuer;

const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// The hosts and origins that a request may name.
#[derive(Clone, Debug)]
pub(crate) struct Allowed(Arc<Lists>);

#[derive(Debug)]
struct Lists {
    hosts: Vec<AllowedHost>,
    origins: Vec<AllowedOrigin>,
    refusals: Throttle,
}

impl Allowed {
    /// Allows the host of the public URL, the loopback names with the port of this server, and the
    /// listening address, which a reverse proxy may use. Allows the origins of the public URL, of
    /// this computer, and of `more`.
    pub(crate) fn new(issuer: &Issuer, listen: SocketAddr, more: &[AllowedOrigin]) -> Self {
        let here = LOOPBACK
            .into_iter()
            .map(str::to_owned)
            .chain([bare(listen)]);
        let here = here.map(|host| AllowedHost::new(&format!("{host}:{}", listen.port()), 80));
        let public = AllowedHost::new(issuer.authority(), if issuer.is_https() { 443 } else { 80 });
        let pages = LOOPBACK
            .into_iter()
            .map(|host| format!("http://{host}:*"))
            .chain([issuer.origin()]);
        let pages = pages.filter_map(|origin| origin.parse().ok());
        Self(Arc::new(Lists {
            hosts: here.chain([public]).flatten().collect(),
            origins: pages.chain(more.iter().cloned()).collect(),
            refusals: Throttle::default(),
        }))
    }

    fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), OauthError> {
        let host = one(headers, &HOST)?;
        // The endpoint may use the host in the request target (HTTP/2, or the absolute form of
        // HTTP/1) or the `Host` header, so both are checked.
        let named = [host, uri.authority().map(Authority::as_str)];
        if named.iter().all(Option::is_none) {
            return Err(OauthError::invalid_request(
                "the request has no Host header",
            ));
        }
        if named
            .into_iter()
            .flatten()
            .any(|host| !self.allows_host(host))
        {
            return Err(forbidden("the Host of the request is not allowed"));
        }
        // Only browsers send `Origin`.
        match one(headers, &ORIGIN)? {
            Some(origin) if !self.0.origins.iter().any(|allowed| allowed.matches(origin)) => {
                Err(forbidden("the Origin of the request is not allowed"))
            }
            _ => Ok(()),
        }
    }

    fn allows_host(&self, text: &str) -> bool {
        self.0.hosts.iter().any(|allowed| allowed.matches(text))
    }
}

/// Returns the IP address in the notation of URLs.
fn bare(listen: SocketAddr) -> String {
    match listen {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    }
}

/// Rejects requests with a host name or an origin that is not allowed.
pub(crate) async fn check(
    State(allowed): State<Allowed>,
    request: Request,
    next: Next,
) -> Response {
    match allowed.check(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => {
            if let Some(suppressed) = allowed.0.refusals.line() {
                tracing::info!(
                    error = error.description,
                    suppressed,
                    "rejected a request to the MCP endpoint"
                );
            }
            error.into_response()
        }
    }
}

fn forbidden(description: &str) -> OauthError {
    OauthError::invalid_request(description).with_status(StatusCode::FORBIDDEN)
}

/// Returns the value of a header that must not be repeated. A value that is not text is returned as
/// an empty string, which is never allowed.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, OauthError> {
    let mut values = headers.get_all(name).iter();
    let value = values
        .next()
        .map(|value| value.to_str().unwrap_or_default());
    if values.next().is_some() {
        return Err(OauthError::invalid_request(format!(
            "the request has more than one {name} header"
        )));
    }
    Ok(value)
}
