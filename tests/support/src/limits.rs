//! Checks of the limits of both servers: attackers that hold as many resources as they can, while
//! an honest client is served.

use axum::http::StatusCode;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::PATIENCE;
use crate::http::{get, raw, send};
use crate::process::Example;
pub use crate::until;

/// Waits until a request for this path gets 200.
pub async fn answered(server: &Example, path: &str) {
    let url = server.url(path);
    let asking = async { while get(&url).await.status != StatusCode::OK {} };
    timeout(PATIENCE, asking)
        .await
        .unwrap_or_else(|_| panic!("an honest client is not served: {server:?}"));
}

/// Opens 2,000 connections that never complete a request to a server with 256 descriptors, and
/// expects an answer for `path` nevertheless.
///
/// Panics if the server refuses an honest client.
pub async fn silent_connections_do_not_lock_out_honest_clients(server: &Example, path: &str) {
    rlimit::increase_nofile_limit(10_000).unwrap();
    server.written("the descriptor limit is too low").await;
    let forms = [
        "",
        "GET / HTTP/1.1\r\nHost:",
        "PRI * HTTP/2.0\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    let mut silent = Vec::new();
    for form in forms.iter().cycle().take(2000) {
        let mut stream = TcpStream::connect(server.addr()).await.unwrap();
        // The server may already have closed the connection to make room for a later one.
        let _ = stream.write_all(form.as_bytes()).await;
        silent.push(stream);
    }
    for _ in 0..3 {
        answered(server, path).await;
    }
    server.written("all connections are in use").await;
    let lines = server
        .stderr()
        .matches("all connections are in use")
        .count();
    assert!(lines < 20, "the attack causes {lines} log lines");
    drop(silent);
}

/// Expects 503 while half of a form holds most of a body memory of 100,000 bytes.
pub async fn half_sent_forms_share_the_memory_limit(server: &Example) {
    let head = |length: usize| {
        let form = "Content-Type: application/x-www-form-urlencoded";
        format!(
            "POST /token HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{form}\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let form = [
        "grant_type=refresh_token&refresh_token=",
        &"x".repeat(59_000),
    ]
    .concat();
    let token = server.url("/token");
    let call = async || {
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        send("POST", &token, &headers, form.clone()).await
    };
    let holding = async {
        loop {
            let mut half = TcpStream::connect(server.addr()).await.unwrap();
            half.write_all(format!("{}{}", head(60_001), "x".repeat(60_000)).as_bytes())
                .await
                .unwrap();
            let answer = call().await;
            if answer.status == StatusCode::SERVICE_UNAVAILABLE {
                return (half, answer);
            }
            // The half form did not arrive before the request, or was refused itself.
        }
    };
    let (half, answer) = timeout(PATIENCE, holding)
        .await
        .unwrap_or_else(|_| panic!("the memory is not limited"));
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(answer.string("error"), "temporarily_unavailable");
    server.written("request bodies use too much memory").await;
    drop(half);
    let again = async { while call().await.status == StatusCode::SERVICE_UNAVAILABLE {} };
    timeout(PATIENCE, again)
        .await
        .unwrap_or_else(|_| panic!("the memory is not released: {server:?}"));
}

/// Expects 408 for a body that stops, from a server with a stall time-out of a second.
pub async fn stalled_uploads_get_408(server: &Example, path: &str) {
    let request = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf");
    let answer = timeout(PATIENCE, raw(server.addr(), &request))
        .await
        .expect("the connection is closed");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

/// Expects that a server that was started with a lower soft descriptor limit has raised it to this
/// hard limit.
pub fn the_soft_descriptor_limit_is_raised(server: &Example, hard: u32) {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.id())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let found: Vec<_> = line.unwrap().split_whitespace().skip(3).take(2).collect();
    assert_eq!(found, [hard.to_string(), hard.to_string()], "{limits}");
    let log = server.stderr();
    assert!(!log.contains("the descriptor limit is too low"), "{log}");
}

/// Expects 400 for methods that are not in upper case.
pub async fn lower_case_methods_are_refused(server: &Example) {
    for method in ["post", "Post", "pOST", "get", "Delete"] {
        let answer = send(method, &server.url("/token"), &[], "").await;
        assert_eq!(
            (answer.status, answer.string("error")),
            (StatusCode::BAD_REQUEST, "invalid_request".into())
        );
        assert_eq!(answer.headers["cache-control"], "no-store", "{method}");
    }
}
