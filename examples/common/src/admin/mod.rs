//! The admin server: health, metrics, and with a token an API and a page for operators.
//!
//! Its address belongs in a private network. Health and metrics need no token, because they name no
//! user. The rest needs [`Console::token`], and exists only with it.

mod api;
mod page;

use std::future::pending;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use tokio::net::TcpListener;
use tower::{ServiceExt as _, service_fn};

use crate::bearer::BearerToken;
use crate::listener::{Limits, Listener, RequestBody};
use crate::metrics::{Metrics, Scrape};
use crate::sessions::Sessions;

/// The parts of the server that the API and the page use.
#[derive(Clone, Debug)]
pub struct Console {
    pub token: BearerToken,
    pub sessions: Sessions,
    pub metrics: Metrics,
    /// The name of the server, for the page.
    pub server: &'static str,
    /// The kind of store, without its address.
    pub store: String,
}

/// Serves `/healthz` and `/metrics`, and the page and the API of `console`, if there is one. Never
/// returns.
pub async fn serve(listener: TcpListener, scrape: Scrape, console: Option<Console>) {
    let render = scrape.clone();
    let metrics = move || async move {
        (
            [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
            render.render(),
        )
    };
    let mut router = Router::new()
        .route("/healthz", get("ok"))
        .route("/metrics", get(metrics));
    if let Some(console) = console {
        router = router
            .merge(api::routes(console.clone()))
            .merge(page::routes(console, scrape));
    }
    let service = |_| {
        let router = router.clone();
        service_fn(move |request: Request<RequestBody>| {
            router.clone().oneshot(request.map(Body::new))
        })
    };
    // These limits are separate from those for clients, so that metrics stay available during an
    // attack.
    let limits = Limits {
        max_connections: 32,
        max_in_flight: 32,
        body_memory: 1 << 20,
        ..Limits::default()
    };
    Listener::new(listener, limits)
        .run(service, pending())
        .await;
}
