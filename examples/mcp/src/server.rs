//! Serves HTTP connections with the router.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use server_common::listener::{Connections, Listener, RequestBody};
use tower::{ServiceExt as _, service_fn};

/// Serves connections until `end` completes. Returns the connections that are still open.
pub(crate) async fn run(
    router: Router,
    listener: Listener,
    end: impl Future<Output = ()>,
) -> Connections {
    let service = |client: SocketAddr| {
        let router = router.clone();
        service_fn(move |mut request: Request<RequestBody>| {
            request.extensions_mut().insert(ConnectInfo(client));
            router.clone().oneshot(request.map(Body::new))
        })
    };
    listener.run(service, end).await
}
