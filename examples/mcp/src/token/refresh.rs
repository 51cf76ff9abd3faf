//! The refresh grant (`grant_type=refresh_token`). The layer forwards the request with the value of
//! [`Kept`] as the refresh token.

use std::time::Duration;

use axum::Json;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use tower::BoxError;

use super::answer::{self, Answer};
use super::kept::{Kept, KeptToken};
use super::{MOST_BYTES, need};
use crate::error::OauthError;
use crate::parameters::Parameters;
use crate::provider::Provider;

/// Refreshes at the provider without a request of a client, for the layer.
pub(crate) async fn renew(provider: Provider, request: Request) -> Result<Response, BoxError> {
    let form = Parameters::parse(&to_bytes(request.into_body(), MOST_BYTES).await?);
    let answer = refresh(&provider, &form).await;
    Ok(answer.map(Json).into_response())
}

pub(super) async fn refresh(provider: &Provider, form: &Parameters) -> Result<Answer, OauthError> {
    let kept = Kept::decode(need(form, "refresh_token")?);
    let kept = kept.ok_or_else(|| {
        OauthError::invalid_grant("the refresh token was not issued by this server")
    })?;
    let wanted = form.one("scope")?;
    if wanted.is_some_and(|wanted| !kept.covers(wanted)) {
        return Err(OauthError::new(
            "invalid_scope",
            "the requested scope exceeds the granted scope",
        ));
    }
    let answer = match &kept.token {
        KeptToken::Refresh(token) => answer::read(provider.refresh(token, wanted).await)?,
        KeptToken::Access(token) => again(provider, token).await?,
    };
    let scope = answer::scope(&answer).unwrap_or_else(|| wanted.unwrap_or(&kept.scope).to_owned());
    // Without a new refresh token, the provider's old one remains valid.
    let renewed = answer::refresh_token(&answer).map(|token| KeptToken::Refresh(token.to_owned()));
    let kept = Kept {
        scope: kept.scope,
        token: renewed.unwrap_or(kept.token),
    };
    answer::finish(answer, Duration::ZERO, &scope, Some(&kept))
}

/// Returns the access token without expiry again. If a userinfo endpoint is configured, first
/// checks there that the provider still accepts the token.
async fn again(provider: &Provider, token: &str) -> Result<Answer, OauthError> {
    if let Some(asked) = provider.userinfo(token).await {
        let status = asked.map_err(answer::failed)?.status;
        if status == StatusCode::UNAUTHORIZED {
            return Err(OauthError::invalid_grant(
                "the identity provider has ended the session: log in again",
            ));
        }
        if !status.is_success() {
            return Err(OauthError::unavailable(
                "the identity provider is unavailable",
            ));
        }
    }
    Ok(Answer::from_iter([(
        "access_token".to_owned(),
        json!(token),
    )]))
}
