//! The userinfo endpoint, and what scopes allow.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value, json};

use super::{Inner, Shared};
use crate::support::mcp::{Pairs, one};

impl Inner {
    /// Returns those claims that the scope allows.
    pub(super) fn allowed(
        &self,
        mut claims: Map<String, Value>,
        scope: &str,
    ) -> Map<String, Value> {
        let scoped = self.behaviour.scoped;
        claims.retain(|name, _| {
            let mut needed = scoped.iter().filter(|(_, claim)| claim == name);
            needed.all(|(needed, _)| has_scope(scope, needed))
        });
        claims
    }

    /// Returns the scope of the access token in a request.
    fn scope(&self, headers: &HeaderMap) -> Option<&str> {
        let token = headers.get("authorization")?.to_str().unwrap();
        let token = token.strip_prefix("Bearer ")?;
        self.access.get(token).map(String::as_str)
    }
}

pub(super) async fn userinfo(State(inner): Shared, headers: HeaderMap) -> Response {
    let mut inner = inner.lock().unwrap();
    if let Some(down) = inner.receive("/userinfo", b"", &headers) {
        return down;
    }
    let Some(scope) = inner.scope(&headers) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    // OpenID Connect Core §5.3.
    if inner.behaviour.document.is_some() && !has_scope(scope, "openid") {
        return StatusCode::FORBIDDEN.into_response();
    }
    if let Some(failed) = failed(inner.behaviour.userinfo_status) {
        return failed;
    }
    match &inner.behaviour.userinfo {
        Value::Null => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Value::Object(claims) => {
            let claims = inner.allowed(claims.clone(), scope);
            Value::Object(claims).to_string().into_response()
        }
        other => other.to_string().into_response(),
    }
}

pub(super) async fn emails(State(inner): Shared, headers: HeaderMap) -> Response {
    let mut inner = inner.lock().unwrap();
    if let Some(down) = inner.receive("/userinfo/emails", b"", &headers) {
        return down;
    }
    // GitHub.
    if !inner
        .scope(&headers)
        .is_some_and(|scope| has_scope(scope, "user:email"))
    {
        return StatusCode::NOT_FOUND.into_response();
    }
    if let Some(failed) = failed(inner.behaviour.emails_status) {
        return failed;
    }
    let emails = json!([
        { "email": "other@example.org", "verified": true, "primary": false },
        { "email": "ada@example.com", "verified": true, "primary": true },
    ]);
    emails.to_string().into_response()
}

fn failed((status, header): (u16, Option<&'static str>)) -> Option<Response> {
    let mut response = StatusCode::from_u16(status).unwrap().into_response();
    if let Some(name) = header {
        response.headers_mut().insert(name, "0".parse().unwrap());
    }
    (status != 200).then_some(response)
}

pub(super) fn has_scope(scope: &str, wanted: &str) -> bool {
    scope.split(' ').any(|scope| scope == wanted)
}

/// Returns whether a refresh asks for no more scope than the authorization request.
pub(super) fn is_within(refresh: &Pairs, request: &Pairs) -> bool {
    let granted = one(request, "scope").unwrap_or_default();
    let asked = one(refresh, "scope").unwrap_or(granted);
    asked.split(' ').all(|scope| has_scope(granted, scope))
}
