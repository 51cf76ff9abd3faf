//! The page at the public URL, for people who open that URL in a browser.

mod clients;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{Redirect, Response};
use axum::routing::get;
use maud::html;

pub(crate) use self::clients::claude_code;
use self::clients::instructions;
use crate::app::App;
use crate::authorize::Page;

/// Copies the URL to the clipboard. Without it, the page has no button.
const COPY: &str = include_str!("copy.js");

/// Returns the routes of the page. Their paths are absolute, because a nested router cannot have a
/// route for its own path with a trailing slash.
pub(crate) fn routes(app: &App) -> Router<App> {
    let path = app.issuer.path();
    let router = Router::new().route(&format!("{path}/"), get(landing));
    if path.is_empty() {
        return router;
    }
    // The URL of the style sheet is relative, so the page has to be below the path of the issuer.
    let target = app.issuer.join("/");
    router.route(path, get(async move || Redirect::permanent(&target)))
}

/// Shows what this server is, the URL to enter in a client, and how to do that in the well-known
/// ones. The page contains nothing that the discovery documents do not contain, except the brand.
async fn landing(State(app): State<App>) -> Response {
    let url = app.issuer.resource();
    let page = Page {
        brand: Some(&app.brand),
        script: Some(COPY),
        ..Page::new(StatusCode::OK, app.brand.name().unwrap_or("MCP server"))
    };
    page.render(&html! {
        p class="lead" {
            "You can connect an app that supports the Model Context Protocol (MCP) to "
            bdi { strong { (app.issuer.authority()) } } "."
        }
        dl {
            dt { "URL to enter in the app" }
            dd class="url" {
                code id="url" { (url) }
                button type="button" data-copy="url" aria-live="polite" hidden { "Copy" }
            }
        }
        p {
            "The app then opens this site in your browser. Here you see which permissions it requests, and you decide whether "
            "to grant them. After that, you log in."
        }
        p { "You cannot log in on this page: start in the app that you want to connect." }
        h2 { "How to connect" }
        @for instructions in instructions(&app.brand.server_name(), &url) {
            details {
                summary { (instructions.client) }
                p { (instructions.steps) }
                @if let Some(snippet) = instructions.snippet { pre { code { (snippet) } } }
            }
        }
    })
}
