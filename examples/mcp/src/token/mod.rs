//! The token and revocation endpoints.
//!
//! A request passes three stages. The middleware in [`outside`] sets the resource and handles the
//! response for a code. The refresh layer replaces this server's tokens with the provider's, and
//! the provider's with its own. The handlers in this module authenticate the client and call the
//! provider.

mod answer;
mod assertion;
mod client;
mod code;
mod consumed;
mod id_jag;
mod kept;
mod outside;
mod refresh;
mod revoke;
mod single_use;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};

use crate::app::App;
use crate::clients::Client;
use crate::content_type;
use crate::error::OauthError;
use crate::parameters::{Parameters, Repeated};
use crate::rate_limit::{self, Wasted};

/// The maximum size of a request body. It equals the limit of the layer.
const MOST_BYTES: usize = 64 << 10;

pub(crate) use self::id_jag::{GRANT_TYPE as ID_JAG_GRANT_TYPE, PROFILE, TrustedIssuers};
pub(crate) use self::refresh::renew;
pub(crate) use self::revoke::revoke_ended;

pub(crate) fn routes(app: &App) -> Router<App> {
    let token = Router::new()
        .route("/token", post(token))
        .layer(app.refresh.clone())
        .layer(from_fn_with_state(app.clone(), outside::token));
    let revoke = Router::new()
        .route("/revoke", post(revoke::revoke))
        .layer(app.refresh.clone())
        .layer(from_fn_with_state(app.clone(), outside::revoke));
    token
        .merge(revoke)
        .layer(from_fn_with_state(app.clone(), rate_limit::token_failures))
}

async fn token(State(app): State<App>, request: Request) -> Result<Response, OauthError> {
    let (head, form) = read(request).await?;
    let client = client::authenticate(&app, &head, &form).await?;
    let answer = answer(&app, &head, &form, &client).await;
    answer.inspect_err(|_| {
        // The assertion of the client was stored, also if the provider is unavailable.
        if matches!(form.one("client_assertion"), Ok(Some(_))) {
            Wasted::mark(&head.extensions);
        }
    })
}

/// Answers a request of an authenticated client.
async fn answer(
    app: &App,
    head: &Parts,
    form: &Parameters,
    client: &Client,
) -> Result<Response, OauthError> {
    let mut label = None;
    let answer = match form.one("grant_type")? {
        Some("authorization_code") => {
            app.provider.settings()?;
            let slot = head.extensions.get().cloned().unwrap_or_default();
            let (answer, named) = code::exchange(app, client, form, &slot).await?;
            label = Some(named);
            answer
        }
        Some("refresh_token") => refresh::refresh(&app.provider, form).await?,
        Some(id_jag::GRANT_TYPE) if !app.trusted_issuers.is_empty() => {
            id_jag::exchange(app, client, form).await?
        }
        Some(_) => {
            return Err(OauthError::new(
                "unsupported_grant_type",
                "the supported grant types are authorization_code and refresh_token",
            ));
        }
        None => {
            return Err(OauthError::invalid_request(
                "the parameter grant_type is missing",
            ));
        }
    };
    let mut response = ([(CACHE_CONTROL, "no-store")], Json(answer)).into_response();
    if let Some(label) = label {
        response.extensions_mut().insert(label);
    }
    Ok(response)
}

/// Splits a request into its head and its form. The layer has checked that the body is a form.
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
    OauthError::invalid_request("the request body is too large or incomplete")
        .with_status(StatusCode::PAYLOAD_TOO_LARGE)
}

impl From<Repeated> for OauthError {
    fn from(_: Repeated) -> Self {
        Self::invalid_request("a parameter is repeated")
    }
}

/// Returns the value of a required parameter.
fn need<'a>(form: &'a Parameters, name: &str) -> Result<&'a str, OauthError> {
    form.one(name)?
        .ok_or_else(|| OauthError::invalid_request(format!("the parameter {name} is missing")))
}

/// Returns whether a request is a form. Inner layers reject other requests.
fn is_form(request: &Request) -> bool {
    request.method() == Method::POST && content_type::is_form(request.headers())
}
