//! The example proxy streams requests and responses, and handles failures of connections.

mod streams;
mod timeouts;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::http::{StatusCode, Version};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use test_support::http::{Recorder, get, raw, send};
use test_support::limits::until;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

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
