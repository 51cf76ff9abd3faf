//! The authorization endpoint, from the request to the authorization code.
//!
//! `GET /authorize` redirects to the consent page. From there the browser continues to the identity
//! provider, then to `GET /callback`, and finally to the client. Between these steps, a log-in is a
//! record that the next request names. All steps must take place in the same browser.

mod begin;
mod browser;
mod callback;
mod code;
mod consent;
mod device;
mod granted;
mod login;
mod pages;
mod remembered;
mod reply;
mod request;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use crate::app::App;
use crate::{brand, rate_limit};

pub(crate) use self::browser::COOKIE_NAME;
pub(crate) use self::code::{CODE_LIFETIME, Code, CodeBinding, Fresh, InUse, Used};
pub(crate) use self::granted::{is_scope, scope};
pub(crate) use self::pages::Page;

/// The maximum size of a submitted form, in bytes. The form of the consent page has a few short
/// fields.
const LONGEST_FORM: usize = 16 * 1024;

/// Returns the page for a user whose network sends too many requests.
pub(crate) fn too_many_requests() -> Response {
    pages::Problem::too_many_requests().into_response()
}

pub(crate) fn routes(app: &App) -> Router<App> {
    let limit = from_fn_with_state(app.clone(), rate_limit::authorizations);
    let consent = get(consent::show)
        .post(consent::answer)
        .layer(DefaultBodyLimit::max(LONGEST_FORM));
    Router::new()
        .route("/authorize", get(begin::begin).layer(limit))
        .route("/consent", consent)
        .route("/callback", get(callback::callback))
        .route("/style.css", get(pages::style))
        .route("/brand-logo", get(brand::logo))
}
