//! The refresh grant (`grant_type=refresh_token`). The layer forwards the request with the value of
//! [`Kept`] as the refresh token.

use std::time::Duration;

use axum::Json;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use server_common::causes::causes;
use tower::BoxError;

use super::answer::{self, Answer};
use super::kept::{Kept, KeptToken};
use super::{MOST_BYTES, need};
use crate::error::OauthError;
use crate::parameters::Parameters;
use crate::provider::{Occasion, Provider};
use crate::users::User;

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
    let mut answer = match &kept.token {
        KeptToken::Refresh(token) => {
            // A narrower scope must not hide from this server who the user is.
            let wanted = wanted.map(|wanted| provider.config().refreshed_scope(wanted));
            let wanted = wanted.filter(|scope| !scope.is_empty());
            answer::read(provider.refresh(token, wanted.as_deref()).await)?
        }
        KeptToken::Access(token) => again(provider, token).await?,
    };
    let user = user(provider, &mut answer, kept.user).await?;
    if let Some(user) = &user
        && !provider.config().rules.admit(user)
    {
        tracing::info!("a session ended: no --allow-… rule names its user any more");
        if let KeptToken::Refresh(token) = kept.token {
            // A provider that does not rotate has sent no newer one.
            answer.entry("refresh_token").or_insert(token.into());
        }
        provider.discard(&answer);
        return Err(OauthError::invalid_grant(
            "your account may no longer use this server",
        ));
    }
    let asked = wanted.unwrap_or(&kept.scope);
    let granted = answer::scope(&answer);
    let granted = granted.map(|granted| provider.config().granted_scope(&granted, asked));
    let scope = granted.unwrap_or_else(|| asked.to_owned());
    // Without a new refresh token, the provider's old one remains valid.
    let renewed = answer::refresh_token(&answer).map(|token| KeptToken::Refresh(token.to_owned()));
    let kept = Kept {
        scope: kept.scope,
        token: renewed.unwrap_or(kept.token),
        user,
    };
    answer::finish(answer, Duration::ZERO, &scope, Some(&kept))
}

/// Returns the user of the session, as the provider now describes the user.
///
/// # Errors
///
/// If the provider does not identify the user. It has already replaced its tokens, so the session
/// ends.
async fn user(
    provider: &Provider,
    answer: &mut Answer,
    known: Option<User>,
) -> Result<Option<User>, OauthError> {
    let occasion = Occasion::Refresh {
        known: known.as_ref(),
    };
    match provider.identify(answer, occasion).await {
        Ok(user) => Ok(user),
        Err(error)
            if error.is_temporary() && (known.is_some() || provider.config().rules.are_empty()) =>
        {
            // It could not be verified.
            answer.remove("id_token");
            tracing::warn!(
                error = causes(&error),
                "the provider did not identify the user at a refresh: the rules apply to the user as known before"
            );
            Ok(known)
        }
        Err(error) => {
            tracing::error!(
                error = causes(&error),
                "a session ended: the provider did not identify its user"
            );
            Err(OauthError::invalid_grant(
                "the identity provider did not say who you are: log in again",
            ))
        }
    }
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
