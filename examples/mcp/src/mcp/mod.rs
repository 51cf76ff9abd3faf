//! The MCP endpoint behind the access layer, which replaces the client's access token with the
//! provider's.

mod host;
mod hosts;
mod proxied;
mod tools;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{from_fn_with_state, map_request};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use server_common::program::Failure;

pub(crate) use self::hosts::Allowed;
use self::proxied::Proxied;
use self::tools::Tools;
use crate::app::{App, limit_body_time};
use crate::cli::EndpointFlags;
use crate::error::OauthError;

/// The maximum size of a message to the built-in MCP server.
pub(crate) const MOST_BYTES: usize = 4 << 20;

/// The time limit for a message to the built-in MCP server.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// The service at `/mcp`.
pub(crate) struct Endpoint {
    pub(crate) router: Router<App>,
    end: Box<dyn Fn() + Send + Sync>,
}

impl Endpoint {
    /// Ends streams that would otherwise never end.
    pub(crate) fn end(&self) {
        (self.end)();
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").finish_non_exhaustive()
    }
}

/// Returns the MCP server that the flags name, or the built-in one.
pub(crate) fn endpoint(flags: &EndpointFlags, app: &App) -> Result<Endpoint, Failure> {
    match &flags.mcp_upstream {
        Some(upstream) => {
            let proxied = Proxied::new(upstream, &app.issuer, flags)?;
            Ok(Endpoint {
                router: Router::new().route_service("/mcp", proxied),
                end: Box::new(|| {}),
            })
        }
        None => Ok(own(app)),
    }
}

/// Adds the check of `Host` and `Origin` to the built-in endpoint or a proxied one.
pub(crate) fn guarded(router: Router<App>, allowed: Allowed) -> Router<App> {
    router.layer(from_fn_with_state(allowed, hosts::check))
}

/// Returns the built-in MCP server. It has no sessions, so that any instance can serve any request.
fn own(app: &App) -> Endpoint {
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        // `guarded` checks both, more strictly.
        .disable_allowed_hosts()
        .disable_allowed_origins();
    let end = config.cancellation_token.clone();
    let tools = Tools::new(app.clone());
    let service = StreamableHttpService::new(
        move || Ok(tools.clone()),
        Arc::new(NeverSessionManager::default()),
        config,
    );
    let router = Router::new()
        .route_service("/mcp", service)
        .layer(map_request(read));
    Endpoint {
        router,
        end: Box::new(move || end.cancel()),
    }
}

/// Reads the body of a request with a limit, because the MCP server itself has none.
async fn read(request: Request) -> Result<Request, OauthError> {
    let (head, body) = limit_body_time(request, MESSAGE_TIMEOUT).into_parts();
    let body = to_bytes(body, MOST_BYTES).await.map_err(|_| {
        OauthError::invalid_request("the message is too large or incomplete")
            .with_status(StatusCode::PAYLOAD_TOO_LARGE)
    })?;
    Ok(Request::from_parts(head, Body::from(body)))
}
