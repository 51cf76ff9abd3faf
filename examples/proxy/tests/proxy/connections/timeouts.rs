//! The time limit of the upstream.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use bytes::Bytes;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use test_support::PATIENCE;
use test_support::http::{post, send, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::proxy;

/// Flags for tests in which every request with the time limit must time out.
const SHORT: [&str; 2] = ["--upstream-timeout", "0.3"];

/// Waits until a request that the upstream never answers has timed out. Any earlier request with
/// the time limit would have timed out, too.
async fn timed_out(url: &str) {
    let answer = send("GET", url, &[], "").await;
    assert_eq!(
        answer.status,
        StatusCode::GATEWAY_TIMEOUT,
        "{}",
        answer.text()
    );
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.string("error"), "server_error");
}

async fn never() {
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn the_client_gets_504_if_the_upstream_does_not_respond() {
    // The upstream reads the whole request, or nothing of it.
    let read = async |request: Request| {
        request.into_body().collect().await.unwrap();
        never().await;
    };
    let (keep, _kept) = mpsc::unbounded_channel();
    let ignore = async move |request: Request| {
        keep.send(request.into_body()).unwrap();
        never().await;
    };
    let router = Router::new()
        .route("/read", axum::routing::any(read))
        .fallback(ignore);
    let proxy = proxy::start(&format!("http://{}", serve(router).await), &SHORT).await;
    timed_out(&proxy.url("/read")).await;
    timed_out(&proxy.url("/ignored")).await;
    for (path, length) in [
        ("/read", 10),
        ("/read", 1 << 20),
        ("/ignored", 10),
        ("/ignored", 64 << 20),
    ] {
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        let head = format!(
            "PUT {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        let (mut reader, mut writer) = stream.split();
        let write = async {
            let _ = writer.write_all(head.as_bytes()).await;
            let _ = writer.write_all(&vec![b'x'; length]).await;
            std::future::pending::<()>().await;
        };
        let mut answer = vec![0; 12];
        tokio::select! {
            read = reader.read_exact(&mut answer) => assert!(read.is_ok(), "{path} {length}"),
            () = write => {}
        }
        assert_eq!(answer, b"HTTP/1.1 504", "{path} {length}");
    }
}

#[tokio::test]
async fn slow_bodies_that_make_progress_do_not_time_out() {
    let (started, mut senders) = mpsc::unbounded_channel();
    let download = async move || {
        let (sender, body) = Channel::<Bytes>::new(1);
        started.send(sender).unwrap();
        Body::new(body)
    };
    let upload = async |request: Request| request.into_body().collect().await.unwrap().to_bytes();
    let router = Router::new()
        .route("/download", axum::routing::get(download))
        .route("/upload", axum::routing::put(upload))
        .route("/never", axum::routing::get(never));
    // Long enough for an immediate response on a busy machine.
    let flags = ["--upstream-timeout", "10"];
    let proxy = proxy::start(&format!("http://{}", serve(router).await), &flags).await;

    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let mut response = client
        .get(proxy.url("/download").parse().unwrap())
        .await
        .unwrap();
    let mut down = senders.recv().await.unwrap();
    let (mut up, body) = Channel::<Bytes>::new(1);
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = hyper::Request::put(proxy.url("/upload"))
        .body(body)
        .unwrap();
    let uploaded = tokio::spawn(client.request(request));
    for piece in ["one", "two"] {
        if piece == "two" {
            timed_out(&proxy.url("/never")).await;
        }
        up.send_data(Bytes::from(piece)).await.unwrap();
        down.send_data(Bytes::from(piece)).await.unwrap();
        let frame = timeout(PATIENCE, response.body_mut().frame())
            .await
            .expect("the proxy holds the data back")
            .unwrap()
            .unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    drop(up);
    let body = uploaded
        .await
        .unwrap()
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap()
        .to_bytes();
    assert_eq!(body, "onetwo");
}

#[tokio::test]
async fn the_upstream_timeout_does_not_apply_to_guarded_endpoints() {
    let (go_on, going_on) = tokio::sync::watch::channel(false);
    let token = async move || {
        going_on.clone().wait_for(|go_on| *go_on).await.unwrap();
        r#"{"access_token":"a","token_type":"Bearer"}"#
    };
    let router = Router::new()
        .route("/token", axum::routing::post(token))
        .route("/never", axum::routing::get(never));
    let flags = [&SHORT[..], &["--rotation-timeout", "30"]].concat();
    let proxy = proxy::start(&format!("http://{}", serve(router).await), &flags).await;
    let url = proxy.url("/token");
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", "c"),
        ("code", "x"),
    ];
    let answer = tokio::spawn(async move { post(&url, &form).await });
    timed_out(&proxy.url("/never")).await;
    timed_out(&proxy.url("/never")).await;
    go_on.send(true).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
}
