//! Guarded requests and responses are forwarded like others.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::routing::{get as on_get, post as on_post, put as on_put};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::channel::Channel;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use test_support::PATIENCE;
use test_support::access::LOG_IN;
use test_support::http::{Recorder, post, send, serve};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::GUARDED;
use crate::proxy;

#[tokio::test]
async fn a_guarded_request_has_the_same_headers_as_an_unguarded_one() {
    let upstream = Recorder::start(|_| {
        let body = r#"{"access_token":"own","token_type":"Bearer","expires_in":60}"#;
        (
            [
                ("content-type", "application/json"),
                ("connection", "x-hop"),
                ("x-hop", "1"),
                ("x-end", "1"),
            ],
            body,
        )
    })
    .await;
    let proxy = proxy::start(&upstream.url(), &GUARDED).await;
    let token = post(&proxy.url("/token"), &LOG_IN)
        .await
        .string("access_token");
    let bearer = format!("Bearer {token}");
    let headers = [
        ("authorization", &*bearer),
        ("connection", "x-hop, keep-alive"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-end", "1"),
    ];
    let guarded = send("POST", &proxy.url("/api/x"), &headers, "body").await;
    let open = send("POST", &proxy.url("/open/x"), &headers, "body").await;
    for answer in [&guarded, &open] {
        assert_eq!(
            (answer.status, answer.headers.get("x-hop")),
            (StatusCode::OK, None),
            "{answer:?}"
        );
        assert_eq!(answer.headers["x-end"], "1");
    }
    let (mut guarded, mut open) = (upstream.last("/api/x"), upstream.last("/open/x"));
    assert_eq!(
        guarded.headers.remove("authorization").unwrap(),
        "Bearer own"
    );
    assert_eq!(open.headers.remove("authorization").unwrap(), *bearer);
    assert_eq!(
        (&guarded.headers, &guarded.body),
        (&open.headers, &open.body)
    );
    assert!(
        !guarded.headers.contains_key("x-hop") && guarded.headers.contains_key("x-end"),
        "{guarded:?}"
    );
}

#[tokio::test]
async fn guarded_requests_and_responses_are_streamed() {
    let (started, mut senders) = mpsc::unbounded_channel();
    let trickle = async move || {
        let (sender, body) = Channel::<Bytes>::new(1);
        started.send(sender).unwrap();
        Body::new(body)
    };
    let (arrived, mut pieces) = mpsc::unbounded_channel();
    let upload = async move |request: Request| {
        let mut body = request.into_body();
        while let Some(frame) = body.frame().await {
            arrived.send(frame.unwrap().into_data().unwrap()).unwrap();
        }
        "done"
    };
    let tokens = async || {
        axum::Json(json!({ "access_token": "own", "token_type": "Bearer", "expires_in": 60 }))
    };
    let router = Router::new()
        .route("/token", on_post(tokens))
        .route("/api/trickle", on_get(trickle))
        .route("/api/upload", on_put(upload));
    let proxy = proxy::start(&format!("http://{}", serve(router).await), &GUARDED).await;
    let bearer = format!(
        "Bearer {}",
        post(&proxy.url("/token"), &LOG_IN)
            .await
            .string("access_token")
    );
    let client = Client::builder(TokioExecutor::new()).build_http();

    // The upload is forwarded only after the store lookup of its token, the download uses the
    // cache.
    let (mut sender, body) = Channel::<Bytes>::new(1);
    let request = hyper::Request::put(proxy.url("/api/upload")).header("authorization", &bearer);
    let response = tokio::spawn(client.request(request.body(body).unwrap()));
    for piece in ["one", "two", "three"] {
        sender.send_data(Bytes::from(piece)).await.unwrap();
        assert_eq!(
            timeout(PATIENCE, pieces.recv())
                .await
                .expect("the proxy holds the data back")
                .unwrap(),
            piece
        );
    }
    drop(sender);
    assert_eq!(
        response
            .await
            .unwrap()
            .unwrap()
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes(),
        "done"
    );

    let request = hyper::Request::get(proxy.url("/api/trickle")).header("authorization", &bearer);
    let (_, body) = Channel::<Bytes>::new(1);
    let mut response = client.request(request.body(body).unwrap()).await.unwrap();
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
