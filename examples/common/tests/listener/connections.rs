//! The idle time-out and the number of connections, eviction and shutdown.

use std::time::Duration;

use server_common::listener::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::server::{NEVER, PATIENCE, SHORT, Server, closed, limits, until};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const PING: &[u8] = &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
/// The beginning of a HEADERS frame.
const HEADERS: &[u8] = &[0, 0, 40, 1, 5, 0, 0, 0, 1, 0x82, 0x86];
/// A HEADERS frame that a CONTINUATION frame must follow.
const OPEN_HEADERS: &[u8] = &[0, 0, 2, 1, 1, 0, 0, 0, 1, 0x82, 0x86];
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn a_connection_without_a_complete_head_is_closed() {
    let server = Server::start(Limits {
        idle_timeout: SHORT,
        ..limits()
    })
    .await;
    let rows: [(&str, Vec<u8>); 16] = [
        ("nothing", vec![]),
        ("a byte", b"G".to_vec()),
        ("an empty line", b"\r\n".to_vec()),
        ("a request line", b"GET / HTTP/1.1\r\n".to_vec()),
        (
            "half a head",
            b"GET / HTTP/1.1\r\nHost: a\r\nX-A: ".to_vec(),
        ),
        (
            "a large part of a head",
            [&b"GET / HTTP/1.1\r\nX-A: "[..], &[b'x'; 20_000]].concat(),
        ),
        ("a byte of the preface", b"P".to_vec()),
        ("half a preface", PREFACE[..12].to_vec()),
        ("the preface", PREFACE.to_vec()),
        ("settings", [PREFACE, SETTINGS].concat()),
        ("half a frame", [PREFACE, SETTINGS, &HEADERS[..5]].concat()),
        (
            "a frame whose payload is missing",
            [PREFACE, SETTINGS, HEADERS].concat(),
        ),
        (
            "headers without their end",
            [PREFACE, SETTINGS, OPEN_HEADERS].concat(),
        ),
        (
            "the beginning of TLS",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        ),
        ("an unknown protocol", vec![0xff; 24]),
        ("an invalid preface", [&PREFACE[..20], b"xxxx"].concat()),
    ];
    for (name, bytes) in rows {
        let mut stream = server.sent(&bytes).await;
        closed(name, &mut stream).await;
    }
}

#[tokio::test]
async fn a_kept_alive_connection_is_closed_when_it_is_idle() {
    let server = Server::start(Limits {
        idle_timeout: SHORT,
        ..limits()
    })
    .await;
    for (name, more) in [
        ("nothing more", &b""[..]),
        ("half of another head", b"GET / HTTP/1.1\r\nHost:"),
        ("an empty line", b"\r\n"),
    ] {
        let mut stream = server.sent(GET).await;
        let mut answer = [0; 15];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
        stream.write_all(more).await.unwrap();
        closed(name, &mut stream).await;
    }
    let (client, connection) = h2::client::handshake(server.connect().await).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = http::Request::get("http://a/empty").body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
    // This task also answers pings.
    timeout(PATIENCE, connection)
        .await
        .expect("the HTTP/2 connection without a stream is closed")
        .unwrap()
        .ok();
}

#[tokio::test]
async fn single_bytes_do_not_keep_a_connection_open() {
    let server = Server::start(Limits {
        idle_timeout: SHORT,
        ..limits()
    })
    .await;
    let rows: [(&str, Vec<u8>, &[u8]); 4] = [
        ("a head", b"GET / HTTP/1.1\r\nX-A: ".to_vec(), b"x"),
        ("empty lines", vec![], b"\r\n"),
        ("pings", [PREFACE, SETTINGS].concat(), PING),
        ("settings", [PREFACE, SETTINGS].concat(), SETTINGS),
    ];
    for (name, begin, piece) in rows {
        let (mut read, mut write) = server.sent(&begin).await.into_split();
        let drip = tokio::spawn(async move {
            while write.write_all(piece).await.is_ok() {
                tokio::time::sleep(SHORT / 10).await;
            }
        });
        closed(name, &mut read).await;
        drip.abort();
    }
}

#[tokio::test]
async fn a_connection_with_an_open_request_is_not_idle() {
    let server = Server::start(Limits {
        idle_timeout: SHORT,
        ..limits()
    })
    .await;
    let mut waiting = server
        .sent(b"GET /wait HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    let (client, connection) = h2::client::handshake(server.connect().await).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let (response, _) = client
        .send_request(http::Request::get("http://a/wait").body(()).unwrap(), true)
        .unwrap();
    for _ in 0..5 {
        // This connection is closed after the idle time-out.
        closed("a silent connection", &mut server.connect().await).await;
    }
    server.go.add_permits(2);
    let answer = closed("the response", &mut waiting).await;
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{answer:?}");
    assert_eq!(response.await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_http2_client_that_does_not_answer_pings_is_disconnected() {
    let limits = Limits {
        ping_interval: SHORT,
        ping_timeout: SHORT,
        ..limits()
    };
    let server = Server::start(limits).await;
    // `GET http://a/events` in HPACK without compression.
    let block = b"\x82\x86\x04\x07/events\x41\x01a";
    let headers = [&[0, 0, block.len() as u8, 1, 5, 0, 0, 0, 1][..], block].concat();
    let mut stream = server.sent(&[PREFACE, SETTINGS, &headers].concat()).await;
    server.bodies(1).await;
    closed("unanswered pings", &mut stream).await;
    server.bodies(0).await;
}

#[tokio::test]
async fn new_connections_replace_the_longest_idle_ones() {
    let server = Server::start(Limits {
        max_connections: 8,
        ..limits()
    })
    .await;
    let mut silent = Vec::new();
    for bytes in [&b""[..], b"GET / HT", &PREFACE[..10], PREFACE]
        .iter()
        .cycle()
        .take(50)
    {
        silent.push(server.sent(bytes).await);
    }
    assert!(server.get("/").await.starts_with("HTTP/1.1 200 "));
    // The connection that was accepted first has been idle longest.
    closed("the first silent connection", &mut silent[0]).await;
    // A connection with an open request is not evicted.
    let mut served = server
        .sent(b"GET /wait HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    assert!(server.get("/").await.starts_with("HTTP/1.1 200 "));
    for _ in 0..50 {
        silent.push(server.connect().await);
    }
    assert!(server.get("/").await.starts_with("HTTP/1.1 200 "));
    server.go.add_permits(1);
    let answer = closed("the response", &mut served).await;
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{answer:?}");
}

#[tokio::test]
async fn a_connection_waits_when_all_others_are_in_use() {
    let server = Server::start(Limits {
        max_connections: 2,
        ..limits()
    })
    .await;
    let wait = b"GET /wait HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let mut used = [server.sent(wait).await, server.sent(wait).await];
    let mut third = server
        .sent(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    let mut byte = [0];
    assert!(
        timeout(SHORT, third.read(&mut byte)).await.is_err(),
        "the third connection waits"
    );
    server.go.add_permits(2);
    assert!(
        closed("the third", &mut third)
            .await
            .starts_with(b"HTTP/1.1 200 ")
    );
    for stream in &mut used {
        assert!(
            closed("the others", stream)
                .await
                .starts_with(b"HTTP/1.1 200 ")
        );
    }
}

#[tokio::test]
async fn shutdown_finishes_requests_and_closes_other_connections() {
    let server = Server::start(limits()).await;
    let go = server.go.clone();
    let mut others = Vec::new();
    for bytes in [&b""[..], b"GET / HT", &PREFACE[..10], PREFACE, GET] {
        others.push(server.sent(bytes).await);
    }
    let mut waiting = server.sent(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(
        server.get("/").await.starts_with("HTTP/1.1 200 "),
        "all earlier connections are accepted"
    );
    let mut events = server
        .sent(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    let bodies = server.bodies.clone();
    until("the stream has begun", || {
        bodies.load(std::sync::atomic::Ordering::SeqCst) >= 1
    })
    .await;
    let connections = server.end().await;
    let shutdown = tokio::spawn(connections.shutdown());
    for stream in &mut others {
        closed("a connection without a request", stream).await;
    }
    assert!(!shutdown.is_finished());
    go.add_permits(2);
    let answer = closed("a response", &mut waiting).await;
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{answer:?}");
    events.shutdown().await.unwrap();
    drop(events);
    timeout(PATIENCE, shutdown)
        .await
        .expect("the shutdown completes")
        .unwrap();
}

#[test]
fn the_limits_are_lowered_to_fit_the_descriptors() {
    let limits = Limits {
        max_connections: 10_000,
        max_in_flight: 4096,
        ..Limits::default()
    };
    for (descriptors, connections, in_flight) in [
        (usize::MAX, 10_000, 4096),
        (15_184, 10_000, 4096),
        (15_183, 9999, 4096),
        (1024, 428, 426),
        (256, 86, 85),
        (64, 1, 1),
        (0, 1, 1),
    ] {
        let limits = limits.clone().within(descriptors);
        assert_eq!(
            (limits.max_connections, limits.max_in_flight),
            (connections, in_flight),
            "{descriptors}"
        );
    }
    let few = Limits {
        max_connections: 10,
        max_in_flight: 4096,
        ..Limits::default()
    }
    .within(256);
    assert_eq!((few.max_connections, few.max_in_flight), (10, 85));
}

#[test]
fn flags_accept_counts_and_times_above_zero() {
    use server_common::flags::{count, timeout};
    assert_eq!((count("1"), count("10000")), (Ok(1), Ok(10_000)));
    assert_eq!(
        (timeout("0.5"), timeout("86400")),
        (Ok(Duration::from_millis(500)), Ok(NEVER * 24))
    );
    for wrong in [
        "",
        "0",
        "-1",
        "x",
        "1.5",
        "18446744073709551615",
        "99999999999999999999",
    ] {
        assert!(count(wrong).is_err(), "{wrong}");
    }
    for wrong in [
        "",
        "0",
        "-1",
        "x",
        "inf",
        "NaN",
        "1e99",
        "86401",
        "0.0000000001",
    ] {
        assert!(timeout(wrong).is_err(), "{wrong}");
    }
}
