//! `/consent`: the user approves or denies the request of a client.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{RawQuery, State};
use axum::http::header::{HeaderMap, ORIGIN};
use axum::response::Response;
use tower_oauth_refresh::store::StoreError;
use url::Url;

use super::browser::Browser;
use super::login::{AtProvider, Login};
use super::pages::{self, Next, Problem};
use super::remembered;
use super::request::Asked;
use crate::app::App;
use crate::content_type::is_form;
use crate::error::OauthError;
use crate::issuer::Issuer;
use crate::parameters::Parameters;
use crate::records::Handle;

/// Shows the consent page.
pub(super) async fn show(
    State(app): State<App>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = Parameters::parse(query.unwrap_or_default().as_bytes());
    let handle = handle(&query)?;
    let browser = Browser::find(&headers, &app.issuer);
    let login = Login::find(&app, browser.as_ref(), &handle).await?.value;
    let browser = browser
        .filter(|_| login.answered.is_none())
        .ok_or_else(Problem::login_is_over)?;
    Ok(pages::consent(
        &app,
        &login,
        &handle,
        &form_token(&browser, &handle)?,
    ))
}

/// Processes the user's decision. A repeated submission, by a double click or a reload, gets the
/// same response.
pub(super) async fn answer(
    State(app): State<App>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    if !comes_from_here(&headers, &app.issuer) {
        return Err(Problem::forged());
    }
    let form = form(&headers, body)?;
    let handle = handle(&form)?;
    let browser = Browser::find(&headers, &app.issuer).ok_or_else(Problem::other_browser)?;
    let login = Login::find(&app, Some(&browser), &handle).await?;
    let token: Option<Handle> = form
        .one("token")
        .ok()
        .flatten()
        .and_then(|token| token.parse().ok());
    if token != Some(form_token(&browser, &handle)?) {
        return Err(Problem::forged());
    }
    if let Some(url) = login.value.answered {
        return Ok(onward(&login.value.asked, &url));
    }
    let asked = &login.value.asked;
    let remember = form
        .one("remember")
        .is_ok_and(|remember| remember.is_some())
        && remembered::may_be(&login.value.client, &asked.reply.redirect_uri);
    let (url, keep) = match form.one("decision") {
        Ok(Some("approve")) => {
            if remember {
                remembered::remember(&app, &browser, asked).await?;
            }
            (
                AtProvider::begin(&app, &browser, asked.clone()).await?,
                remember.then_some(remembered::KEPT),
            )
        }
        Ok(Some("deny")) => {
            let denied = OauthError::new("access_denied", "the user denied access");
            (asked.reply.error(&app.issuer, &denied)?, None)
        }
        _ => return Err(Problem::bad_request("it contains no decision")),
    };
    let asked = asked.clone();
    let url = Login::answer(&app, &browser, &handle, login, url).await?;
    let mut response = onward(&asked, &url);
    if keep.is_some() {
        browser.set_cookie(&app.issuer, keep, &mut response);
    }
    Ok(response)
}

/// Continues at the provider, or returns to the client if the user denied.
fn onward(asked: &Asked, url: &Url) -> Response {
    let next = if asked.reply.is_at(url) {
        Next::Client
    } else {
        Next::Provider
    };
    pages::onward(url, next)
}

fn handle(parameters: &Parameters) -> Result<Handle, Problem> {
    let login = parameters
        .one("login")
        .ok()
        .flatten()
        .and_then(|login| login.parse().ok());
    login.ok_or_else(Problem::login_is_over)
}

/// Returns the token of the form, which is bound to the log-in and to the browser.
fn form_token(browser: &Browser, login: &Handle) -> Result<Handle, StoreError> {
    browser.token(&format!("consent to {login}"))
}

/// Returns `false` if the headers show that the request comes from another origin. Browsers may
/// omit these headers, so the page is protected by the token in the form.
fn comes_from_here(headers: &HeaderMap, issuer: &Issuer) -> bool {
    // Browsers send `null` for a page with the policy `no-referrer`, as this server's pages have
    // it.
    let origin = headers
        .get(ORIGIN)
        .is_none_or(|origin| origin == "null" || origin.as_bytes() == issuer.origin().as_bytes());
    origin
        && headers
            .get("sec-fetch-site")
            .is_none_or(|site| site == "same-origin")
}

fn form(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<Parameters, Problem> {
    if !is_form(headers) {
        return Err(Problem::bad_request(
            "it is not the form of the consent page",
        ));
    }
    Ok(Parameters::parse(
        &body.map_err(|_| Problem::bad_request("it is too long"))?,
    ))
}
