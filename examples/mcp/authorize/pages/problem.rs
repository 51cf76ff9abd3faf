//! What a person is told where the browser cannot be sent anywhere.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::html;
use tower_oauth_refresh::store::StoreError;

use super::page;
use crate::clients::{ClientError, DocumentError};
use crate::error::OauthError;

const AGAIN: &str = "Go back to the program that you want to connect, and log in from there again.";

/// What is wrong, and what to do.
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

    /// A request that makes no sense; `why` goes on after "it".
    pub(in crate::authorize) fn bad_request(why: &str) -> Self {
        let what = format!("The request that brought you here is not in order: {why}.");
        let advice = format!(
            "{AGAIN} If this page comes again, that program has a fault: tell those who make it."
        );
        Self::new(
            StatusCode::BAD_REQUEST,
            "This request is not in order",
            what,
            advice,
        )
    }

    pub(in crate::authorize) fn unknown_client() -> Self {
        let what = "The program that sent you here is not registered with this server, or its registration has run out.";
        let advice = "In that program, remove this server and add it again: it will register anew. If you did not want to \
                      connect any program, close this page.";
        Self::new(
            StatusCode::BAD_REQUEST,
            "This program is not known here",
            what,
            advice,
        )
    }

    pub(in crate::authorize) fn bad_redirect(uri: &str) -> Self {
        let uri: String = uri.chars().take(200).collect();
        let what = format!(
            "Nothing was sent: this program has not registered the address that you would go to, {uri}"
        );
        let advice = "In that program, remove this server and add it again. If somebody else sent \
                      you a link to this page, close it: they may be trying to get at your account.";
        Self::new(
            StatusCode::BAD_REQUEST,
            "You cannot be sent there",
            what,
            advice,
        )
    }

    pub(in crate::authorize) fn login_is_over() -> Self {
        let what = "It has been answered already, or it took longer than ten minutes.";
        Self::new(StatusCode::BAD_REQUEST, "This log-in is over", what, AGAIN)
    }

    pub(in crate::authorize) fn other_browser() -> Self {
        let what = "It goes on only in the browser in which it was begun. This is another one, or it accepts no cookies.";
        let advice = "If you have begun it yourself, go back to that browser, or begin again in this one with cookies allowed \
                      for this site. If somebody else sent you a link to this page, close it: they may be trying to get at \
                      your account.";
        Self::new(
            StatusCode::FORBIDDEN,
            "This log-in belongs to another browser",
            what,
            advice,
        )
    }

    pub(in crate::authorize) fn forged() -> Self {
        let what = "The answer did not come from the page of this server that asks for it, so nothing was done.";
        let advice = format!("{AGAIN} If another page led you here, close it.");
        Self::new(
            StatusCode::FORBIDDEN,
            "This answer does not count",
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
            ClientError::Document(why @ DocumentError::Busy) => {
                OauthError::unavailable(why.to_string()).into()
            }
            ClientError::Document(why) => {
                let what = format!(
                    "What the program that sent you here says about itself cannot be used: {why}"
                );
                let advice =
                    format!("{AGAIN} If this page comes again, tell those who make that program.");
                Self::new(
                    StatusCode::BAD_REQUEST,
                    "This program cannot be told",
                    what,
                    advice,
                )
            }
        }
    }
}

/// Of this server's own failures.
impl From<OauthError> for Problem {
    fn from(error: OauthError) -> Self {
        if error.status == StatusCode::SERVICE_UNAVAILABLE {
            let what = "This server cannot reach what it needs.";
            let advice = "Wait a moment and load this page again.";
            Self::new(
                error.status,
                "This does not work at the moment",
                what,
                advice,
            )
        } else {
            let what =
                "This server has made a mistake, and has written it down for those who run it.";
            Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Something went wrong here",
                what,
                AGAIN,
            )
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        page(
            self.status,
            self.title,
            &html! {
                p { (self.what) }
                h2 { "What you can do" }
                p { (self.advice) }
            },
        )
    }
}
