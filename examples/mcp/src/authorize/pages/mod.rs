//! The pages for users.

mod consent;
mod onward;
mod problem;
mod refused;

use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

pub(super) use self::consent::consent;
pub(super) use self::onward::onward;
pub(super) use self::problem::Problem;
pub(super) use self::refused::refused;
use crate::clients::visible;

/// Forbids scripts, inline styles and framing, and allows forms to this server only. Chromium
/// applies `form-action` to all redirects that follow a form submission, and the targets of the
/// provider's redirects are unknown. Forms are therefore answered with the page [`onward`] instead
/// of a redirect.
const POLICY: &str = "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

const HEADERS: [(&str, &str); 6] = [
    ("content-security-policy", POLICY),
    ("cache-control", "no-store"),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    ("content-type", "text/html; charset=utf-8"),
];

/// Renders a page. The URLs in it are relative, because all pages have the same parent path.
pub(crate) fn page(status: StatusCode, title: &str, content: &Markup) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="stylesheet" href="style.css";
            }
            body {
                main {
                    h1 { (title) }
                    (content)
                }
            }
        }
    };
    (status, HEADERS, page.into_string()).into_response()
}

/// `GET /style.css`.
pub(super) async fn style() -> Response {
    let headers = [
        (CONTENT_TYPE, "text/css; charset=utf-8"),
        (CACHE_CONTROL, "public, max-age=3600"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, include_str!("style.css")).into_response()
}

/// Returns a client's name in a form that fits into a sentence: one line of visible text with at
/// most 80 characters.
fn tame(name: &str) -> String {
    const LONGEST: usize = 80;
    let name = visible(name);
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name,
    }
}
