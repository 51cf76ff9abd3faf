//! The example proxy streams requests and responses, and handles failures of connections.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, Version};
use bytes::Bytes;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use test_support::PATIENCE;
use test_support::http::{Recorder, get, post, raw, send, serve};
use test_support::limits::until;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::proxy;

#[tokio::test]
async fn options_asterisk_is_forwarded() {
    let upstream = Script::start(|_, _| Reply::Ok).await;
    let proxy = proxy::start(&upstream.url(), &[]).await;
    let answer = raw(
        proxy.addr(),
        "OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(upstream.count("OPTIONS * "), 1);
}

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

#[tokio::test]
async fn http2_clients_are_served() {
    let upstream = Recorder::start(|_| "body").await;
    let proxy = proxy::start(&upstream.url(), &[]).await;
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    let request = hyper::Request::post(proxy.url("/two?x=1")).header("te", "trailers");
    let response = client
        .request(request.body(Full::from("upload")).unwrap())
        .await
        .unwrap();
    assert_eq!(
        (response.version(), response.status()),
        (Version::HTTP_2, StatusCode::OK)
    );
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "body"
    );
    let (seen, host) = (upstream.last("/two?x=1"), proxy.addr().to_string());
    assert_eq!(seen.body, "upload");
    assert_eq!(seen.header("te"), None);
    assert_eq!(seen.header("via"), Some("2 tower-oauth-refresh"));
    assert_eq!(
        seen.header("x-forwarded-host"),
        Some(&*host),
        "from :authority"
    );
    assert_eq!(seen.header("host"), Some(&*upstream.addr.to_string()));
}

#[tokio::test]
async fn the_client_gets_502_if_the_upstream_is_down() {
    let unused = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let proxy = proxy::start(&format!("http://{unused}"), &[]).await;
    for (method, path) in [
        ("GET", "/x"),
        ("POST", "/x"),
        ("POST", "/token"),
        ("POST", "/revoke"),
    ] {
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let body = "grant_type=authorization_code&client_id=c&code=x&token=foreign";
        let answer = send(method, &proxy.url(path), &form, body).await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{method} {path}");
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert_eq!(answer.string("error"), "server_error");
    }
}

#[tokio::test]
async fn an_idempotent_request_is_retried_if_the_upstream_closes_the_connection() {
    // The upstream answers one request on each connection, and closes it at the next request.
    let upstream =
        Script::start(|count, _| if count == 0 { Reply::Ok } else { Reply::Hangup }).await;
    let proxy = proxy::start(&upstream.url(), &[]).await;
    proxy
        .written("no discovery document found at the upstream")
        .await;
    for (method, path, body, status, times) in [
        ("GET", "/again", "", StatusCode::OK, 2),
        ("DELETE", "/again", "", StatusCode::OK, 2),
        ("POST", "/once", "body", StatusCode::BAD_GATEWAY, 1),
        ("PUT", "/once", "body", StatusCode::BAD_GATEWAY, 1),
    ] {
        assert_eq!(get(&proxy.url("/warm")).await.status, StatusCode::OK);
        assert_eq!(
            send(method, &proxy.url(path), &[], body).await.status,
            status,
            "{method}"
        );
        assert_eq!(
            upstream.count(&format!("{method} {path} ")),
            times,
            "{method}"
        );
    }
}

#[tokio::test]
async fn a_connection_that_the_upstream_closed_while_idle_is_not_used() {
    let upstream = Script::start(|_, _| Reply::OkAndClose).await;
    let proxy = proxy::start(&upstream.url(), &[]).await;
    proxy
        .written("no discovery document found at the upstream")
        .await;
    for round in 0..5 {
        // A POST that is sent on a closed connection cannot be retried.
        until("the proxy has closed its connection", || {
            upstream.closed.load(Ordering::SeqCst) == upstream.heads.lock().unwrap().len()
        })
        .await;
        let answer = send("POST", &proxy.url("/idle"), &[], "body").await;
        assert_eq!(answer.status, StatusCode::OK, "round {round}");
    }
    assert_eq!(upstream.count("POST /idle "), 5);
}

#[tokio::test]
async fn conflicting_lengths_of_a_request_are_not_forwarded() {
    let upstream = Recorder::start(|_| "ok").await;
    let proxy = proxy::start(&upstream.url(), &[]).await;
    let head = "Host: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\nConnection: close, content-length";
    raw(
        proxy.addr(),
        &format!("POST /two HTTP/1.1\r\n{head}\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    )
    .await;
    let seen = upstream.last("/two");
    assert_eq!(
        (seen.header("content-length"), &*seen.body),
        (None, &b"hello"[..]),
        "RFC 9112 §6.3"
    );
    let answer = raw(
        proxy.addr(),
        "POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nno\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(
        !proxy.stderr().contains("a request to the upstream failed"),
        "a malformed request is not an upstream failure: {proxy:?}"
    );
}

#[tokio::test]
async fn the_client_gets_502_if_the_upstream_switches_protocols() {
    let upstream = Script::start(|_, _| Reply::Switch).await;
    let proxy = proxy::start(&upstream.url(), &[]).await;
    let headers = [("connection", "upgrade"), ("upgrade", "websocket")];
    assert_eq!(
        send("GET", &proxy.url("/ws"), &headers, "").await.status,
        StatusCode::BAD_GATEWAY
    );
}

#[tokio::test]
async fn the_certificate_of_an_https_upstream_is_verified() {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new([]).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_cert = ca.self_signed(&ca_key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let issuer = rcgen::Issuer::from_params(&ca, &ca_key);
    let cert = rcgen::CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let roots = format!(
        "{}/roots-{}.pem",
        env!("CARGO_TARGET_TMPDIR"),
        std::process::id()
    );
    std::fs::write(&roots, ca_cert.pem()).unwrap();
    let other = format!(
        "{}/other-{}.pem",
        env!("CARGO_TARGET_TMPDIR"),
        std::process::id()
    );
    let other_key = rcgen::KeyPair::generate().unwrap();
    std::fs::write(&other, ca.self_signed(&other_key).unwrap().pem()).unwrap();

    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(vec![cert.der().clone()], key.into())
    .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                while read_head(&mut stream).await.is_some() {
                    stream
                        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecure")
                        .await
                        .unwrap();
                }
            });
        }
    });
    for host in ["localhost", "127.0.0.1"] {
        let upstream = format!("https://{host}:{}", addr.port());
        let trusting = proxy::start_with(&upstream, &[], &[("SSL_CERT_FILE", &roots)]).await;
        assert_eq!(
            get(&trusting.url("/")).await.text(),
            "secure",
            "{trusting:?}"
        );
        let distrusting = proxy::start_with(&upstream, &[], &[("SSL_CERT_FILE", &other)]).await;
        assert_eq!(
            get(&distrusting.url("/")).await.status,
            StatusCode::BAD_GATEWAY
        );
    }
}

/// The reaction of a [`Script`] to a request.
enum Reply {
    Ok,
    /// Responds and closes the connection without `Connection: close`.
    OkAndClose,
    /// Closes the connection without a response.
    Hangup,
    Switch,
}

/// An upstream that closes or misuses its connections.
struct Script {
    addr: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    /// The number of connections that this upstream has closed first, and the client after it.
    closed: Arc<AtomicUsize>,
}

impl Script {
    /// Starts the upstream. `reply` receives the number of earlier requests on the connection and
    /// the head of this request.
    async fn start(reply: fn(usize, &str) -> Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let closed = Arc::new(AtomicUsize::new(0));
        let (log, closing) = (Arc::clone(&heads), Arc::clone(&closed));
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (log, closing) = (Arc::clone(&log), Arc::clone(&closing));
                tokio::spawn(async move {
                    let mut count = 0;
                    while let Some(head) = read_head(&mut stream).await {
                        let length = head
                            .lines()
                            .find_map(|line| line.strip_prefix("content-length: "));
                        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
                        stream.read_exact(&mut body).await.unwrap();
                        let reply = reply(count, &head);
                        log.lock().unwrap().push(head.clone());
                        // There are no discovery documents.
                        let status = if head.contains("/.well-known/") {
                            "404 Not Found"
                        } else {
                            "200 OK"
                        };
                        let ok = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                        match reply {
                            Reply::Ok => stream.write_all(ok.as_bytes()).await.unwrap(),
                            Reply::OkAndClose => {
                                stream.write_all(ok.as_bytes()).await.unwrap();
                                stream.shutdown().await.unwrap();
                                let _ = stream.read_to_end(&mut body).await;
                                closing.fetch_add(1, Ordering::SeqCst);
                                return;
                            }
                            Reply::Hangup => return,
                            Reply::Switch => {
                                let switch =
                                    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
                                stream.write_all(switch).await.unwrap();
                            }
                        }
                        count += 1;
                    }
                });
            }
        });
        Self {
            addr,
            heads,
            closed,
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Returns the number of requests that begin with this text.
    fn count(&self, beginning: &str) -> usize {
        self.heads
            .lock()
            .unwrap()
            .iter()
            .filter(|head| head.starts_with(beginning))
            .count()
    }
}

/// Reads the next request head; `None` if the client has disconnected.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}
