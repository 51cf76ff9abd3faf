//! The page that redirects the browser after a form was submitted.

use axum::http::StatusCode;
use axum::http::header::HeaderValue;
use axum::response::Response;
use maud::html;
use url::Url;

use super::consent::host;
use super::page;
use crate::authorize::remembered::is_loopback;

/// The destination of a redirect.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::authorize) enum Next {
    Provider,
    Client,
}

/// Redirects the browser with a `Refresh` header, and offers a link in case the browser asks before
/// it opens another app.
pub(in crate::authorize) fn onward(url: &Url, next: Next) -> Response {
    // A client on this computer has an address, but the user knows it as an app.
    let host = host(url.as_str()).filter(|_| next == Next::Provider || !is_loopback(url));
    let content = html! {
        p {
            "You are being redirected to "
            @match host {
                Some(host) => {
                    bdi { strong { (host) } }
                    @if next == Next::Provider { " to log in" }
                    "."
                },
                None => "the app. Once it has opened, you can close this page.",
            }
        }
        p { a class="button" href=(url) { "Continue" } }
    };
    let mut response = page(StatusCode::OK, "Redirecting…", &content);
    // The URL is not quoted, because a quote in the URL would end it.
    if let Ok(mut refresh) = HeaderValue::try_from(format!("0;url={url}")) {
        refresh.set_sensitive(true);
        response.headers_mut().insert("refresh", refresh);
    }
    response
}
