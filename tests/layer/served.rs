//! The layer served over real HTTP/1 and HTTP/2 connections by axum and hyper, with clients that
//! disconnect.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use test_support::oauth::{post_form, post_form_http2};
use test_support::session::{infallible, layer, session};
use test_support::{Act, Answer, Upstream, refresh_form};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tower::{BoxError, Service, ServiceBuilder};

#[derive(Clone, Copy, Debug)]
enum Protocol {
    Http1,
    Http2,
}

use Protocol::{Http1, Http2};

async fn post(protocol: Protocol, url: &str, form: &[(&str, &str)]) -> Answer {
    let answer: (_, HeaderMap, Value) = match protocol {
        Http1 => post_form(url, form, &[]).await,
        Http2 => post_form_http2(url, form, &[]).await,
    };
    let body = Bytes::from(answer.2.to_string());
    Answer {
        status: answer.0,
        headers: answer.1,
        body,
    }
}

/// Runs [`session`] over connections to `addr`.
async fn session_at(protocol: Protocol, addr: SocketAddr, upstream: &Upstream) {
    session(upstream, async |path: &str, form: &[(&str, &str)]| {
        post(protocol, &format!("http://{addr}{path}"), form).await
    })
    .await;
}

/// The hyper builder that serves a connection.
#[derive(Clone, Copy)]
enum Server {
    Http1,
    Http2,
    Auto,
}

async fn serve<S, B>(server: Server, service: S) -> SocketAddr
where
    S: Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (io, service) = (
                TokioIo::new(stream),
                TowerToHyperService::new(service.clone()),
            );
            tokio::spawn(async move {
                // Errors are ignored, because some tests break their connections.
                match server {
                    Server::Http1 => {
                        drop(
                            hyper::server::conn::http1::Builder::new()
                                .serve_connection(io, service)
                                .await,
                        );
                    }
                    Server::Http2 => {
                        let builder =
                            hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        drop(builder.serve_connection(io, service).await);
                    }
                    Server::Auto => {
                        drop(
                            auto::Builder::new(TokioExecutor::new())
                                .serve_connection(io, service)
                                .await,
                        );
                    }
                }
            });
        }
    });
    addr
}

#[tokio::test]
async fn axum_serves_a_router_with_the_layer() {
    let upstream = Upstream::new();
    let router = Router::new()
        .route_service("/token", infallible::<axum::body::Body>(&upstream))
        .route_service("/revoke", infallible::<axum::body::Body>(&upstream))
        .layer(layer());
    let addr = test_support::http::serve(router).await;
    for protocol in [Http1, Http2] {
        session_at(protocol, addr, &upstream).await;
    }
}

#[tokio::test]
async fn hyper_serves_the_layer_around_a_fallible_service() {
    let upstream = Upstream::new();
    let service = ServiceBuilder::new()
        .layer(layer())
        .service(upstream.clone());
    session_at(
        Http1,
        serve(Server::Http1, service.clone()).await,
        &upstream,
    )
    .await;
    session_at(
        Http2,
        serve(Server::Http2, service.clone()).await,
        &upstream,
    )
    .await;
    let addr = serve(Server::Auto, service).await;
    for protocol in [Http1, Http2] {
        session_at(protocol, addr, &upstream).await;
    }
}

#[tokio::test]
async fn hyper_serves_the_layer_with_concurrency_limits_on_both_sides() {
    let upstream = Upstream::new();
    let service = ServiceBuilder::new()
        .concurrency_limit(2)
        .layer(layer())
        .concurrency_limit(1)
        .service(infallible::<tower_oauth_refresh::RequestBody<Incoming>>(
            &upstream,
        ));
    let addr = serve(Server::Auto, service).await;
    for protocol in [Http1, Http2] {
        session_at(protocol, addr, &upstream).await;
    }
}

#[tokio::test]
async fn a_half_sent_form_gets_408_and_its_connection_is_closed() {
    let layer = tower_oauth_refresh::RefreshLayer::builder(tower_oauth_refresh::MemoryStore::new())
        .request_body_timeout(std::time::Duration::from_millis(200))
        .build()
        .unwrap();
    let upstream = Upstream::new();
    let addr = serve(
        Server::Auto,
        ServiceBuilder::new().layer(layer).service(upstream.clone()),
    )
    .await;
    for (framing, part) in [
        ("content-length: 500", "grant_type=authoriz"),
        ("transfer-encoding: chunked", "5\r\ngrant\r\n"),
    ] {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let head = "POST /token HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-www-form-urlencoded\r\n";
        stream
            .write_all(format!("{head}{framing}\r\n\r\n{part}").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        // Completes only if the server closes the connection.
        stream.read_to_string(&mut answer).await.unwrap();
        let lower = answer.to_ascii_lowercase();
        assert!(
            lower.starts_with("http/1.1 408 ") && lower.contains("\r\nconnection: close\r\n"),
            "{answer}"
        );
        assert!(answer.contains(r#""error":"invalid_request""#), "{answer}");
    }
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn an_inner_error_closes_the_connection_and_keeps_the_grant() {
    let upstream = Upstream::new();
    let addr = serve(
        Server::Auto,
        ServiceBuilder::new()
            .layer(layer())
            .service(upstream.clone()),
    )
    .await;
    let url = format!("http://{addr}/token");
    for protocol in [Http1, Http2] {
        let token = post(protocol, &url, &[("grant_type", "x"), ("client_id", "app")])
            .await
            .token();
        upstream.then(Act::Break);
        let (broken_url, broken_token) = (url.clone(), token.clone());
        let broken = tokio::spawn(async move {
            post(protocol, &broken_url, &refresh_form("app", &broken_token)).await;
        });
        assert!(broken.await.is_err(), "{protocol:?}: got a response");
        post(protocol, &url, &refresh_form("app", &token))
            .await
            .token();
    }
    assert_eq!(upstream.reuses(), 0);
}

/// A guard that notifies when a request is dropped before it is answered.
struct Dropped(Option<Arc<Notify>>);

impl Dropped {
    fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        if let Some(notify) = &self.0 {
            notify.notify_one();
        }
    }
}

#[tokio::test]
async fn a_client_that_disconnects_during_a_rotation_gets_its_response_on_retry() {
    let upstream = Upstream::new();
    let layer = layer();
    let dropped = Arc::new(Notify::new());
    let notify = Arc::clone(&dropped);
    let service = ServiceBuilder::new()
        .map_future(move |future| {
            let dropped = Dropped(Some(Arc::clone(&notify)));
            async move {
                let answer: Result<_, BoxError> = future.await;
                dropped.answered();
                answer
            }
        })
        .layer(layer.clone())
        .service(upstream.clone());
    let url = format!("http://{}/token", serve(Server::Auto, service).await);
    for protocol in [Http1, Http2] {
        let refreshes = upstream.refreshes();
        let token = post(protocol, &url, &[("grant_type", "x"), ("client_id", "app")])
            .await
            .token();
        let gate = Arc::new(Notify::new());
        upstream.then(Act::Wait(Arc::clone(&gate)));
        // A client with a runtime of its own, which can be stopped with all its connections.
        let client = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (lost_url, lost_token) = (url.clone(), token.clone());
        client.spawn(
            async move { post(protocol, &lost_url, &refresh_form("app", &lost_token)).await },
        );
        while upstream.refreshes() == refreshes {
            tokio::task::yield_now().await;
        }
        client.shutdown_background();
        dropped.notified().await;
        // The rotation now runs in a background task. It may complete before or after the retry
        // arrives.
        let (retry_url, retry_token) = (url.clone(), token.clone());
        let retry = tokio::spawn(async move {
            post(protocol, &retry_url, &refresh_form("app", &retry_token)).await
        });
        gate.notify_one();
        let next = retry.await.unwrap().token();
        layer.drain().await;
        post(protocol, &url, &refresh_form("app", &next))
            .await
            .token();
        assert_eq!(upstream.refreshes(), refreshes + 2, "{protocol:?}");
    }
    assert_eq!(upstream.reuses(), 0);
}
