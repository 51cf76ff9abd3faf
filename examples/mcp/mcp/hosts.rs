//! Checks the host name by which a request reaches the MCP endpoint, and the page that it comes
//! from.
//!
//! A page whose own name points at this machine (DNS rebinding) sends its name as `Host`, and any
//! page sends its `Origin`. Both are parsed and compared with a list: a prefix or a suffix of an
//! allowed value is not allowed.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

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
}

impl Allowed {
    /// Allows the hosts of the public URL, the loopback names with the port of this server, and the
    /// listening address, which a reverse proxy in front may use; and the origins of the public
    /// URL, of this computer, and of `more`.
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
        }))
    }

    fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), OauthError> {
        let host = one(headers, &HOST)?;
        // The name in the target of a request (HTTP/2, or the absolute form of HTTP/1) is checked
        // as well as the one in the header: the endpoint may use either.
        let named = [host, uri.authority().map(Authority::as_str)];
        if named.iter().all(Option::is_none) {
            return Err(OauthError::invalid_request("the request has no Host"));
        }
        if named
            .into_iter()
            .flatten()
            .any(|host| !self.allows_host(host))
        {
            return Err(forbidden("this server is not reached by that Host"));
        }
        // Programs send no `Origin`; pages in a browser do.
        match one(headers, &ORIGIN)? {
            Some(origin) if !self.0.origins.iter().any(|allowed| allowed.matches(origin)) => {
                Err(forbidden("pages of that Origin may not call this server"))
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

/// Refuses requests to another host name or from another page.
pub(crate) async fn check(
    State(allowed): State<Allowed>,
    request: Request,
    next: Next,
) -> Response {
    match allowed.check(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => {
            tracing::info!(
                error = error.description,
                "a request to the MCP endpoint was refused"
            );
            error.into_response()
        }
    }
}

fn forbidden(description: &str) -> OauthError {
    OauthError::invalid_request(description).with_status(StatusCode::FORBIDDEN)
}

/// Returns the value of a header that may come at most once. A value that is not text is refused
/// like one that is not allowed.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, OauthError> {
    let mut values = headers.get_all(name).iter();
    let value = values
        .next()
        .map(|value| value.to_str().unwrap_or_default());
    if values.next().is_some() {
        return Err(OauthError::invalid_request(format!(
            "the request has more than one {name}"
        )));
    }
    Ok(value)
}
