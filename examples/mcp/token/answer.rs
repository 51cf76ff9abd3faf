//! Token answers of the provider: read, and made into what the layer gets.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::kept::{Kept, KeptToken};
use crate::authorize;
use crate::causes::causes;
use crate::error::OauthError;
use crate::provider::{ProviderAnswer, ProviderError};

/// How long an access token of this server lives if the provider does not say how long its own
/// does: as the layer has it.
const LIFETIME: u64 = 3600;

const LIFETIMES: [&str; 3] = [
    "expires_in",
    "refresh_expires_in",
    "refresh_token_expires_in",
];

/// The members of a token answer.
pub(super) type Answer = Map<String, Value>;

/// The answer if it is one, or else the error that the client gets: never one that says that the
/// client is at fault where this server is.
pub(super) fn read(answer: Result<ProviderAnswer, ProviderError>) -> Result<Answer, OauthError> {
    let answer = answer.map_err(|error| failed(&error))?;
    let (status, body) = (
        answer.status,
        serde_json::from_slice::<Answer>(&answer.body).unwrap_or_default(),
    );
    // GitHub answers errors with 200.
    let error = body.get("error").and_then(Value::as_str);
    let token = body
        .get("access_token")
        .and_then(Value::as_str)
        .is_some_and(|token| !token.is_empty());
    match error {
        None if status.is_success() && token && is_bearer(&body) => Ok(body),
        None if status.is_success() => {
            tracing::error!(%status, "the identity provider gave a token answer that cannot be read");
            Err(OauthError::server_error(
                "the identity provider gave an answer that cannot be read",
            ))
        }
        _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            tracing::warn!(%status, "the identity provider is unavailable");
            Err(OauthError::unavailable(
                "the identity provider is unavailable",
            ))
        }
        // The second is GitHub's, the others want the person (OpenID Connect Core §3.1.2.6; Entra).
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
            "the identity provider does not grant that",
        )),
        Some("temporarily_unavailable" | "slow_down") => Err(OauthError::unavailable(
            "the identity provider is unavailable",
        )),
        error => {
            // Its client is this server: whatever is wrong is for its operator to set right.
            let error = error.filter(|error| {
                error
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            });
            tracing::error!(%status, error, "the identity provider refuses this server");
            Err(OauthError::server_error(
                "the identity provider refuses this server",
            ))
        }
    }
}

pub(super) fn failed(error: &ProviderError) -> OauthError {
    tracing::warn!(
        error = causes(error),
        "the identity provider gave no answer"
    );
    match error {
        ProviderError::Unreachable(_) => {
            OauthError::unavailable("the identity provider cannot be reached")
        }
        ProviderError::TooLarge => {
            OauthError::server_error("the identity provider gave an answer that cannot be read")
        }
    }
}

/// A token that is bound to a key would be of no use to anybody here.
fn is_bearer(answer: &Answer) -> bool {
    match answer.get("token_type") {
        Some(kind) => kind
            .as_str()
            .is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")),
        None => true,
    }
}

/// What the layer is to keep of the first answer for a grant.
pub(super) fn keep(answer: &Answer, scope: &str) -> Option<Kept> {
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
    })
}

fn text<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer
        .get(name)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
}

/// The scope that an answer states.
pub(super) fn scope(answer: &Answer) -> Option<String> {
    authorize::scope(text(answer, "scope")?)
}

/// The refresh token of an answer.
pub(super) fn refresh_token(answer: &Answer) -> Option<&str> {
    text(answer, "refresh_token")
}

/// Makes of the provider's answer what the layer gets: `age` old, for this scope, with what it is
/// to keep.
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
            // One second is the least that is no token without an end.
            answer.insert(
                name.into(),
                seconds.saturating_sub(age.as_secs()).max(1).into(),
            );
        }
    }
    answer.insert("token_type".into(), "Bearer".into());
    answer.insert("scope".into(), scope.into());
    Ok(answer)
}

/// Some providers write them as text.
fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}
