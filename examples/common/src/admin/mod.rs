//! The admin server: health, metrics, and with a token an API and a page for operators.
//!
//! Its address belongs in a private network. Health and metrics need no token, because they name no
//! user. The rest needs [`Console::token`], and exists only with it.

mod api;
mod page;

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower::{ServiceExt as _, service_fn};

use crate::bearer::BearerToken;
use crate::listener::{Limits, Listener, RequestBody, limit_body_time};
use crate::metrics::{Metrics, Scrape};
use crate::sessions::Sessions;

/// The time limit for a request body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The most requests with a body that are read at the same time. The others keep places for
/// requests without one: health and metrics.
const MOST_WITH_BODY: usize = 16;

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
    let with_body = Arc::new(Semaphore::new(MOST_WITH_BODY));
    let service = |_| {
        let (router, with_body) = (router.clone(), Arc::clone(&with_body));
        service_fn(move |request: Request<RequestBody>| {
            let (router, with_body) = (router.clone(), Arc::clone(&with_body));
            async move {
                let has_body = !request.body().is_end_stream();
                let permit = has_body.then(|| with_body.try_acquire());
                if permit.as_ref().is_some_and(Result::is_err) {
                    return Ok(busy());
                }
                let request = limit_body_time(request, BODY_TIMEOUT);
                router.oneshot(request.map(Body::new)).await
            }
        })
    };
    // These limits are separate from those for clients, so that metrics stay available during an
    // attack.
    let limits = Limits {
        max_connections: 32,
        max_in_flight: 32,
        body_memory: 1 << 20,
        stall_timeout: BODY_TIMEOUT,
        ..Limits::default()
    };
    Listener::new(listener, limits)
        .run(service, pending())
        .await;
}

fn busy() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")]).into_response()
}
