//! The page for operators. It works without JavaScript; with it, the figures are live.
//!
//! 1. An operator signs in with the admin token. The browser then has a session cookie that scripts
//!    cannot read and that other sites cannot send ([`sign_in`]).
//! 2. Every form has a token that is derived from that cookie and the action of the form. A form of
//!    another site does not know it.
//! 3. Everything that a client or a user chooses is text in the page, never markup: `maud` escapes
//!    it. The policy allows no inline script and nothing from another server.
//! 4. A subject is sent in the body of a request, never in a URL, which browsers and logs keep.

mod figures;
mod live;
mod search;
mod sign_in;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use maud::{DOCTYPE, Markup, html};
use tokio::sync::Semaphore;

use self::sign_in::{Operator, SignedIn};
use super::Console;
use crate::listener::Throttle;
use crate::metrics::Scrape;

/// Scripts and styles come from this server only, and no form leads elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

const HEADERS: [(&str, &str); 7] = [
    ("content-security-policy", POLICY),
    ("cache-control", "no-store"),
    ("referrer-policy", "no-referrer"),
    ("x-frame-options", "DENY"),
    ("x-content-type-options", "nosniff"),
    ("cross-origin-opener-policy", "same-origin"),
    ("content-type", "text/html; charset=utf-8"),
];

/// The largest form, in bytes.
const MOST_BYTES: usize = 16 << 10;

/// The most pages that are live at the same time.
const MOST_LIVE: usize = 12;

/// The state of the page. Clones share it.
#[derive(Clone, Debug)]
struct Page(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    console: Console,
    scrape: Scrape,
    signed_in: SignedIn,
    /// Limits the log lines of refused sign-ins.
    refusals: Throttle,
    live: Arc<Semaphore>,
}

pub(super) fn routes(console: Console, scrape: Scrape) -> Router {
    let page = Page(Arc::new(Inner {
        console,
        scrape,
        signed_in: SignedIn::default(),
        refusals: Throttle::default(),
        live: Arc::new(Semaphore::new(MOST_LIVE)),
    }));
    Router::new()
        .route("/", get(overview))
        .route("/live", get(live::stream))
        .route("/sign-in", post(sign_in::sign_in))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/search", post(search::search))
        .route("/end", post(search::end))
        .route("/style.css", get(style))
        .route("/live.js", get(script))
        .layer(DefaultBodyLimit::max(MOST_BYTES))
        .with_state(page)
}

/// Shows the figures, or the form to sign in.
async fn overview(State(page): State<Page>, headers: HeaderMap) -> Response {
    let Some(operator) = page.0.signed_in.find(&headers) else {
        return sign_in::form(&page, StatusCode::OK, None);
    };
    let content = html! {
        (search::form(&operator, "", ""))
        div id="figures" { (figures::figures(&page.0.console, &page.0.scrape)) }
    };
    render(&page, StatusCode::OK, "Overview", Some(&operator), &content)
}

/// Renders a page. Only the overview, which shows figures, has the script.
fn render(
    page: &Page,
    status: StatusCode,
    title: &str,
    operator: Option<&Operator>,
    content: &Markup,
) -> Response {
    let server = page.0.console.server;
    let is_live = title == "Overview";
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · " (server) }
                link rel="stylesheet" href="style.css";
                link rel="icon" href="data:,";
                @if is_live {
                    script src="live.js" defer {}
                    noscript { meta http-equiv="refresh" content="30"; }
                }
            }
            body {
                header {
                    @if is_live {
                        h1 { a href="./" { (server) } }
                        span id="state" role="status" {}
                    } @else {
                        a href="./" { strong { (server) } }
                    }
                    @if let Some(operator) = operator {
                        form method="post" action="sign-out" {
                            (operator.csrf("sign-out"))
                            button { "Sign out" }
                        }
                    }
                }
                main { (content) }
            }
        }
    };
    (status, HEADERS, page.into_string()).into_response()
}

/// Renders a page with a message.
fn message(page: &Page, status: StatusCode, operator: Option<&Operator>, text: &str) -> Response {
    let content = html! {
        h1 { "Sessions" }
        p class="message" role="alert" { (text) }
        p { a href="./" { "Back to the overview" } }
    };
    render(page, status, "Sessions", operator, &content)
}

async fn style() -> Response {
    asset("text/css; charset=utf-8", include_str!("style.css"))
}

async fn script() -> Response {
    asset("text/javascript; charset=utf-8", include_str!("live.js"))
}

fn asset(content_type: &'static str, text: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "no-cache"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text).into_response()
}
