//! A proxy to another MCP server. Requests carry the provider's access token or none, and bodies
//! stream in both directions.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::StatusCode;
use axum::http::header::{COOKIE, HeaderValue, SET_COOKIE, WWW_AUTHENTICATE};
use axum::http::uri::PathAndQuery;
use axum::response::{IntoResponse, Response};
use server_common::causes::causes;
use server_common::forward::{Forward, ForwardError, Settings};
use server_common::forwarded::Edge;
use server_common::listener::Throttle;
use server_common::metrics::Metrics;
use server_common::program::Failure;
use tower::{Service, ServiceExt as _};

use crate::authorize::COOKIE_NAME;
use crate::cli::{EndpointFlags, McpUpstream};
use crate::error::OauthError;
use crate::issuer::Issuer;

/// The service at `/mcp`.
#[derive(Clone)]
pub(super) struct Proxied {
    forward: Forward<Body>,
    /// The path of the MCP endpoint on the upstream server.
    path: String,
    /// The challenge for a client whose token the upstream server rejects.
    challenge: HeaderValue,
    failures: Arc<Throttle>,
}

impl Proxied {
    /// Returns an error if the HTTP client cannot be built, or if the public URL is not allowed in
    /// a header.
    pub(super) fn new(
        upstream: &McpUpstream,
        issuer: &Issuer,
        flags: &EndpointFlags,
    ) -> Result<Self, Failure> {
        // The path of the endpoint is replaced as a whole, so no prefix of the public URL is
        // removed.
        let mut public = issuer.as_url().clone();
        public.set_path("");
        let forward = Forward::new(Settings {
            upstream: upstream.origin.clone(),
            preserve_host: false,
            edge: Edge::new(Some(&public), &flags.trust_forwarded),
            timeout: flags.upstream_timeout(),
            unlimited: Vec::new(),
            refuse_front_channel: false,
            // Not exported: the metrics of the upstream are those of the identity provider.
            metrics: Metrics::default(),
        });
        let forward =
            forward.map_err(|error| format!("--mcp-upstream {}: {error}", upstream.origin))?;
        let metadata = issuer.well_known("oauth-protected-resource", "/mcp");
        let challenge =
            format!(r#"Bearer realm="mcp", error="invalid_token", resource_metadata="{metadata}""#);
        let challenge = challenge
            .parse()
            .map_err(|_| format!("--public-url: not allowed in a header: {metadata}"))?;
        Ok(Self {
            forward,
            path: upstream.path.clone(),
            challenge,
            failures: Arc::default(),
        })
    }

    /// Forwards a request to the upstream server, with its own path and without cookies.
    async fn send(self, mut request: Request) -> Result<Response, ForwardError> {
        let peer = request
            .extensions()
            .get::<ConnectInfo<SocketAddr>>()
            .map(|ConnectInfo(peer)| *peer);
        let query = request
            .uri()
            .query()
            .map(|query| format!("?{query}"))
            .unwrap_or_default();
        let path = format!("{}{query}", self.path)
            .parse::<PathAndQuery>()
            .unwrap_or(PathAndQuery::from_static("/"));
        *request.uri_mut() = path.into();
        // The upstream server must not receive the cookies of this server.
        request.headers_mut().remove(COOKIE);
        let forward = peer.map_or_else(
            || self.forward.clone(),
            |peer| self.forward.for_client(peer),
        );
        let mut response = forward.oneshot(request).await?.into_response();
        self.clean_headers(&mut response);
        Ok(response)
    }

    /// Removes response headers that the upstream server must not set for this server's host.
    ///
    /// Its challenges name its own realm, scopes and metadata, from which a client would derive the
    /// wrong authorization server (RFC 9728 §5.1). A cookie with the name of this server's cookie
    /// would replace that cookie in the browser.
    fn clean_headers(&self, response: &mut Response) {
        let refused = response.status() == StatusCode::UNAUTHORIZED;
        let headers = response.headers_mut();
        headers.remove(WWW_AUTHENTICATE);
        if refused {
            headers.insert(WWW_AUTHENTICATE, self.challenge.clone());
        }
        headers.remove("clear-site-data");
        let cookies: Vec<_> = headers
            .get_all(SET_COOKIE)
            .iter()
            .filter(|cookie| !is_ours(cookie))
            .cloned()
            .collect();
        headers.remove(SET_COOKIE);
        for cookie in cookies {
            headers.append(SET_COOKIE, cookie);
        }
    }
}

/// Returns whether this server could mistake the cookie for its own when the browser sends it back.
/// A browser sends a cookie without a name as its value only, which may contain a name.
fn is_ours(cookie: &HeaderValue) -> bool {
    let pair = cookie
        .as_bytes()
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default();
    let name = match pair.iter().position(|byte| *byte == b'=') {
        Some(end) if !pair[..end].trim_ascii().is_empty() => &pair[..end],
        _ => return true,
    };
    let ours = COOKIE_NAME.as_bytes();
    name.windows(ours.len())
        .any(|part| part.eq_ignore_ascii_case(ours))
}

impl Service<Request> for Proxied {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let failures = Arc::clone(&this.failures);
            let response = this.send(request).await;
            Ok(response.unwrap_or_else(|error| error_response(&error, &failures)))
        })
    }
}

/// Logs why a request was not forwarded. Returns the error response for the client.
fn error_response(error: &ForwardError, failures: &Throttle) -> Response {
    let status = error.status();
    if !status.is_server_error() {
        tracing::debug!(error = causes(error), "a request was refused");
    } else if let Some(suppressed) = failures.line() {
        tracing::warn!(
            error = causes(error),
            suppressed,
            "a request to the MCP server failed"
        );
    }
    OauthError::new(error.code(), error.to_string())
        .with_status(status)
        .into_response()
}
