//! Scopes that single tools require (`--tool-scope`), checked behind the access layer.
//!
//! The message must be read before it is forwarded, because its end may name another tool than its
//! beginning or its headers. What a server could read differently than this module is refused.

mod headers;
mod message;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, WWW_AUTHENTICATE};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use server_common::listener::limit_body_time;
use tower_oauth_refresh::AccessGrant;

use self::message::Message;
use super::{MESSAGE_TIMEOUT, MOST_BYTES};
use crate::cli::ToolScope;
use crate::error::OauthError;
use crate::scopes::OFFLINE_ACCESS;

/// The scopes that tools require.
#[derive(Clone, Debug)]
pub(super) struct StepUp(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tools: BTreeMap<String, Vec<String>>,
    /// The URL of the resource metadata for challenges.
    metadata: String,
}

/// The reason why a message is refused without a look at the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Refused {
    #[error("the message is too large or incomplete")]
    TooLarge,
    #[error("the message must be JSON in UTF-8 without a Content-Encoding")]
    Encoding,
    #[error("the message is not a JSON-RPC message, or can be read in more than one way")]
    Message,
    #[error("the headers Mcp-Method and Mcp-Name do not match the message")]
    Headers,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        // The codes are those of JSON-RPC 2.0 §5.1 and of MCP 2026-07-28 (HeaderMismatch).
        let (status, code) = match self {
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, -32600),
            Self::Encoding => (StatusCode::UNSUPPORTED_MEDIA_TYPE, -32600),
            Self::Message => (StatusCode::BAD_REQUEST, -32600),
            Self::Headers => (StatusCode::BAD_REQUEST, -32020),
        };
        let error = json!({ "code": code, "message": self.to_string() });
        let body = json!({ "jsonrpc": "2.0", "id": null, "error": error });
        (status, Json(body)).into_response()
    }
}

/// Rejects a message that calls a tool whose scopes the token does not have.
pub(super) async fn check(State(step_up): State<StepUp>, request: Request, next: Next) -> Response {
    let (head, body) = limit_body_time(request, MESSAGE_TIMEOUT).into_parts();
    let Ok(body) = to_bytes(body, MOST_BYTES).await else {
        return Refused::TooLarge.into_response();
    };
    let messages = if body.is_empty() {
        Ok(Vec::new())
    } else {
        headers::check_encoding(&head.headers).and_then(|()| Message::parse(&body))
    };
    let messages = messages.and_then(|messages| {
        headers::check_names(&head.headers, &messages)?;
        Ok(messages)
    });
    let messages = match messages {
        Ok(messages) => messages,
        Err(refused) => return refused.into_response(),
    };
    let grant = head.extensions.get::<AccessGrant>();
    if let Some(refusal) = step_up.refuse(&messages, grant) {
        return refusal;
    }
    next.run(Request::from_parts(head, Body::from(body))).await
}

impl StepUp {
    /// Returns `None` if no tool requires a scope.
    pub(super) fn new(scopes: &[ToolScope], metadata: String) -> Option<Self> {
        let mut tools = BTreeMap::<_, Vec<_>>::new();
        for ToolScope { tool, scope } in scopes {
            tools.entry(tool.clone()).or_default().push(scope.clone());
        }
        (!tools.is_empty()).then(|| Self(Arc::new(Inner { tools, metadata })))
    }

    /// Returns the response if the token does not have the scopes of all called tools.
    fn refuse(&self, messages: &[Message], grant: Option<&AccessGrant>) -> Option<Response> {
        let called = messages.iter().filter_map(Message::tool);
        let needed = called.filter_map(|tool| self.0.tools.get(tool)).flatten();
        let held = grant.into_iter().flat_map(AccessGrant::scopes);
        let held: Vec<_> = held.filter(|scope| *scope != OFFLINE_ACCESS).collect();
        let mut all = held.clone();
        for scope in needed {
            if !all.contains(&scope.as_str()) {
                all.push(scope);
            }
        }
        (all.len() > held.len()).then(|| self.insufficient(&all.join(" ")))
    }

    /// Returns the challenge with the scopes that the client must request. It includes the scopes
    /// of the token, because the new token replaces it.
    fn insufficient(&self, scope: &str) -> Response {
        const WHY: &str = "the access token does not have the scope that the tool requires";
        let error = OauthError::new("insufficient_scope", WHY).with_status(StatusCode::FORBIDDEN);
        let mut response = error.into_response();
        let metadata = &self.0.metadata;
        let challenge = format!(
            r#"Bearer realm="mcp", error="insufficient_scope", error_description="{WHY}", scope="{scope}", resource_metadata="{metadata}""#
        );
        if let Ok(challenge) = HeaderValue::from_str(&challenge) {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
