//! Parses the provider's token responses, and converts them for the refresh layer.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Map, Value};
use server_common::causes::causes;

use super::kept::{Kept, KeptToken};
use crate::authorize;
use crate::error::OauthError;
use crate::provider::{ProviderAnswer, ProviderError};
use crate::scopes::OFFLINE_ACCESS;
use crate::users::User;

/// The lifetime of an access token, in seconds, if the provider does not state one. The layer has
/// the same default.
const LIFETIME: u64 = 3600;

const LIFETIMES: [&str; 5] = [
    "expires_in",
    "refresh_expires_in",
    "refresh_token_expires_in",
    "refresh_token_timeout",
    "authorization_expires_in",
];

/// The members of a token response.
pub(super) type Answer = Map<String, Value>;

/// Returns the token response, or the error for the client. If the fault is this server's, the
/// error does not blame the client.
pub(super) fn read(answer: Result<ProviderAnswer, ProviderError>) -> Result<Answer, OauthError> {
    let answer = answer.map_err(failed)?;
    let (status, body) = (
        answer.status,
        serde_json::from_slice::<Answer>(&answer.body).unwrap_or_default(),
    );
    // GitHub sends errors with status 200.
    let error = body.get("error").and_then(Value::as_str);
    let token = body
        .get("access_token")
        .and_then(Value::as_str)
        .is_some_and(|token| !token.is_empty());
    match error {
        None if status.is_success() && token && is_bearer(&body) => Ok(body),
        None if status.is_success() => {
            tracing::error!(%status, "the identity provider sent an invalid token response");
            Err(OauthError::server_error(
                "the identity provider sent an invalid response",
            ))
        }
        _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            tracing::warn!(%status, "the identity provider is unavailable");
            Err(OauthError::unavailable(
                "the identity provider is unavailable",
            ))
        }
        // `bad_refresh_token` is GitHub's. The `…_required` codes mean that the user must log in
        // again (OpenID Connect Core §3.1.2.6; Entra ID).
        Some(
            "invalid_grant"
            | "bad_refresh_token"
            | "interaction_required"
            | "login_required"
            | "consent_required",
        ) => Err(OauthError::invalid_grant(
            "the identity provider has ended the session: log in again",
        )),
        Some("invalid_scope") => Err(OauthError::new(
            "invalid_scope",
            "the identity provider does not grant the requested scope",
        )),
        Some("temporarily_unavailable" | "slow_down") => Err(OauthError::unavailable(
            "the identity provider is unavailable",
        )),
        error => {
            // The provider's client is this server, so only the operator can correct the error.
            let error = error.filter(|error| is_code(error));
            tracing::error!(
                %status,
                error,
                "the identity provider rejected a request of this server"
            );
            Err(OauthError::server_error(
                "the identity provider rejected a request of this server",
            ))
        }
    }
}

/// Returns whether an error of the provider is a code, which may be logged, and no text.
pub(super) fn is_code(error: &str) -> bool {
    let is_in_code = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    error.len() <= 64 && error.bytes().all(is_in_code)
}

/// Logs why there is no response, and returns the error for the client.
pub(super) fn failed(error: ProviderError) -> OauthError {
    tracing::warn!(
        error = causes(&error),
        "a request to the identity provider failed"
    );
    error.into()
}

/// Returns whether the token is a bearer token. A token that is bound to a key is useless to
/// clients and to the MCP server.
fn is_bearer(answer: &Answer) -> bool {
    match answer.get("token_type") {
        Some(kind) => kind
            .as_str()
            .is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")),
        None => true,
    }
}

/// Returns the value that the layer keeps as the upstream refresh token of a new grant; `None` if
/// the grant cannot be refreshed.
pub(super) fn keep(answer: &Answer, scope: &str, user: Option<&User>) -> Option<Kept> {
    let token = match (text(answer, "refresh_token"), text(answer, "access_token")) {
        (Some(token), _) => KeptToken::Refresh(token.to_owned()),
        (None, Some(token)) if answer.get("expires_in").is_none_or(Value::is_null) => {
            KeptToken::Access(token.to_owned())
        }
        (None, _) => return None,
    };
    Some(Kept {
        scope: scope.to_owned(),
        token,
        user: user.cloned(),
    })
}

fn text<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer
        .get(name)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
}

/// Returns the scope in a response.
pub(super) fn scope(answer: &Answer) -> Option<String> {
    authorize::scope(text(answer, "scope")?)
}

/// Returns the refresh token in a response.
pub(super) fn refresh_token(answer: &Answer) -> Option<&str> {
    text(answer, "refresh_token")
}

/// Converts a response of the provider for the layer. Reduces its lifetimes by `age`, sets its
/// scope without `offline_access`, and replaces its refresh token with `kept`.
pub(super) fn finish(
    mut answer: Answer,
    age: Duration,
    scope: &str,
    kept: Option<&Kept>,
) -> Result<Answer, OauthError> {
    if let Some(kept) = kept {
        answer.insert("refresh_token".into(), kept.encode()?.into());
    }
    if answer.get("expires_in").is_none_or(Value::is_null) {
        answer.insert("expires_in".into(), LIFETIME.into());
    }
    for name in LIFETIMES {
        if let Some(seconds) = answer
            .get(name)
            .and_then(seconds)
            .filter(|seconds| *seconds > 0)
        {
            // At least one second, because zero would mean that the token never expires.
            answer.insert(
                name.into(),
                seconds.saturating_sub(age.as_secs()).max(1).into(),
            );
        }
    }
    answer.insert("token_type".into(), "Bearer".into());
    // It does not concern access tokens, and a challenge names the scope of the token.
    let scopes = scope.split(' ').filter(|scope| *scope != OFFLINE_ACCESS);
    answer.insert("scope".into(), scopes.collect::<Vec<_>>().join(" ").into());
    Ok(answer)
}

/// Parses a lifetime. Some providers send it as a string.
fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}
