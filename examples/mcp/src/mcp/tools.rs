//! A built-in MCP server for trying things out. It has two tools that describe the client's access
//! token and the token that replaces it.

use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use rmcp::handler::server::tool::Extension;
use rmcp::model::{CallToolResult, ContentBlock, Implementation, ServerCapabilities, ServerConfig};
use rmcp::{ErrorData, ServerHandler, tool, tool_handler, tool_router};
use serde_json::{Value, json};
use server_common::causes::causes;
use tower_oauth_refresh::AccessGrant;

use crate::app::App;
use crate::provider::ProviderError;

#[derive(Clone, Debug)]
pub(super) struct Tools {
    app: App,
}

impl Tools {
    pub(super) const fn new(app: App) -> Self {
        Self { app }
    }
}

#[tool_router]
impl Tools {
    #[tool(
        description = "Returns your client ID, and the scopes and resources of its access token.",
        annotations(read_only_hint = true)
    )]
    async fn whoami(
        &self,
        Extension(parts): Extension<Parts>,
    ) -> Result<CallToolResult, ErrorData> {
        let grant = grant(&parts)?;
        Ok(CallToolResult::structured(json!({
            "client_id": grant.client_id(),
            "scopes": grant.scopes().collect::<Vec<_>>(),
            "resources": grant.resources().collect::<Vec<_>>(),
        })))
    }

    #[tool(
        description = "Asks the identity provider who you are, with the access token that an upstream MCP server would \
                       receive.",
        annotations(read_only_hint = true)
    )]
    async fn upstream(
        &self,
        Extension(parts): Extension<Parts>,
    ) -> Result<CallToolResult, ErrorData> {
        let token = parts
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let token = token
            .ok_or_else(|| ErrorData::internal_error("the request has no access token", None))?;
        let Some(answer) = self.app.provider.userinfo(token).await else {
            return Ok(failed(
                "no userinfo endpoint of the identity provider is configured",
            ));
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return Ok(unreachable(&error)),
        };
        if !answer.status.is_success() {
            return Ok(failed(&format!(
                "the identity provider responded with {}",
                answer.status
            )));
        }
        let Ok(Value::Object(user)) = serde_json::from_slice(&answer.body) else {
            return Ok(failed("the identity provider sent an invalid response"));
        };
        Ok(CallToolResult::structured(
            json!({ "user": user, "token": describe(token) }),
        ))
    }
}

#[tool_handler]
impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("tower-oauth-refresh example", env!("CARGO_PKG_VERSION")))
            .with_instructions("`whoami` describes your access token, `upstream` the token that an upstream MCP server receives.")
    }
}

fn grant(parts: &Parts) -> Result<&AccessGrant, ErrorData> {
    parts
        .extensions
        .get()
        .ok_or_else(|| ErrorData::internal_error("the access layer is missing", None))
}

/// Describes a token without disclosing any part of it.
fn describe(token: &str) -> Value {
    json!({ "length": token.len(), "issued_here": token.starts_with("at_") })
}

fn failed(why: &str) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(why)])
}

fn unreachable(error: &ProviderError) -> CallToolResult {
    tracing::warn!(
        error = causes(error),
        "the identity provider cannot be reached"
    );
    failed(&error.to_string())
}
