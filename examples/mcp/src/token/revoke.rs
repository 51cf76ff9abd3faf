//! The revocation endpoint (RFC 7009) behind the refresh layer.

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use tower::BoxError;

use super::answer::{failed, is_code};
use super::kept::{Kept, KeptToken};
use super::outside::Presented;
use super::{MOST_BYTES, client, need, read};
use crate::app::App;
use crate::error::OauthError;
use crate::parameters::Parameters;
use crate::provider::Provider;
use crate::rate_limit::Wasted;

/// Revokes the token at the provider. If the provider cannot be reached, the layer records that the
/// revocation is pending, and ends the grant here nevertheless.
pub(super) async fn revoke(
    State(app): State<App>,
    request: Request,
) -> Result<StatusCode, OauthError> {
    let (head, form) = read(request).await?;
    client::authenticate(&app, &head, &form).await?;
    let token = need(&form, "token")?;
    // A token that the layer has not replaced is not a valid token of this server, so there is
    // nothing to revoke at the provider.
    if head
        .extensions
        .get::<Presented>()
        .is_some_and(|presented| presented.is(token))
    {
        // Counts as failed, because the request may have stored the ID of a client assertion.
        Wasted::mark(&head.extensions);
        return Ok(StatusCode::OK);
    }
    let kept = Kept::decode(token);
    let token = kept.as_ref().map_or(token, |kept| kept.token.as_str());
    let Some(answer) = app
        .provider
        .revoke(token, form.one("token_type_hint")?)
        .await
    else {
        return Ok(StatusCode::OK);
    };
    let answer = answer.map_err(failed)?;
    match answer.status {
        status if status.is_success() => Ok(StatusCode::OK),
        // The provider has no revocation endpoint, so the grant ends here only.
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Ok(StatusCode::OK),
        StatusCode::BAD_REQUEST if answer.error().as_deref() == Some("unsupported_token_type") => {
            Ok(StatusCode::OK)
        }
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => Err(
            OauthError::unavailable("the identity provider is unavailable"),
        ),
        status => {
            let error = answer.error().filter(|error| is_code(error));
            tracing::error!(%status, error, "the identity provider rejected a revocation");
            Err(OauthError::server_error(
                "the identity provider rejected a request of this server",
            ))
        }
    }
}

/// Revokes the token of a session that this server itself has ended, for the layer. Returns the
/// status of the provider.
pub(crate) async fn revoke_ended(
    provider: Provider,
    request: Request,
) -> Result<Response, BoxError> {
    let form = Parameters::parse(&to_bytes(request.into_body(), MOST_BYTES).await?);
    let kept = form.one("token").ok().flatten().and_then(Kept::decode);
    let Some(Kept { token, .. }) = kept else {
        return Ok(StatusCode::BAD_REQUEST.into_response());
    };
    let hint = match token {
        KeptToken::Refresh(_) => "refresh_token",
        KeptToken::Access(_) => "access_token",
    };
    match provider.revoke(token.as_str(), Some(hint)).await {
        Some(answer) => Ok(answer?.status.into_response()),
        None => Ok(StatusCode::NOT_FOUND.into_response()),
    }
}
