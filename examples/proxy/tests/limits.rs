//! Attackers that hold as many resources of the proxy as they can, while an honest client is
//! served.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt as _;
use test_support::PATIENCE;
use test_support::http::{Recorder, get, send, serve};
use test_support::limits::{self, answered, until};
use test_support::process::Example;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::{Interval, interval, timeout};

const PROGRAM: &str = env!("CARGO_BIN_EXE_oauth-refresh-proxy");

async fn start(descriptors: u32, upstream: SocketAddr, flags: &'static [&'static str]) -> Example {
    let upstream = format!("http://{upstream}");
    let start = move || {
        let args = ["--listen", "127.0.0.1:0", "--upstream", &*upstream];
        Example::start_within(descriptors, PROGRAM, &[&args, flags].concat())
    };
    spawn_blocking(start).await.unwrap()
}

/// An endless body with a chunk every 20 ms.
struct Endless {
    piece: Bytes,
    interval: Interval,
    count: Arc<AtomicUsize>,
}

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.interval.poll_tick(cx));
        Poll::Ready(Some(Ok(Frame::data(self.piece.clone()))))
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Starts an upstream with endless responses in chunks of this length. Also returns the number of
/// open responses.
async fn endless(piece: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let open = Arc::clone(&count);
    let piece = Bytes::from(vec![0; piece]);
    let endless = move || {
        open.fetch_add(1, Ordering::SeqCst);
        let interval = interval(Duration::from_millis(20));
        let body = Endless {
            piece: piece.clone(),
            interval,
            count: Arc::clone(&open),
        };
        async { Body::new(body) }
    };
    let router = Router::new()
        .route("/endless", axum::routing::get(endless))
        .fallback(async || "honest");
    (serve(router).await, count)
}

#[tokio::test]
async fn http2_windows_of_zero_do_not_hold_upstream_connections() {
    let (upstream, open) = endless(1024).await;
    for (descriptors, at_once) in [(1024, 6 * 64), (256, 85)] {
        let proxy = start(descriptors, upstream, &["--stall-timeout", "10"]).await;
        let (mut clients, mut streams) = (Vec::new(), Vec::new());
        for _ in 0..6 {
            let stream = TcpStream::connect(proxy.addr()).await.unwrap();
            let mut builder = h2::client::Builder::new();
            builder.initial_window_size(0);
            let (mut client, connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
            // Answers pings, too.
            tokio::spawn(connection);
            // Opens as many streams as the settings of the server allow.
            for _ in 0..64 {
                let request = http::Request::get(proxy.url("/endless")).body(()).unwrap();
                client = client.ready().await.unwrap();
                streams.push(client.send_request(request, true).unwrap());
            }
            clients.push(client);
        }
        until(
            "the attack holds all connections to the upstream that it can",
            || open.load(Ordering::SeqCst) >= at_once,
        )
        .await;
        answered(&proxy, "/x").await;
        until("all connections to the upstream are released", || {
            open.load(Ordering::SeqCst) == 0
        })
        .await;
    }
}

#[tokio::test]
async fn unread_http2_streams_are_reset_while_their_connection_stays_open() {
    let (upstream, open) = endless(1024).await;
    let proxy = start(1024, upstream, &["--stall-timeout", "1"]).await;
    let stream = TcpStream::connect(proxy.addr()).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(1000);
    let (mut client, connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
    tokio::spawn(connection);
    let mut bodies = Vec::new();
    for _ in 0..64 {
        let request = http::Request::get(proxy.url("/endless")).body(()).unwrap();
        client = client.ready().await.unwrap();
        bodies.push(
            client
                .send_request(request, true)
                .unwrap()
                .0
                .await
                .unwrap()
                .into_body(),
        );
    }
    until("all connections to the upstream are released", || {
        open.load(Ordering::SeqCst) == 0
    })
    .await;
    for mut body in bodies {
        let end = async {
            // Reads the data that fits into the window, and then the reset.
            while let Some(Ok(_)) = body.data().await {}
        };
        timeout(PATIENCE, end).await.expect("the stream is reset");
    }
}

#[tokio::test]
async fn http1_clients_that_stop_reading_are_disconnected() {
    let (upstream, open) = endless(1 << 20).await;
    let proxy = start(1024, upstream, &["--stall-timeout", "1"]).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        stream
            .write_all(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        clients.push(stream);
    }
    for client in &clients {
        client.readable().await.unwrap();
    }
    answered(&proxy, "/x").await;
    until("all connections to the upstream are released", || {
        open.load(Ordering::SeqCst) == 0
    })
    .await;
}

/// Starts an upstream that reads request bodies. Also returns the number of bytes that it has read.
async fn counting() -> (SocketAddr, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let read = move |mut body: Body| {
        let counted = Arc::clone(&counted);
        async move {
            while let Some(Ok(frame)) = body.frame().await {
                counted.fetch_add(frame.data_ref().map_or(0, Bytes::len), Ordering::SeqCst);
            }
            "read"
        }
    };
    (serve(Router::new().fallback(read)).await, count)
}

/// Begins an upload of a gigabyte.
async fn upload(server: &Example, content_type: &str, begin: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    let head = format!("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\n");
    let request = format!("{head}Content-Length: 1000000000\r\n\r\n{begin}");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn refresh(server: &Example) -> StatusCode {
    let form = [
        "grant_type=refresh_token&refresh_token=",
        &"x".repeat(59_000),
    ]
    .concat();
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    send("POST", &server.url("/token"), &headers, form)
        .await
        .status
}

const FEW_BODIES: &[&str] = &["--body-memory", "100000"];
const FEW_CHECKED_BODIES: &[&str] = &["--body-memory", "100000", "--reference-access-tokens"];

#[tokio::test]
async fn streamed_uploads_do_not_use_the_memory_for_bodies() {
    let (upstream, read) = counting().await;
    for (flags, content_type) in [
        (FEW_BODIES, "application/octet-stream"),
        (FEW_BODIES, "application/x-www-form-urlencoded"),
        (FEW_CHECKED_BODIES, "application/octet-stream"),
        (FEW_CHECKED_BODIES, "application/x-www-form-urlencoded"),
        (FEW_CHECKED_BODIES, "multipart/form-data; boundary=x"),
    ] {
        let proxy = start(1024, upstream, flags).await;
        let begin = "a=b&".repeat(15_000);
        let before = read.load(Ordering::SeqCst);
        let mut uploads = Vec::new();
        for _ in 0..8 {
            uploads.push(upload(&proxy, content_type, &begin).await);
        }
        // The check of a form may hold back a few bytes.
        let passed_on = before + 8 * (begin.len() - 100);
        until("the upstream has received all uploads", || {
            read.load(Ordering::SeqCst) >= passed_on
        })
        .await;
        assert_ne!(
            refresh(&proxy).await,
            StatusCode::SERVICE_UNAVAILABLE,
            "{content_type}: {proxy:?}"
        );
    }
}

#[tokio::test]
async fn held_back_bytes_of_a_checked_upload_use_the_memory_for_bodies() {
    let (upstream, _) = counting().await;
    let proxy = start(1024, upstream, FEW_CHECKED_BODIES).await;
    let begin = format!("request={}", "x".repeat(60_000));
    let holding = async {
        loop {
            let held = upload(&proxy, "application/x-www-form-urlencoded", &begin).await;
            if refresh(&proxy).await == StatusCode::SERVICE_UNAVAILABLE {
                return held;
            }
            // The upload did not arrive before the request, or was refused itself.
        }
    };
    let held = timeout(PATIENCE, holding)
        .await
        .expect("held back bytes count");
    drop(held);
    let served = async { while refresh(&proxy).await == StatusCode::SERVICE_UNAVAILABLE {} };
    timeout(PATIENCE, served)
        .await
        .unwrap_or_else(|_| panic!("the memory is not released: {proxy:?}"));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_without_descriptors_recovers_when_some_are_free_again() {
    let upstream = Recorder::start(|_| "honest").await;
    let proxy = start(1024, upstream.addr, &[]).await;
    let pid = i32::try_from(proxy.id()).unwrap();
    let limit =
        |soft| rlimit::prlimit(pid, rlimit::Resource::NOFILE, Some((soft, 1024)), None).unwrap();
    limit(5);
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(TcpStream::connect(proxy.addr()).await.unwrap());
    }
    proxy.written("cannot accept connections").await;
    limit(1024);
    answered(&proxy, "/x").await;
    assert_eq!(
        proxy.stderr().matches("cannot accept connections").count(),
        1,
        "{proxy:?}"
    );
}

#[tokio::test]
async fn the_admin_server_responds_while_clients_hold_every_connection() {
    let (upstream, _) = endless(1024).await;
    let flags = &[
        "--max-connections",
        "4",
        "--max-in-flight",
        "2",
        "--admin",
        "127.0.0.1:0",
    ];
    let proxy = start(1024, upstream, flags).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        stream
            .write_all(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        stream.readable().await.unwrap();
        clients.push(stream);
    }
    proxy.written("too many requests are in flight").await;
    assert_eq!(
        get(&format!("http://{}/healthz", proxy.admin_addr()))
            .await
            .text(),
        "ok"
    );
    let mut answer = [0; 12];
    clients[3].read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 503");
}

#[tokio::test]
async fn silent_connections_do_not_lock_out_honest_clients() {
    let upstream = Recorder::start(|_| "honest").await;
    // Long, so that the idle time-out does not close the silent connections.
    let server = start(256, upstream.addr, &["--idle-timeout", "3600"]).await;
    limits::silent_connections_do_not_lock_out_honest_clients(&server, "/x").await;
}

#[tokio::test]
async fn half_sent_forms_share_the_memory_limit() {
    let upstream = Recorder::start(|_| "honest").await;
    let server = start(1024, upstream.addr, FEW_BODIES).await;
    limits::half_sent_forms_share_the_memory_limit(&server).await;
}

#[tokio::test]
async fn stalled_uploads_get_408() {
    let upstream = Recorder::start(|_| "honest").await;
    let server = start(1024, upstream.addr, &["--stall-timeout", "1"]).await;
    limits::stalled_uploads_get_408(&server, "/upload").await;
}

#[tokio::test]
async fn lower_case_methods_are_refused() {
    let upstream = Recorder::start(|_| "honest").await;
    let server = start(1024, upstream.addr, &[]).await;
    limits::lower_case_methods_are_refused(&server).await;
    assert!(
        upstream
            .all()
            .iter()
            .all(|seen| seen.target.starts_with("/.well-known/")),
        "{:?}",
        upstream.all()
    );
}

#[tokio::test]
async fn the_soft_descriptor_limit_is_raised_at_start() {
    let (upstream, _) = endless(1).await;
    let upstream = format!("http://{upstream}");
    let start = move || {
        let flags = [
            "--listen",
            "127.0.0.1:0",
            "--upstream",
            &upstream,
            "--max-connections",
            "1000",
            "--max-in-flight",
            "1000",
        ];
        Example::start_between([256, 4096], PROGRAM, &flags)
    };
    let server = spawn_blocking(start).await.unwrap();
    limits::the_soft_descriptor_limit_is_raised(&server, 4096);
}
