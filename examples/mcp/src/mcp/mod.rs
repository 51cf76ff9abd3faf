//! The MCP endpoint behind the access layer, which replaces the client's access token with the
//! provider's.

mod host;
mod hosts;
mod identity;
mod proxied;
mod step_up;
mod tools;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::WWW_AUTHENTICATE;
use axum::middleware::{Next, from_fn_with_state, map_request};
use axum::response::{IntoResponse, Response};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use server_common::listener::limit_body_time;
use server_common::program::Failure;
use tower::Service;
use tower::util::MapRequestLayer;

pub(crate) use self::hosts::Allowed;
pub(crate) use self::identity::Identity;
use self::proxied::Proxied;
use self::step_up::StepUp;
use self::tools::Tools;
use crate::app::App;
use crate::cli::EndpointFlags;
use crate::error::OauthError;

/// The maximum size of a message that is read as a whole.
pub(crate) const MOST_BYTES: usize = 4 << 20;

/// The time limit for a message that is read as a whole.
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
    let mut endpoint = match &flags.mcp_upstream {
        Some(upstream) => {
            let identity = app.identity.clone();
            let replace_user = MapRequestLayer::new(move |request| identity.replace_user(request));
            Endpoint {
                router: routes(Proxied::new(upstream, &app.issuer, flags)?).layer(replace_user),
                end: Box::new(|| {}),
            }
        }
        None => own(app),
    };
    if let Some(step_up) = StepUp::new(&flags.tool_scope, metadata(app)) {
        let layer = from_fn_with_state(step_up, step_up::check);
        endpoint.router = endpoint.router.layer(layer);
    }
    Ok(endpoint)
}

/// Returns the routes of the endpoint. Users also enter its URL with a slash at the end.
fn routes<S, R>(service: S) -> Router<App>
where
    S: Service<Request, Response = R, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    R: IntoResponse + 'static,
{
    Router::new()
        .route_service("/mcp", service.clone())
        .route_service("/mcp/", service)
}

fn metadata(app: &App) -> String {
    app.issuer.well_known("oauth-protected-resource", "/mcp")
}

/// Adds what the built-in endpoint and a proxied one have in common: the check of `Host` and
/// `Origin`, and the challenges of the second route.
pub(crate) fn guarded(router: Router<App>, allowed: Allowed, app: &App) -> Router<App> {
    router
        .layer(from_fn_with_state(Arc::from(metadata(app)), name_slash))
        .layer(from_fn_with_state(allowed, hosts::check))
}

/// Names the metadata of the URL with a slash in the challenges of that URL. Some clients compare
/// the resource in it with the URL that they were given, byte for byte.
async fn name_slash(State(metadata): State<Arc<str>>, request: Request, next: Next) -> Response {
    let has_slash = request.uri().path().ends_with('/');
    let mut response = next.run(request).await;
    if has_slash && let Some(challenge) = response.headers_mut().get_mut(WWW_AUTHENTICATE) {
        let text = challenge.to_str().unwrap_or_default();
        let text = text.replace(&format!("\"{metadata}\""), &format!("\"{metadata}/\""));
        if let Ok(named) = text.parse() {
            *challenge = named;
        }
    }
    response
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
    Endpoint {
        router: routes(service).layer(map_request(read)),
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
