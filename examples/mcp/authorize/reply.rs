//! How a client is answered: by the browser, which is sent to its redirect URI.

use axum::response::{IntoResponse as _, Redirect, Response};
use serde::{Deserialize, Serialize};
use url::Url;

use super::pages;
use crate::error::OauthError;
use crate::issuer::Issuer;
use crate::records::Handle;

/// Where a client is answered, and by which `state` it knows what for.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Reply {
    pub(super) redirect_uri: String,
    pub(super) state: Option<String>,
}

impl Reply {
    /// RFC 6749 §4.1.2.
    pub(super) fn code(&self, issuer: &Issuer, code: &Handle) -> Result<Url, OauthError> {
        self.with(issuer, &[("code", &code.to_string())])
    }

    /// RFC 6749 §4.1.2.1.
    pub(super) fn error(&self, issuer: &Issuer, error: &OauthError) -> Result<Url, OauthError> {
        self.with(
            issuer,
            &[
                ("error", error.code),
                ("error_description", &error.description),
            ],
        )
    }

    fn with(&self, issuer: &Issuer, answer: &[(&str, &str)]) -> Result<Url, OauthError> {
        // Whatever the client has registered has been parsed before.
        let no_url = |_| OauthError::invalid_request("the redirect URI of the client is not a URL");
        let mut url = Url::parse(&self.redirect_uri).map_err(no_url)?;
        let mut query = url.query_pairs_mut();
        query.extend_pairs(answer);
        if let Some(state) = &self.state {
            query.append_pair("state", state);
        }
        // RFC 9207: who answers.
        query.append_pair("iss", issuer.as_str());
        drop(query);
        Ok(url)
    }
}

/// Answers a client. Browsers ask, or wait, before they open an app: meanwhile a person needs a
/// page, with a link.
pub(super) fn send(url: &Url) -> Response {
    if matches!(url.scheme(), "http" | "https") {
        redirect(url)
    } else {
        pages::onward(url)
    }
}

/// Sends the browser on, by GET whatever it came with (RFC 9700 §4.12).
pub(super) fn redirect(url: &Url) -> Response {
    (
        [
            ("cache-control", "no-store"),
            ("referrer-policy", "no-referrer"),
        ],
        Redirect::to(url.as_str()),
    )
        .into_response()
}
