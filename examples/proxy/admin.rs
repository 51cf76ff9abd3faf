//! The admin server: health and metrics.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::metrics::Scrape;

/// Serves `/healthz` and `/metrics`; for ever.
pub(crate) async fn serve(listener: TcpListener, scrape: Scrape) {
    let metrics =
        move || async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], scrape.render()) };
    let router = Router::new().route("/healthz", get("ok")).route("/metrics", get(metrics));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the admin server ended");
    }
}
