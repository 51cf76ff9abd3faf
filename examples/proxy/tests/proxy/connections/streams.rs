//! Bodies are forwarded as they arrive.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use test_support::PATIENCE;
use test_support::http::serve;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::proxy;

#[tokio::test]
async fn responses_are_streamed() {
    let (started, mut senders) = mpsc::unbounded_channel();
    let router = Router::new().route(
        "/trickle",
        axum::routing::get(async move || {
            let (sender, body) = Channel::<Bytes>::new(1);
            started.send(sender).unwrap();
            Body::new(body)
        }),
    );
    let proxy = proxy::start(&format!("http://{}", serve(router).await), &[]).await;
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let mut response = client
        .get(proxy.url("/trickle").parse().unwrap())
        .await
        .unwrap();
    let mut sender = senders.recv().await.unwrap();
    for piece in ["one", "two", "three"] {
        sender.send_data(Bytes::from(piece)).await.unwrap();
        let frame = timeout(PATIENCE, response.body_mut().frame())
            .await
            .expect("the proxy holds the data back")
            .unwrap()
            .unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    drop(sender);
    assert!(
        timeout(PATIENCE, response.body_mut().frame())
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn request_bodies_are_streamed() {
    let (arrived, mut pieces) = mpsc::unbounded_channel();
    let handler = async move |request: Request| {
        let mut body = request.into_body();
        while let Some(frame) = body.frame().await {
            arrived.send(frame.unwrap().into_data().unwrap()).unwrap();
        }
        "done"
    };
    let router = Router::new().route("/upload", axum::routing::put(handler));
    let proxy = proxy::start(&format!("http://{}", serve(router).await), &[]).await;
    let (mut sender, body) = Channel::<Bytes>::new(1);
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = hyper::Request::put(proxy.url("/upload"))
        .body(body)
        .unwrap();
    let response = tokio::spawn(client.request(request));
    for piece in ["one", "two", "three"] {
        sender.send_data(Bytes::from(piece)).await.unwrap();
        let seen = timeout(PATIENCE, pieces.recv())
            .await
            .expect("the proxy holds the data back")
            .unwrap();
        assert_eq!(seen, piece);
    }
    drop(sender);
    let body = response
        .await
        .unwrap()
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes();
    assert_eq!(body, "done");
}

#[tokio::test]
async fn an_upload_that_the_upstream_does_not_read_is_not_buffered() {
    let (arrived, mut uploads) = mpsc::unbounded_channel();
    // Keeps the body without reading it.
    let handler = async move |request: Request| {
        arrived.send(request.into_body()).unwrap();
        std::future::pending::<()>().await;
    };
    let router = Router::new().route("/upload", axum::routing::put(handler));
    let proxy = proxy::start(&format!("http://{}", serve(router).await), &[]).await;
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    stream
        .write_all(b"PUT /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
        .await
        .unwrap();
    let chunk = vec![0; 1 << 20];
    let mut sent = 0;
    while sent < 256
        && timeout(Duration::from_secs(2), stream.write_all(&chunk))
            .await
            .is_ok_and(|r| r.is_ok())
    {
        sent += 1;
    }
    assert!(uploads.recv().await.is_some());
    assert!(
        sent < 64,
        "the proxy buffered {sent} MiB that the upstream did not read"
    );
}
