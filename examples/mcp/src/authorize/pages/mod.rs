//! The pages for users.

mod consent;
mod not_allowed;
mod onward;
mod problem;
mod refused;

use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

pub(super) use self::consent::consent;
pub(super) use self::not_allowed::not_allowed;
pub(super) use self::onward::{Next, onward};
pub(super) use self::problem::Problem;
pub(super) use self::refused::refused;
use crate::brand::Brand;
use crate::clients::visible;

/// Forbids scripts, inline styles and framing, and allows forms to this server only. Chromium
/// applies `form-action` to all redirects that follow a form submission, and the targets of the
/// provider's redirects are unknown. Forms are therefore answered with the page [`onward`] instead
/// of a redirect.
const POLICY: &str = "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

const HEADERS: [(&str, &str); 5] = [
    ("cache-control", "no-store"),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    ("content-type", "text/html; charset=utf-8"),
];

/// A page. The URLs in it are relative, because all pages have the same parent path.
pub(crate) struct Page<'a> {
    pub(crate) status: StatusCode,
    pub(crate) title: &'a str,
    pub(crate) brand: Option<&'a Brand>,
    /// The only script that may run.
    pub(crate) script: Option<&'static str>,
}

impl<'a> Page<'a> {
    pub(crate) const fn new(status: StatusCode, title: &'a str) -> Self {
        Self {
            status,
            title,
            brand: None,
            script: None,
        }
    }

    pub(crate) fn render(&self, content: &Markup) -> Response {
        let Self {
            status,
            title,
            brand,
            script,
        } = *self;
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
                    @if let Some(brand) = brand { (brand.head()) }
                    main {
                        h1 { (title) }
                        (content)
                    }
                    @if let Some(script) = script { script { (PreEscaped(script)) } }
                }
            }
        };
        let mut policy = POLICY.to_owned();
        if brand.is_some_and(Brand::has_logo) {
            policy += "; img-src 'self'";
        }
        if let Some(script) = script {
            let hash = STANDARD.encode(Sha256::digest(script));
            policy += &format!("; script-src 'sha256-{hash}'");
        }
        let policy = [("content-security-policy", policy)];
        (status, HEADERS, policy, page.into_string()).into_response()
    }
}

/// Renders a page without a brand.
fn page(status: StatusCode, title: &str, content: &Markup) -> Response {
    Page::new(status, title).render(content)
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
