//! Whom the example `mcp` asks for the documents of clients, and how much it puts up with: the URL is a stranger's.

mod support;

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use http_body_util::Channel;
use serde_json::json;

use self::support::documents::{CALLBACK, DocumentHost, answer, authorize, is_known, is_refused, start};

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let host = DocumentHost::start().await;
    let server = host.mcp(&[]).await;
    let target = host.document("/target", &json!({ "client_id": host.url("/moved") }), &[]);
    for status in [StatusCode::MOVED_PERMANENTLY, StatusCode::FOUND, StatusCode::TEMPORARY_REDIRECT] {
        let target = target.clone();
        let moved = host.serve("/moved", move || (status, [("location", target.clone())]).into_response());
        let before = host.requests();
        is_refused(&server, &moved, &format!("status {}", status.as_u16())).await;
        assert_eq!(host.requests(), before + 1, "{status}");
    }
}

#[tokio::test]
async fn a_document_has_a_limit() {
    let host = DocumentHost::start().await;
    let server = host.mcp(&[]).await;
    let padded = |path: &str, size: usize| {
        let document = json!({ "client_id": host.url(path), "redirect_uris": [CALLBACK] }).to_string();
        document.clone() + &" ".repeat(size - document.len())
    };
    let (whole, large, endless) = (padded("/whole", 5120), padded("/large", 5121), padded("/chunks", 5120));
    is_known(&server, &host.serve("/whole", move || answer(&[], whole.clone()))).await;
    is_refused(&server, &host.serve("/large", move || answer(&[], large.clone())), "larger than 5120 bytes").await;
    // Without a length, and without an end.
    let chunks = host.serve("/chunks", move || {
        let (mut sender, body) = Channel::<Bytes>::new(1);
        let chunk = Bytes::from(endless.clone());
        tokio::spawn(async move { while sender.send_data(chunk.clone()).await.is_ok() {} });
        answer(&[], Body::new(body))
    });
    is_refused(&server, &chunks, "larger than 5120 bytes").await;
}

#[tokio::test]
async fn a_host_that_does_not_come_to_an_end_is_given_up() {
    let host = DocumentHost::start().await;
    let server = host.mcp(&[]).await;
    let stuck = host.serve("/stuck", || {
        let (mut sender, body) = Channel::<Bytes>::new(1);
        tokio::spawn(async move {
            while sender.send_data(Bytes::from_static(b" ")).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
        answer(&[], Body::new(body))
    });
    is_refused(&server, &stuck, "did not come within 10 seconds").await;
    host.hold(true);
    let silent = host.document("/silent", &json!({}), &[]);
    is_refused(&server, &silent, "did not come within 10 seconds").await;
}

#[tokio::test]
async fn nothing_private_is_asked() {
    let host = DocumentHost::start().await;
    let client_id = host.document("/client", &json!({}), &[]);
    let port = host.server.addr.port();
    let ca = host.certificates.file("ca.pem");
    let server = start(&["--metadata-ca", ca.to_str().unwrap()]).await;
    let locals = ["127.0.0.1", "127.0.0.2", "[::1]", "[::ffff:7f00:1]", "0.0.0.0", "[::]"];
    let locals = locals.map(|host| format!("https://{host}:{port}/client"));
    for local in locals.iter().chain([&client_id]) {
        is_refused(&server, local, "its host is not public").await;
    }
    assert_eq!(host.server.connections(), 0);
    // Neither where this machine may be asked.
    let loopback = host.mcp(&[]).await;
    for address in [
        "10.0.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.168.0.1",
        "224.0.0.1",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::]",
    ] {
        for server in [&server, &loopback] {
            is_refused(server, &format!("https://{address}/latest/meta-data"), "its host is not public").await;
        }
    }
}

#[tokio::test]
async fn a_host_that_nobody_vouches_for_is_not_believed() {
    let host = DocumentHost::start().await;
    let client_id = host.document("/client", &json!({}), &[]);
    let server = start(&["--metadata-loopback"]).await;
    is_refused(&server, &client_id, "cannot be fetched").await;
    assert_eq!((host.server.connections() > 0, host.requests()), (true, 0));
    // A certificate for another name.
    let server = host.mcp(&[]).await;
    let other = format!("https://[::1]:{}/client", host.server.addr.port());
    is_refused(&server, &other, "cannot be fetched").await;
    assert_eq!(host.requests(), 0);
}

#[tokio::test]
async fn what_is_no_url_of_a_document_is_not_asked() {
    let host = DocumentHost::start().await;
    let server = host.mcp(&[]).await;
    let (good, port) = (host.document("/client", &json!({}), &[]), host.server.addr.port());
    for client_id in [
        format!("http://localhost:{port}/client"),
        format!("{good}#x"),
        format!("https://user@localhost:{port}/client"),
        format!("https://localhost:{port}"),
        format!("https://localhost:{port}/"),
        format!("https://localhost:{port}/a/../client"),
        format!("https://LOCALHOST:{port}/client"),
        format!(" {good}"),
    ] {
        is_refused(&server, &client_id, "no URL of a client id metadata document").await;
    }
    let off = host.mcp(&["--no-metadata-documents"]).await;
    assert_eq!(authorize(&off, &good).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(host.requests(), 0);
}
