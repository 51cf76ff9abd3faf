//! Authorization responses: the browser is redirected to the client's redirect URI.

use axum::response::{IntoResponse as _, Redirect, Response};
use serde::{Deserialize, Serialize};
use url::{Position, Url};

use super::pages::{self, Next};
use crate::error::OauthError;
use crate::issuer::Issuer;
use crate::records::Handle;

/// The data of an authorization request that its response needs: the redirect URI, and the client's
/// `state`.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Reply {
    pub(super) redirect_uri: String,
    pub(super) state: Option<String>,
}

impl Reply {
    /// Returns the URL of a successful response (RFC 6749 §4.1.2).
    pub(super) fn code(&self, issuer: &Issuer, code: &Handle) -> Result<Url, OauthError> {
        self.with(issuer, &[("code", &code.to_string())])
    }

    /// Returns the URL of an error response (RFC 6749 §4.1.2.1).
    pub(super) fn error(&self, issuer: &Issuer, error: &OauthError) -> Result<Url, OauthError> {
        self.with(
            issuer,
            &[
                ("error", error.code),
                ("error_description", &error.description),
            ],
        )
    }

    /// Returns whether a URL is a response to this request.
    pub(super) fn is_at(&self, url: &Url) -> bool {
        let address = |url: &Url| url[..Position::AfterPath].to_owned();
        Url::parse(&self.redirect_uri).is_ok_and(|own| address(&own) == address(url))
    }

    /// Returns the redirect URI with these parameters, `state` and `iss`.
    fn with(&self, issuer: &Issuer, answer: &[(&str, &str)]) -> Result<Url, OauthError> {
        // This does not happen: registered redirect URIs have been parsed before.
        let no_url = |_| OauthError::invalid_request("the redirect URI of the client is not a URL");
        let mut url = Url::parse(&self.redirect_uri).map_err(no_url)?;
        let mut query = url.query_pairs_mut();
        query.extend_pairs(answer);
        if let Some(state) = &self.state {
            query.append_pair("state", state);
        }
        // RFC 9207: identifies the server that sent the response.
        query.append_pair("iss", issuer.as_str());
        drop(query);
        Ok(url)
    }
}

/// Sends the browser to the client: by a redirect, or, if the URL opens an app, by a page with a
/// link. The user sees that page while the browser asks whether it may open the app.
pub(super) fn send(url: &Url) -> Response {
    if matches!(url.scheme(), "http" | "https") {
        redirect(url)
    } else {
        pages::onward(url, Next::Client)
    }
}

/// Redirects the browser with status 303, so that it always continues with GET (RFC 9700 §4.12).
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
