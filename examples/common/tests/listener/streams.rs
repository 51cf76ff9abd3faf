//! Responses that the client does not read.

use std::future::ready;

use bytes::Bytes;
use h2::Reason;
use h2::client::SendRequest;
use http::{Request, StatusCode};
use server_common::listener::{Limits, finish};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use crate::server::{MEDIUM, PATIENCE, SHORT, Server, closed, limits};

/// Connects an HTTP/2 client whose streams have this window. It answers pings.
async fn client(server: &Server, window: u32) -> SendRequest<Bytes> {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window);
    let (client, connection) = builder.handshake(server.connect().await).await.unwrap();
    tokio::spawn(connection);
    client
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://a{path}")).body(()).unwrap()
}

#[tokio::test]
async fn an_unread_http2_response_is_reset_and_its_connection_stays_open() {
    let server = Server::start(Limits {
        stall_timeout: SHORT,
        ..limits()
    })
    .await;
    for path in [
        "/endless",
        "/large",
        "/large-trailers",
        "/large-silence",
        "/small-silence",
    ] {
        for window in [0, 1, 10, 65_535, 100_000] {
            if path == "/small-silence" && window >= 100 {
                // The client has read all data and waits for more, so the stream is not stalled.
                continue;
            }
            let mut client = client(&server, window).await;
            let mut bodies = Vec::new();
            for _ in 0..64 {
                client = client.ready().await.unwrap();
                let (response, _) = client.send_request(get(path), true).unwrap();
                let response = response.await.unwrap();
                assert_eq!(response.status(), StatusCode::OK);
                bodies.push(response.into_body());
            }
            server.bodies(0).await;
            let (response, _) = client
                .ready()
                .await
                .unwrap()
                .send_request(get("/empty"), true)
                .unwrap();
            assert_eq!(
                response.await.unwrap().status(),
                StatusCode::OK,
                "{path} {window}"
            );
        }
    }
}

/// A client learns the limit from the settings, and a stream beyond it is refused, too.
#[tokio::test]
async fn a_connection_has_at_most_64_streams() {
    let server = Server::start(limits()).await;
    let mut builder = h2::client::Builder::new();
    // So many streams are opened before the settings of the server arrive.
    builder.initial_max_send_streams(80);
    let (mut client, connection) = builder
        .handshake::<_, Bytes>(server.connect().await)
        .await
        .unwrap();
    let mut responses = Vec::new();
    for _ in 0..80 {
        client = client.ready().await.unwrap();
        let (response, _) = client.send_request(get("/small-silence"), true).unwrap();
        responses.push(response);
    }
    tokio::spawn(connection);
    let mut open = Vec::new();
    for (number, response) in responses.into_iter().enumerate() {
        match response.await {
            Ok(response) => open.push(response.into_body()),
            Err(error) => assert_eq!(error.reason(), Some(Reason::REFUSED_STREAM), "{number}"),
        }
    }
    assert_eq!(open.len(), 64);
    assert_eq!(client.current_max_send_streams(), 64);
    server.bodies(64).await;
    // A stream that ends makes room for another one.
    open.pop();
    let mut client = client.ready().await.unwrap();
    let (response, _) = client.send_request(get("/"), true).unwrap();
    let response = timeout(PATIENCE, response).await.expect("there is room");
    assert_eq!(response.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_window_that_opens_byte_by_byte_is_not_progress() {
    let server = Server::start(Limits {
        stall_timeout: SHORT,
        ..limits()
    })
    .await;
    let client = client(&server, 10).await;
    let (response, _) = client
        .ready()
        .await
        .unwrap()
        .send_request(get("/endless"), true)
        .unwrap();
    let mut body = response.await.unwrap().into_body();
    let drip = tokio::spawn(async move {
        while let Some(Ok(piece)) = body.data().await {
            tokio::time::sleep(SHORT / 50).await;
            body.flow_control()
                .release_capacity(piece.len().min(1))
                .unwrap();
        }
    });
    server.bodies(0).await;
    drip.abort();
}

#[tokio::test]
async fn a_response_that_is_read_slowly_arrives_in_full() {
    // Each chunk is read within the limit, but all chunks together take longer.
    let server = Server::start(Limits {
        stall_timeout: 5 * MEDIUM,
        ..limits()
    })
    .await;
    let client = client(&server, 16 << 10).await;
    let (response, _) = client
        .ready()
        .await
        .unwrap()
        .send_request(get("/large"), true)
        .unwrap();
    let mut body = response.await.unwrap().into_body();
    let (mut taken, mut paused) = (0, 0);
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        taken += piece.len();
        while paused < taken {
            tokio::time::sleep(MEDIUM / 10).await;
            paused += 16 << 10;
        }
        body.flow_control().release_capacity(piece.len()).unwrap();
    }
    assert_eq!(taken, 1 << 20);
}

#[tokio::test]
async fn an_http1_client_that_stops_reading_is_disconnected() {
    let server = Server::start(Limits {
        stall_timeout: SHORT,
        ..limits()
    })
    .await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(
            server
                .sent(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
                .await,
        );
    }
    for client in &clients {
        client.readable().await.unwrap();
    }
    server.bodies(0).await;
}

#[tokio::test]
async fn rare_events_do_not_stall_a_response() {
    let server = Server::start(Limits {
        stall_timeout: MEDIUM,
        idle_timeout: MEDIUM,
        ..limits()
    })
    .await;
    let client = client(&server, 65_535).await;
    let (response, _) = client
        .ready()
        .await
        .unwrap()
        .send_request(get("/events"), true)
        .unwrap();
    let mut body = response.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "x");
    let mut http1 = server
        .sent(b"GET /events HTTP/1.0\r\nHost: a\r\n\r\n")
        .await;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\nx") {
        head.push(http1.read_u8().await.unwrap());
    }
    for _ in 0..3 {
        // This connection is closed after the limit.
        closed("a silent connection", &mut server.connect().await).await;
    }
    assert_eq!(server.bodies.load(std::sync::atomic::Ordering::SeqCst), 2);
    server.go.add_permits(1000);
    let events = async {
        assert_eq!(body.data().await.unwrap().unwrap(), "x");
        assert_eq!(http1.read_u8().await.unwrap(), b'x');
    };
    tokio::time::timeout(PATIENCE, events)
        .await
        .expect("both clients receive an event");
}

/// A client sees the end of an event stream, and that any other response was cut off.
#[tokio::test]
async fn event_streams_are_ended_properly_at_a_shutdown() {
    let server = Server::start(limits()).await;
    let request = |path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut events = server.sent(request("/event-stream").as_bytes()).await;
    let mut other = server.sent(request("/small-silence").as_bytes()).await;
    let client = client(&server, 65_535).await;
    let (response, _) = client
        .ready()
        .await
        .unwrap()
        .send_request(get("/event-stream"), true)
        .unwrap();
    let mut http2 = response.await.unwrap().into_body();
    assert_eq!(http2.data().await.unwrap().unwrap().len(), 100);
    server.bodies(3).await;
    let connections = server.end().await;
    let finished = finish(connections, SHORT, ready(()), SHORT);
    // A reset would be an error.
    let http2 = async {
        while let Some(data) = http2.data().await {
            assert_eq!(data.unwrap(), "");
        }
    };
    let http1 = closed("an event stream", &mut events);
    let (finished, http1, ()) = tokio::join!(finished, http1, http2);
    assert_eq!(finished, Ok(()));
    assert!(http1.ends_with(b"\r\n0\r\n\r\n"), "{http1:?}");
    let mut part = vec![0; 4096];
    let read = other.read(&mut part).await.unwrap();
    let part = &part[..read];
    assert!(part.starts_with(b"HTTP/1.1 200 "), "{part:?}");
    assert!(!part.ends_with(b"\r\n0\r\n\r\n"), "{part:?}");
}
