//! The page for errors after which the browser cannot be redirected.

use axum::http::StatusCode;
use axum::http::header::{HeaderValue, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use maud::html;
use tower_oauth_refresh::store::StoreError;

use super::page;
use crate::clients::{ClientError, DocumentError, FetchError};
use crate::error::OauthError;

const AGAIN: &str = "Return to the app that you want to connect, and log in from there again.";

/// A description of an error, and what the user can do about it.
#[derive(Debug)]
pub(in crate::authorize) struct Problem {
    status: StatusCode,
    title: &'static str,
    what: String,
    advice: String,
}

impl Problem {
    fn new(
        status: StatusCode,
        title: &'static str,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            status,
            title,
            what: what.into(),
            advice: advice.into(),
        }
    }

    /// Creates the page for an invalid request. `why` is a clause with the subject "it".
    pub(in crate::authorize) fn bad_request(why: &str) -> Self {
        let what = format!("The request that brought you here is invalid: {why}.");
        let advice = format!(
            "{AGAIN} If you see this page again, report the problem to the developer of the app."
        );
        Self::new(StatusCode::BAD_REQUEST, "Invalid request", what, advice)
    }

    pub(in crate::authorize) fn unknown_client() -> Self {
        let what = "The app that sent you here is not registered with this server, or its registration \
             has expired.";
        let advice = "In the app, remove this server and add it again, so that the app registers again. If \
             you did not want to connect an app, close this page.";
        Self::new(StatusCode::BAD_REQUEST, "Unknown app", what, advice)
    }

    pub(in crate::authorize) fn bad_redirect(uri: &str) -> Self {
        let uri: String = uri.chars().take(200).collect();
        let what = format!(
            "You were not redirected, because the app has not registered this address: {uri}"
        );
        let advice = "In the app, remove this server and add it again. If someone sent you a link to this \
             page, close it: they may be trying to access your account.";
        Self::new(
            StatusCode::BAD_REQUEST,
            "Unregistered redirect address",
            what,
            advice,
        )
    }

    pub(in crate::authorize) fn too_many_requests() -> Self {
        let what =
            "Your network has sent more log-in requests than this server accepts in a minute.";
        let advice = format!("Wait a minute. {AGAIN}");
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "Too many requests",
            what,
            advice,
        )
    }

    pub(in crate::authorize) fn login_is_over() -> Self {
        let what = "It is already complete, or it took longer than ten minutes.";
        Self::new(
            StatusCode::BAD_REQUEST,
            "This log-in is no longer valid",
            what,
            AGAIN,
        )
    }

    pub(in crate::authorize) fn other_browser() -> Self {
        let what = "You can continue it only in the browser in which you started it. This is a different \
             browser, or it does not accept cookies.";
        let advice = "If you started it yourself, return to that browser, or start again in this one with \
             cookies allowed for this site. If someone sent you a link to this page, close it: \
             they may be trying to access your account.";
        Self::new(
            StatusCode::FORBIDDEN,
            "This log-in belongs to another browser",
            what,
            advice,
        )
    }

    pub(in crate::authorize) fn no_provider() -> Self {
        let what = "This server cannot reach the identity provider at which you log in.";
        let advice = "Wait a minute and reload this page. If you see it again, tell the operator of this server.";
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "The identity provider cannot be reached",
            what,
            advice,
        )
    }

    pub(in crate::authorize) fn forged() -> Self {
        let what = "Your answer was not sent from the consent page of this server, so nothing was \
             changed.";
        let advice = format!("{AGAIN} If another page led you here, close it.");
        Self::new(
            StatusCode::FORBIDDEN,
            "Your answer was not accepted",
            what,
            advice,
        )
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        OauthError::from(error).into()
    }
}

impl From<ClientError> for Problem {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Store(error) => error.into(),
            ClientError::Document(why @ DocumentError::Fetch(FetchError::Busy)) => {
                OauthError::unavailable(why.to_string()).into()
            }
            ClientError::Document(why) => {
                let what = format!("The app that sent you here cannot be identified: {why}");
                let advice = format!(
                    "{AGAIN} If you see this page again, report the problem to the developer of the app."
                );
                Self::new(StatusCode::BAD_REQUEST, "Unknown app", what, advice)
            }
        }
    }
}

/// Hides the details of this server's own failures from users.
impl From<OauthError> for Problem {
    fn from(error: OauthError) -> Self {
        if error.status == StatusCode::SERVICE_UNAVAILABLE {
            let what = "This server cannot reach a service that it needs.";
            let advice = "Wait a moment and reload this page.";
            Self::new(error.status, "Temporarily unavailable", what, advice)
        } else {
            let what = "An internal error occurred. It was logged for the operator of this server.";
            Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Something went wrong",
                what,
                AGAIN,
            )
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = page(
            self.status,
            self.title,
            &html! {
                p { (self.what) }
                h2 { "What you can do" }
                p { (self.advice) }
            },
        );
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            let headers = response.headers_mut();
            headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}
