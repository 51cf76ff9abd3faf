//! The token and revocation endpoints.
//!
//! What happens to a request, from the outside to the inside: [`outside`] settles which resource it
//! is about and what becomes of its code, the refresh layer turns this server's tokens into the
//! provider's and back, and the handlers here authenticate the client and talk to the provider.

mod answer;
mod client;
mod code;
mod consumed;
mod kept;
mod outside;
mod refresh;
mod revoke;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};

use crate::app::App;
use crate::error::OauthError;
use crate::parameters::{Parameters, Repeated};

/// Of the body of a request, at most: as much as the layer reads.
const MOST_BYTES: usize = 64 << 10;

pub(crate) fn routes(app: &App) -> Router<App> {
    let token = Router::new()
        .route("/token", post(token))
        .layer(app.refresh.clone())
        .layer(from_fn_with_state(app.clone(), outside::token));
    let revoke = Router::new()
        .route("/revoke", post(revoke::revoke))
        .layer(app.refresh.clone())
        .layer(from_fn_with_state(app.clone(), outside::revoke));
    token.merge(revoke)
}

async fn token(State(app): State<App>, request: Request) -> Result<Response, OauthError> {
    let (head, form) = read(request).await?;
    let client = client::authenticate(&app, &head.headers, &form).await?;
    let answer = match form.one("grant_type")? {
        Some("authorization_code") => {
            let slot = head.extensions.get().cloned().unwrap_or_default();
            code::exchange(&app, &client, &form, &slot).await?
        }
        Some("refresh_token") => refresh::refresh(&app, &form).await?,
        Some(_) => {
            return Err(OauthError::new(
                "unsupported_grant_type",
                "use authorization_code or refresh_token",
            ));
        }
        None => {
            return Err(OauthError::invalid_request(
                "the parameter grant_type is missing",
            ));
        }
    };
    Ok(([(CACHE_CONTROL, "no-store")], Json(answer)).into_response())
}

/// The head and the form of a request. The layer has seen to it that it is one.
async fn read(request: Request) -> Result<(Parts, Parameters), OauthError> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, MOST_BYTES).await.map_err(|_| too_large())?;
    let form = Parameters::parse(&body);
    if form.repeat(&["resource", "audience"]) {
        return Err(Repeated.into());
    }
    Ok((head, form))
}

fn too_large() -> OauthError {
    OauthError::invalid_request("the request body is too large or was broken off")
        .with_status(StatusCode::PAYLOAD_TOO_LARGE)
}

impl From<Repeated> for OauthError {
    fn from(_: Repeated) -> Self {
        Self::invalid_request("a parameter is repeated")
    }
}

/// The value of a parameter that must be there.
fn need<'a>(form: &'a Parameters, name: &str) -> Result<&'a str, OauthError> {
    form.one(name)?
        .ok_or_else(|| OauthError::invalid_request(format!("the parameter {name} is missing")))
}

/// Whether a request is a form. Whatever else it is, it is refused further inside.
fn is_form(request: &Request) -> bool {
    let content_type = request
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    request.method() == Method::POST
        && essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}
