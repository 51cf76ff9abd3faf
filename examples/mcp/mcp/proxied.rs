//! Somebody's MCP server, guarded: requests reach it with the provider's access token or with none, and bodies stream
//! both ways.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::header::COOKIE;
use axum::http::uri::PathAndQuery;
use axum::response::{IntoResponse, Response};
use tower::{Service, ServiceExt as _};

use crate::Failure;
use crate::causes::causes;
use crate::cli::{EndpointFlags, McpUpstream};
use crate::common::forwarded::Edge;
use crate::error::OauthError;
use crate::forward::{Forward, ForwardError, Settings};
use crate::issuer::Issuer;

/// The service at `/mcp`.
#[derive(Clone)]
pub(super) struct Proxied {
    forward: Forward<Body>,
    /// The path of the endpoint there.
    path: String,
}

impl Proxied {
    pub(super) fn new(upstream: &McpUpstream, issuer: &Issuer, flags: &EndpointFlags) -> Result<Self, Failure> {
        // The path of the endpoint is replaced as a whole, so that no prefix of it was removed.
        let mut public = issuer.as_url().clone();
        public.set_path("");
        let forward = Forward::new(Settings {
            upstream: upstream.origin.clone(),
            preserve_host: false,
            edge: Edge::new(Some(&public), &flags.trust_forwarded),
            timeout: flags.mcp_upstream_timeout,
            unlimited: Vec::new(),
            refuse_front_channel: false,
        })?;
        Ok(Self { forward, path: upstream.path.clone() })
    }

    async fn send(self, mut request: Request) -> Result<Response, ForwardError> {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| *peer);
        let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
        let path = format!("{}{query}", self.path).parse::<PathAndQuery>().unwrap_or(PathAndQuery::from_static("/"));
        *request.uri_mut() = path.into();
        // Those of this server are none of its business.
        request.headers_mut().remove(COOKIE);
        let forward = peer.map_or_else(|| self.forward.clone(), |peer| self.forward.for_client(peer));
        Ok(forward.oneshot(request).await?.into_response())
    }
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
        Box::pin(async move { Ok(this.send(request).await.unwrap_or_else(|error| failed(&error))) })
    }
}

fn failed(error: &ForwardError) -> Response {
    let status = error.status();
    tracing::warn!(error = causes(error), "a request to the MCP server failed");
    OauthError::new(error.code(), error.to_string()).with_status(status).into_response()
}
