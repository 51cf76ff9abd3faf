//! Request bodies, requests in flight, and methods.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use server_common::listener::Limits;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::server::{MEDIUM, PATIENCE, SHORT, Server, closed, limits};

fn post(path: &str, length: usize, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

fn assert_busy(answer: &str) {
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let lower = answer.to_lowercase();
    for part in [
        "\r\nretry-after: 1\r\n",
        "\r\ncache-control: no-store\r\n",
        "\"error\":\"temporarily_unavailable\"",
    ] {
        assert!(lower.contains(part), "{part}: {answer}");
    }
}

#[tokio::test]
async fn requests_above_the_limit_get_503_until_a_response_is_finished() {
    let server = Server::start(Limits {
        max_in_flight: 2,
        ..limits()
    })
    .await;
    let first = server
        .sent(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    server.bodies(1).await;
    let mut second = loop {
        let second = server
            .sent(b"GET /wait HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .await;
        let answer = server.get("/").await;
        if !answer.starts_with("HTTP/1.1 200 ") {
            assert_busy(&answer);
            break second;
        }
        // The first request did not arrive before the second, or was refused itself.
    };
    // Disconnecting drops the response body, which ends the request.
    drop(first);
    server.bodies(0).await;
    until_answered(&server).await;
    server.go.add_permits(1);
    closed("the second", &mut second).await;
}

async fn until_answered(server: &Server) {
    let mut answer = server.get("/").await;
    while !answer.starts_with("HTTP/1.1 200 ") {
        assert_busy(&answer);
        answer = server.get("/").await;
    }
}

/// Sends a request whose body uses 60,000 of the 100,000 available bytes, and waits until the
/// server holds them.
async fn hold(server: &Server, request: &str) -> TcpStream {
    let holding = async {
        loop {
            let holder = server.sent(request.as_bytes()).await;
            let answer = server
                .send(&post("/buffer", 60_000, &"x".repeat(60_000)))
                .await;
            if !answer.starts_with("HTTP/1.1 200 ") {
                assert_busy(&answer);
                return holder;
            }
            // The first request did not arrive before the second, or was refused itself.
        }
    };
    timeout(PATIENCE, holding)
        .await
        .expect("the memory is limited")
}

#[tokio::test]
async fn bodies_above_the_memory_limit_get_503_until_a_request_is_finished() {
    let server = Server::start(Limits {
        body_memory: 100_000,
        ..limits()
    })
    .await;
    let half = "x".repeat(60_000);
    // A Content-Length uses no memory before the body arrives.
    let announced = server
        .sent(post("/buffer", 10_000_000, "").as_bytes())
        .await;
    let holder = hold(&server, &post("/buffer", 60_001, &half)).await;
    let small = server.send(&post("/buffer", 10_000, &half[..10_000])).await;
    assert!(
        small.ends_with("\r\n\r\n10000"),
        "a body that fits into the rest is served: {small}"
    );
    drop(holder);
    let mut answer = server.send(&post("/buffer", 60_000, &half)).await;
    while !answer.starts_with("HTTP/1.1 200 ") {
        answer = server.send(&post("/buffer", 60_000, &half)).await;
    }
    assert!(answer.ends_with("\r\n\r\n60000"), "{answer}");
    drop(announced);
}

#[tokio::test]
async fn bodies_are_counted_until_the_response_begins() {
    let server = Server::start(Limits {
        body_memory: 100_000,
        ..limits()
    })
    .await;
    let whole = "x".repeat(60_000);
    let mut holder = hold(&server, &post("/buffer-wait", 60_000, &whole)).await;
    server.go.add_permits(1);
    assert!(closed("the holder", &mut holder).await.ends_with(b"xxxx"));
    let answer = server.send(&post("/buffer", 60_000, &whole)).await;
    assert!(answer.ends_with("\r\n\r\n60000"), "{answer}");
}

#[tokio::test]
async fn only_the_held_part_of_a_body_counts() {
    let server = Server::start(Limits {
        body_memory: 1000,
        body_held: 1000,
        ..limits()
    })
    .await;
    let answer = server
        .send(&post("/buffer", 1_000_000, &"x".repeat(1_000_000)))
        .await;
    assert!(answer.ends_with("\r\n\r\n1000000"), "{answer}");
}

#[tokio::test]
async fn a_stalled_request_body_gets_408() {
    let server = Server::start(Limits {
        stall_timeout: SHORT,
        ..limits()
    })
    .await;
    for body in ["", "x", &"x".repeat(5000)] {
        let answer = server.send(&post("/buffer", 10_000, body)).await;
        assert!(
            answer.starts_with("HTTP/1.1 408 ") && answer.contains("invalid_request"),
            "{answer}"
        );
    }
    let chunked =
        "POST /buffer HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    assert!(server.send(chunked).await.starts_with("HTTP/1.1 408 "));

    let (client, connection) = h2::client::handshake(server.connect().await).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://a/buffer").body(()).unwrap();
    let (response, mut body) = client
        .ready()
        .await
        .unwrap()
        .send_request(request, false)
        .unwrap();
    body.send_data(Bytes::from_static(b"half"), false).unwrap();
    assert_eq!(
        response.await.unwrap().status(),
        StatusCode::REQUEST_TIMEOUT
    );
}

#[tokio::test]
async fn a_body_that_arrives_in_chunks_is_not_stalled() {
    let server = Server::start(Limits {
        stall_timeout: 5 * MEDIUM,
        ..limits()
    })
    .await;
    let mut stream = server.sent(post("/buffer", 20 << 14, "").as_bytes()).await;
    for _ in 0..20 {
        tokio::time::sleep(MEDIUM / 3).await;
        stream.write_all(&[b'x'; 1 << 14]).await.unwrap();
    }
    let answer = closed("the response", &mut stream).await;
    assert!(
        answer.ends_with(b"\r\n\r\n327680"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

#[tokio::test]
async fn a_body_that_arrives_byte_by_byte_is_stalled() {
    let server = Server::start(Limits {
        stall_timeout: MEDIUM,
        ..limits()
    })
    .await;
    let (client, connection) = h2::client::handshake(server.connect().await).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    // The number of bytes that arrive at once before the single bytes.
    for first in [0, 1, (16 << 10) - 1, 60_000] {
        let request = Request::post("http://a/buffer").body(()).unwrap();
        client = client.ready().await.unwrap();
        let (mut response, mut body) = client.send_request(request, false).unwrap();
        body.send_data(vec![b'x'; first].into(), false).unwrap();
        let answered = async {
            loop {
                tokio::select! {
                    answer = &mut response => return answer.unwrap(),
                    () = tokio::time::sleep(SHORT / 4) => {
                        // The server may already have reset the stream.
                        let _ = body.send_data(Bytes::from_static(b"x"), false);
                    }
                }
            }
        };
        let answer = timeout(PATIENCE, answered)
            .await
            .expect("single bytes do not keep the body open");
        assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT, "{first}");
    }
}

#[tokio::test]
async fn a_lower_case_method_gets_400() {
    let server = Server::start(limits()).await;
    let (client, connection) = h2::client::handshake(server.connect().await).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    for (method, status) in [
        ("post", 400),
        ("Post", 400),
        ("POSt", 400),
        ("get", 400),
        ("gET", 400),
        ("delete", 400),
        ("post1", 400),
        ("P0ST", 400),
        ("POST_", 400),
        ("POST", 200),
        ("GET", 200),
        ("PROPFIND", 200),
        ("VERSION-CONTROL", 200),
    ] {
        let answer = server
            .send(&format!(
                "{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            ))
            .await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{method}: {answer}"
        );
        assert_eq!(
            answer.contains("\"error\":\"invalid_request\""),
            status == 400,
            "{method}: {answer}"
        );
        let request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .uri("http://a/");
        client = client.ready().await.unwrap();
        let (response, _) = client
            .send_request(request.body(()).unwrap(), true)
            .unwrap();
        assert_eq!(response.await.unwrap().status(), status, "{method}");
    }
}
