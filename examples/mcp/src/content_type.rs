//! The content types of requests and responses (RFC 9110 §8.3).

use axum::http::header::{CONTENT_TYPE, HeaderMap};

/// Returns the media type without its parameters, or an empty string if it is missing.
fn media_type(headers: &HeaderMap) -> &str {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// Returns whether the content is a form.
pub(crate) fn is_form(headers: &HeaderMap) -> bool {
    media_type(headers).eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Returns whether the content type is `application/json`.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    media_type(headers).eq_ignore_ascii_case("application/json")
}

/// Returns whether the content type is `application/json` or `application/…+json` (RFC 6839 §3.1).
pub(crate) fn is_json_based(headers: &HeaderMap) -> bool {
    let media_type = media_type(headers).to_ascii_lowercase();
    media_type
        .strip_prefix("application/")
        .is_some_and(|subtype| subtype == "json" || subtype.ends_with("+json"))
}
