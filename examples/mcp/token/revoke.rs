//! The revocation endpoint (RFC 7009), as the layer calls it.

use axum::extract::{Request, State};
use axum::http::StatusCode;

use super::answer::failed;
use super::kept::Kept;
use super::outside::Presented;
use super::{client, need, read};
use crate::app::App;
use crate::error::OauthError;

/// Ends at the provider what the layer ends here. If the provider cannot be reached the layer notes
/// that the client may try again, and ends its part all the same.
pub(super) async fn revoke(
    State(app): State<App>,
    request: Request,
) -> Result<StatusCode, OauthError> {
    let (head, form) = read(request).await?;
    client::authenticate(&app, &head.headers, &form).await?;
    let token = need(&form, "token")?;
    // What the layer has not replaced is no token of this server, and nothing to tell the provider.
    if head
        .extensions
        .get::<Presented>()
        .is_some_and(|presented| presented.is(token))
    {
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
    let answer = answer.map_err(|error| failed(&error))?;
    match answer.status {
        status if status.is_success() => Ok(StatusCode::OK),
        // There is no such endpoint: ending the grant here is all there is to do.
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Ok(StatusCode::OK),
        StatusCode::BAD_REQUEST if answer.error().as_deref() == Some("unsupported_token_type") => {
            Ok(StatusCode::OK)
        }
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => Err(
            OauthError::unavailable("the identity provider is unavailable"),
        ),
        status => {
            tracing::error!(%status, error = answer.error(), "the identity provider does not revoke");
            Err(OauthError::server_error(
                "the identity provider refuses this server",
            ))
        }
    }
}
