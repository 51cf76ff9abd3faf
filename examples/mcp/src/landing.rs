//! The page at the public URL, for people who open that URL in a browser.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{Redirect, Response};
use axum::routing::get;
use maud::html;

use crate::app::App;
use crate::authorize::page;

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

/// Shows what this server is, and the URL to enter in a client. The page contains nothing that the
/// discovery documents do not contain.
async fn landing(State(app): State<App>) -> Response {
    page(
        StatusCode::OK,
        "MCP server",
        &html! {
            p class="lead" {
                "You can connect an app that supports the Model Context Protocol (MCP) to "
                bdi { strong { (app.issuer.authority()) } } "."
            }
            dl {
                dt { "URL to enter in the app" }
                dd { code { (app.issuer.resource()) } }
            }
            p {
                "The app then opens this site in your browser. Here you see which permissions it requests, and you decide whether "
                "to grant them. After that, you log in."
            }
            p { "You cannot log in on this page: start in the app that you want to connect." }
        },
    )
}
