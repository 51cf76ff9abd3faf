//! The page between a form and where it leads.

use axum::http::StatusCode;
use axum::http::header::HeaderValue;
use axum::response::Response;
use maud::html;
use url::Url;

use super::page;
use crate::authorize::remembered::is_loopback;

/// Sends the browser on by itself, and by a link where it does not go: it may ask before it opens
/// another program.
pub(in crate::authorize) fn onward(url: &Url) -> Response {
    let host = url
        .host_str()
        .filter(|_| matches!(url.scheme(), "http" | "https") && !is_loopback(url));
    let content = html! {
        p {
            "You are being sent on to "
            @match host {
                Some(host) => { bdi { strong { (host) } } "." },
                None => "the program that you want to connect. When it has taken over, you can close this page.",
            }
        }
        p { a class="button" href=(url) { "Go there now" } }
    };
    let mut response = page(StatusCode::OK, "One moment", &content);
    // Not in quotes: then it would end at one in the URL.
    if let Ok(mut refresh) = HeaderValue::try_from(format!("0;url={url}")) {
        refresh.set_sensitive(true);
        response.headers_mut().insert("refresh", refresh);
    }
    response
}
