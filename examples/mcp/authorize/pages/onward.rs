//! The page between a form and where it leads.

use axum::http::StatusCode;
use axum::http::header::HeaderValue;
use axum::response::Response;
use maud::html;
use url::Url;

use super::page;
use crate::authorize::remembered::is_loopback;

/// Sends the browser on by itself, and by a link where it does not go: it may ask before it opens another program.
pub(in crate::authorize) fn onward(url: &Url) -> Response {
    let place = match (url.scheme(), url.host_str()) {
        ("http" | "https", Some(_)) if is_loopback(url) => "the program on your computer".to_owned(),
        ("http" | "https", Some(host)) => host.to_owned(),
        _ => "the program on your device".to_owned(),
    };
    let mut response = page(
        StatusCode::OK,
        "One moment",
        &html! {
            p { "You are being sent on to " bdi { strong { (place) } } "." }
            p { a class="button" href=(url) { "Go there now" } }
        },
    );
    // Not in quotes: then it would end at one in the URL.
    if let Ok(mut refresh) = HeaderValue::try_from(format!("0;url={url}")) {
        refresh.set_sensitive(true);
        response.headers_mut().insert("refresh", refresh);
    }
    response
}
