//! The admin server: health and metrics.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

/// Serves `/healthz` and `/metrics`; for ever.
pub(crate) async fn serve(listener: TcpListener, handle: PrometheusHandle) {
    let metrics =
        move || async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], handle.render()) };
    let router = Router::new().route("/healthz", get("ok")).route("/metrics", get(metrics));
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the admin server ended");
    }
}
