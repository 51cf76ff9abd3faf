//! The admin server: health and metrics.

use std::future::pending;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use server_common::listener::{Limits, Listener, RequestBody};
use tokio::net::TcpListener;
use tower::{ServiceExt as _, service_fn};

use crate::metrics::Scrape;

/// Serves `/healthz` and `/metrics`. Never returns.
pub(crate) async fn serve(listener: TcpListener, scrape: Scrape) {
    let metrics = move || async move {
        (
            [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
            scrape.render(),
        )
    };
    let router = Router::new()
        .route("/healthz", get("ok"))
        .route("/metrics", get(metrics));
    let service = |_| {
        let router = router.clone();
        service_fn(move |request: Request<RequestBody>| {
            router.clone().oneshot(request.map(Body::new))
        })
    };
    // These limits are separate from those for clients, so that metrics stay available during an
    // attack.
    let limits = Limits {
        max_connections: 16,
        max_in_flight: 16,
        body_memory: 1 << 20,
        ..Limits::default()
    };
    Listener::new(listener, limits)
        .run(service, pending())
        .await;
}
