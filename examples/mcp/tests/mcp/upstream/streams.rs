//! Bodies that are streamed, and their end.

use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Channel};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use test_support::PATIENCE;
use test_support::http::serve;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Fixture;
use crate::support::identity::Identity;
use crate::support::mcp::{self};
use crate::support::mcp_client::McpClient;

#[tokio::test]
async fn bodies_stream_in_both_directions() {
    // Echoes each part of the body as it arrives.
    let echo = async |request: Request| -> Response {
        let (sender, receiver) = mpsc::channel::<Bytes>(1);
        let (mut into, body) = Channel::<Bytes, Infallible>::new(1);
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(Ok(frame)) = body.frame().await {
                if let Ok(data) = frame.into_data() {
                    sender.send(data).await.unwrap();
                }
            }
        });
        tokio::spawn(async move {
            let mut receiver = receiver;
            while let Some(data) = receiver.recv().await {
                into.send_data(data).await.unwrap();
            }
        });
        ([("content-type", "text/event-stream")], Body::new(body)).into_response()
    };
    let upstream = serve(Router::new().route("/mcp", axum::routing::post(echo))).await;
    let fixture = Fixture::start(&format!("http://{upstream}/mcp"), &[]).await;

    let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
    let request = hyper::Request::post(fixture.server.url("/mcp"))
        .header("authorization", format!("Bearer {}", fixture.access))
        .body(body)
        .unwrap();
    let client: Client<_, _> = Client::builder(TokioExecutor::new()).build_http();
    let response = timeout(PATIENCE, client.request(request))
        .await
        .expect("the response begins before the request has ended")
        .unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    for part in ["data: one\n\n", "data: two\n\n"] {
        sender.send_data(part.into()).await.unwrap();
        let frame = timeout(PATIENCE, body.frame())
            .await
            .expect("each part is forwarded on its own")
            .unwrap()
            .unwrap();
        assert_eq!(frame.into_data().unwrap(), part);
    }
    drop(sender);
    assert!(
        timeout(PATIENCE, body.frame())
            .await
            .expect("the end")
            .is_none()
    );
}

/// The upstream server would keep the stream open.
#[tokio::test]
async fn a_stream_is_ended_properly_at_a_shutdown() {
    let (started, mut senders) = mpsc::unbounded_channel();
    let events = async move || -> Response {
        let (sender, body) = Channel::<Bytes, Infallible>::new(1);
        started.send(sender).unwrap();
        ([("content-type", "text/event-stream")], Body::new(body)).into_response()
    };
    let upstream = serve(Router::new().route("/mcp", axum::routing::get(events))).await;
    let limit = ["--shutdown-timeout", "0.2"];
    let mut fixture = Fixture::start(&format!("http://{upstream}/mcp"), &limit).await;
    let request = hyper::Request::get(fixture.server.url("/mcp"))
        .header("authorization", format!("Bearer {}", fixture.access))
        .body(http_body_util::Empty::<Bytes>::new())
        .unwrap();
    let http: Client<_, _> = Client::builder(TokioExecutor::new()).build_http();
    let mut body = http.request(request).await.unwrap().into_body();
    let mut sender = senders.recv().await.unwrap();
    sender.send_data("data: x\n\n".into()).await.unwrap();
    let frame = timeout(PATIENCE, body.frame()).await.unwrap().unwrap();
    assert_eq!(frame.unwrap().into_data().unwrap(), "data: x\n\n");
    fixture.server.terminate();
    let end = timeout(PATIENCE, body.frame()).await.unwrap();
    assert!(end.is_none(), "{end:?}");
    let status = fixture.server.ended(PATIENCE).await;
    assert!(status.success(), "{:?}", fixture.server);
}

#[tokio::test]
async fn a_stream_ends_when_the_client_revokes_its_session() {
    let (started, mut senders) = mpsc::unbounded_channel();
    let events = async move || -> Response {
        let (sender, body) = Channel::<Bytes, Infallible>::new(1);
        started.send(sender).unwrap();
        ([("content-type", "text/event-stream")], Body::new(body)).into_response()
    };
    let upstream = serve(Router::new().route("/mcp", axum::routing::get(events))).await;
    let identity = Identity::start().await;
    let mut flags = identity.flags();
    let url = format!("http://{upstream}/mcp");
    flags.extend(["--mcp-upstream", &url, "--cache-ttl", "3600"].map(str::to_owned));
    let server = mcp::start(&flags).await;
    let client = McpClient::register(&server).await;
    let tokens = client.log_in(&server).await;
    let request = hyper::Request::get(server.url("/mcp"))
        .header(
            "authorization",
            format!("Bearer {}", tokens.string("access_token")),
        )
        .header("accept", "text/event-stream")
        .body(http_body_util::Empty::<Bytes>::new())
        .unwrap();
    let http: Client<_, _> = Client::builder(TokioExecutor::new()).build_http();
    let mut body = http.request(request).await.unwrap().into_body();
    let mut sender = senders.recv().await.unwrap();
    for _ in 0..2 {
        sender.send_data("data: x\n\n".into()).await.unwrap();
        assert_eq!(
            timeout(PATIENCE, body.frame())
                .await
                .unwrap()
                .unwrap()
                .unwrap()
                .into_data()
                .unwrap(),
            "data: x\n\n"
        );
    }
    assert_eq!(
        client
            .revoke(&server, &tokens.string("refresh_token"))
            .await
            .status,
        StatusCode::OK
    );
    let end = timeout(PATIENCE, body.frame())
        .await
        .expect("the stream ends with its session");
    assert!(
        end.is_some_and(|frame| frame.is_err()),
        "the body must not end as if it were complete"
    );
}
