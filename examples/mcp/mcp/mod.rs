//! The MCP endpoint, as the access layer calls it: with the provider's access token in place of the client's.

mod hosts;
mod proxied;
mod tools;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};

use self::proxied::Proxied;
use self::tools::Tools;
use crate::Failure;
use crate::app::App;
use crate::cli::EndpointFlags;

/// What serves `/mcp`.
pub(crate) struct Endpoint {
    pub(crate) router: Router<App>,
    end: Box<dyn Fn() + Send + Sync>,
}

impl Endpoint {
    /// Ends the streams that would go on for ever.
    pub(crate) fn end(&self) {
        (self.end)();
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").finish_non_exhaustive()
    }
}

/// Somebody's MCP server if the flags name one, or else one of our own.
pub(crate) fn endpoint(flags: &EndpointFlags, app: &App, listen: SocketAddr) -> Result<Endpoint, Failure> {
    match &flags.mcp_upstream {
        Some(upstream) => {
            let proxied = Proxied::new(upstream, &app.issuer, flags)?;
            Ok(Endpoint { router: Router::new().route_service("/mcp", proxied), end: Box::new(|| {}) })
        }
        None => Ok(own(flags, app, listen)),
    }
}

/// Without sessions, so that any instance can serve any request.
fn own(flags: &EndpointFlags, app: &App, listen: SocketAddr) -> Endpoint {
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_allowed_hosts(hosts::allowed_hosts(&app.issuer, listen))
        .with_allowed_origins(hosts::allowed_origins(&app.issuer, &flags.allowed_origin));
    let end = config.cancellation_token.clone();
    let tools = Tools::new(app.clone());
    let service =
        StreamableHttpService::new(move || Ok(tools.clone()), Arc::new(NeverSessionManager::default()), config);
    Endpoint { router: Router::new().route_service("/mcp", service), end: Box::new(move || end.cancel()) }
}
