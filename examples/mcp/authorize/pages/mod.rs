//! What a person sees.

mod consent;
mod onward;
mod problem;

use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

pub(super) use self::consent::consent;
pub(super) use self::onward::onward;
pub(super) use self::problem::Problem;

/// No script, no style in the page, no frame around it; its forms go to this server. Chromium holds whatever follows upon a
/// form to `form-action`, redirects and all, and where a provider redirects to nobody knows: [`onward`] answers forms.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

const HEADERS: [(&str, &str); 6] = [
    ("content-security-policy", POLICY),
    ("cache-control", "no-store"),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    ("content-type", "text/html; charset=utf-8"),
];

/// A page; addresses in it are relative, as all of them lie next to each other.
fn page(status: StatusCode, title: &str, content: &Markup) -> Response {
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

/// A name from elsewhere, fit to stand in a sentence: in one line, not too long, and with nothing in it that turns the text
/// around it or cannot be seen. [`Clients`](crate::clients::Clients) refuse the worst; here nothing depends on that.
fn tame(name: &str) -> String {
    const LONGEST: usize = 80;
    let unseen = |c: &char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
    };
    let seen: String = name.chars().filter(|c| !unseen(c)).collect();
    let name = seen.split_whitespace().collect::<Vec<_>>().join(" ");
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name,
    }
}
