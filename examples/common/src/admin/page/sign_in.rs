//! Signs operators in and out.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Form;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{HeaderMap, HeaderValue, LOCATION, SET_COOKIE};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use maud::{Markup, html};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;

use super::{Page, message, render};
use crate::cookie;

/// The name of the cookie. Because of its prefix, browsers accept it only with `Secure` and only
/// from this host (RFC 6265bis §4.1.3.2). From localhost they accept `Secure` without TLS.
const COOKIE_NAME: &str = "__Host-admin";

/// The time after which an operator must sign in again.
const LIFETIME: Duration = Duration::from_secs(8 * 3600);

/// The most operators that are signed in at the same time.
const MOST: usize = 64;

/// The operators who are signed in, in this process only: the hash of each cookie, and its end.
#[derive(Default)]
pub(super) struct SignedIn(Mutex<HashMap<[u8; 32], Instant>>);

/// An operator who is signed in.
pub(super) struct Operator {
    /// The value of the cookie.
    secret: String,
}

impl SignedIn {
    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the operator who sent these headers.
    pub(super) fn find(&self, headers: &HeaderMap) -> Option<Operator> {
        let secret = cookie::only(headers, COOKIE_NAME)?;
        // The table has hashes only, so that the time of the search says nothing about a cookie.
        let end = self.lock().get(&hash(secret)).copied()?;
        (Instant::now() < end).then(|| Operator {
            secret: secret.to_owned(),
        })
    }

    /// Signs a new operator in. If [`MOST`] operators are signed in, signs out the one whose
    /// session ends first.
    fn add(&self) -> Result<Operator, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        let secret = URL_SAFE_NO_PAD.encode(bytes);
        let now = Instant::now();
        let mut signed_in = self.lock();
        signed_in.retain(|_, end| now < *end);
        if signed_in.len() >= MOST {
            let first = signed_in.iter().min_by_key(|(_, end)| **end);
            let first = first.map(|(key, _)| *key);
            first.map(|key| signed_in.remove(&key));
        }
        signed_in.insert(hash(&secret), now + LIFETIME);
        Ok(Operator { secret })
    }

    fn remove(&self, operator: &Operator) {
        self.lock().remove(&hash(&operator.secret));
    }
}

impl fmt::Debug for SignedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SignedIn").field(&self.lock().len()).finish()
    }
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret).into()
}

impl Operator {
    /// Returns the token of the form with this action, which other sites cannot know.
    fn form_token(&self, action: &str) -> String {
        let hash = Sha256::new()
            .chain_update(b"form\0")
            .chain_update(action)
            .chain_update([0])
            .chain_update(&self.secret);
        URL_SAFE_NO_PAD.encode(hash.finalize())
    }

    /// Returns the hidden field of the form with this action.
    pub(super) fn csrf(&self, action: &str) -> Markup {
        html! { input type="hidden" name="csrf" value=(self.form_token(action)); }
    }

    /// Returns whether the form with this action was rendered for this operator.
    fn has_form_token(&self, action: &str, csrf: &str) -> bool {
        self.form_token(action)
            .as_bytes()
            .ct_eq(csrf.as_bytes())
            .into()
    }
}

/// Returns the operator who submitted the form with this action, or the response that refuses the
/// form.
pub(super) fn submitter(
    page: &Page,
    headers: &HeaderMap,
    action: &str,
    csrf: &str,
) -> Result<Operator, Box<Response>> {
    let Some(operator) = page.0.signed_in.find(headers) else {
        return Err(form(page, StatusCode::UNAUTHORIZED, None).into());
    };
    if !operator.has_form_token(action, csrf) {
        let text = "The form does not come from this page. Nothing was changed.";
        return Err(message(page, StatusCode::FORBIDDEN, Some(&operator), text).into());
    }
    Ok(operator)
}

/// Returns the page with the form to sign in.
pub(super) fn form(page: &Page, status: StatusCode, error: Option<&str>) -> Response {
    let content = html! {
        h1 { "Sign in" }
        @if let Some(error) = error {
            p class="message" role="alert" { (error) }
        }
        form method="post" action="sign-in" class="sign-in" {
            label for="token" { "Admin token (" code { "--admin-token" } ")" }
            input id="token" name="token" type="password" required autofocus autocomplete="current-password";
            button { "Sign in" }
        }
        p class="quiet" {
            "The browser keeps the session for 8 hours, and only if it reached this page over TLS or on this computer."
        }
    };
    render(page, status, "Sign in", None, &content)
}

#[derive(Deserialize)]
pub(super) struct Credentials {
    token: String,
}

pub(super) async fn sign_in(State(page): State<Page>, Form(sent): Form<Credentials>) -> Response {
    if !page.0.console.token.matches(sent.token.trim()) {
        if let Some(suppressed) = page.0.refusals.line() {
            tracing::warn!(
                suppressed,
                "a sign-in to the admin page was refused: the token is wrong"
            );
        }
        return form(
            &page,
            StatusCode::UNAUTHORIZED,
            Some("This is not the admin token."),
        );
    }
    let Ok(operator) = page.0.signed_in.add() else {
        let text = "The random number generator of the system failed.";
        return message(&page, StatusCode::SERVICE_UNAVAILABLE, None, text);
    };
    tracing::info!("an operator signed in to the admin page");
    to_overview(&operator.secret, LIFETIME)
}

#[derive(Deserialize)]
pub(super) struct SignOut {
    csrf: String,
}

pub(super) async fn sign_out(
    State(page): State<Page>,
    headers: HeaderMap,
    Form(sent): Form<SignOut>,
) -> Response {
    match submitter(&page, &headers, "sign-out", &sent.csrf) {
        Ok(operator) => {
            page.0.signed_in.remove(&operator);
            to_overview("", Duration::ZERO)
        }
        Err(response) => *response,
    }
}

/// Returns a redirect to the overview that sets the cookie. The path is relative, because a reverse
/// proxy may serve the page below a path.
fn to_overview(value: &str, lifetime: Duration) -> Response {
    let cookie = format!(
        "{COOKIE_NAME}={value}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age={}",
        lifetime.as_secs()
    );
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    if let Ok(mut cookie) = HeaderValue::try_from(cookie) {
        cookie.set_sensitive(true);
        headers.insert(SET_COOKIE, cookie);
    }
    headers.insert(LOCATION, HeaderValue::from_static("./"));
    response
}
