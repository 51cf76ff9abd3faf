//! Request bodies at the example `mcp` that are too large or too slow.

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::{Request, StatusCode};
use bytes::Bytes;
use serde_json::{Value, json};
use test_support::PATIENCE;
use test_support::http::{Answer, Recorder, send};
use test_support::process::Example;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::support::identity::Identity;
use crate::support::mcp;
use crate::support::mcp_client::{McpClient, assert_error, structured};

/// Starts a server. Returns it with the `Authorization` of a logged-in client.
async fn start(flags: &[&str]) -> (Identity, Example, String) {
    let identity = Identity::start().await;
    let mut all = identity.flags();
    all.extend(flags.iter().map(|flag| (*flag).to_owned()));
    let server = mcp::start(&all).await;
    let access = McpClient::register(&server)
        .await
        .log_in(&server)
        .await
        .string("access_token");
    (identity, server, format!("Bearer {access}"))
}

/// Sends a request body byte by byte. Returns the status and the JSON of the response.
async fn trickle(addr: SocketAddr, path: &str, headers: &[(&str, &str)]) -> (StatusCode, Value) {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::post(format!("http://{addr}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut client = client.ready().await.unwrap();
    let (mut response, mut body) = client
        .send_request(request.body(()).unwrap(), false)
        .unwrap();
    let answer = loop {
        tokio::select! {
            answer = &mut response => break answer.unwrap(),
            () = sleep(Duration::from_millis(100)) => {
                // The server may have ended the stream already.
                let _ = body.send_data(Bytes::from_static(b"a"), false);
            }
        }
    };
    let (head, mut body) = answer.into_parts();
    let mut text = Vec::new();
    while let Some(Ok(piece)) = body.data().await {
        text.extend_from_slice(&piece);
    }
    (
        head.status,
        serde_json::from_slice(&text).unwrap_or_default(),
    )
}

#[tokio::test]
async fn every_buffered_body_has_a_deadline() {
    // The stall time-out is longer than the test, so that it cannot end the request.
    let (_identity, server, authorization) = start(&["--stall-timeout", "3600"]).await;
    let (addr, authorization) = (server.addr(), authorization.as_str());
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let json = [("content-type", "application/json")];
    let accept = ("accept", "application/json, text/event-stream");
    let message = [("authorization", authorization), json[0], accept];
    let answers = async {
        tokio::join!(
            trickle(addr, "/token", &form),
            trickle(addr, "/revoke", &form),
            trickle(addr, "/register", &json),
            trickle(addr, "/consent", &form),
            trickle(addr, "/mcp", &message),
        )
    };
    let (token, revoke, register, consent, message) = timeout(PATIENCE, answers)
        .await
        .expect("every request ends within the time limit");
    let answers = [
        ("token", token),
        ("revoke", revoke),
        ("register", register),
        ("consent", consent),
        ("message", message),
    ];
    for (name, (status, json)) in answers {
        assert_eq!(status, StatusCode::REQUEST_TIMEOUT, "{name}: {json}");
        assert_eq!(json["error"], "invalid_request", "{name}: {json}");
    }
}

/// Calls a tool with a message of this length.
async fn message(server: &Example, authorization: &str, length: usize) -> Answer {
    let params = json!({ "name": "whoami", "arguments": {} });
    let mut call =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }).to_string();
    call.push_str(&" ".repeat(length - call.len()));
    let headers = [
        ("authorization", authorization),
        ("accept", "application/json, text/event-stream"),
        ("content-type", "application/json"),
        ("mcp-protocol-version", "2025-06-18"),
    ];
    send("POST", &server.url("/mcp"), &headers, call).await
}

#[tokio::test]
async fn a_message_to_the_built_in_server_is_limited_to_four_mebibytes() {
    let (_identity, server, authorization) = start(&[]).await;
    structured(&message(&server, &authorization, 4 << 20).await);
    assert_error(
        &message(&server, &authorization, (4 << 20) + 1).await,
        413,
        "invalid_request",
        "one byte more than the limit",
    );
}

#[tokio::test]
async fn a_proxied_message_may_be_larger_than_the_body_memory() {
    let upstream = Recorder::start(|seen| seen.body.len().to_string()).await;
    let (_identity, server, authorization) =
        start(&["--mcp-upstream", &upstream.url(), "--body-memory", "100000"]).await;
    for length in [1_000, 1_000_000, 5_000_000] {
        let answer = message(&server, &authorization, length).await;
        assert_eq!(
            (answer.status, answer.text()),
            (StatusCode::OK, &*length.to_string())
        );
    }
}
