//! Limits on fetches of client ID metadata documents by the example `mcp`: anyone can choose the
//! URL.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use http_body_util::Channel;
use serde_json::json;
use test_support::http::post;
use tokio::task::JoinSet;

use crate::support::documents::{
    CALLBACK, DocumentHost, answer, authorize, authorize_at, is_known, is_refused, start,
};
use crate::support::mcp;

#[tokio::test]
async fn redirects_are_not_followed() {
    let host = DocumentHost::start().await;
    let server = host.mcp(&[]).await;
    let target = host.document("/target", &json!({ "client_id": host.url("/moved") }), &[]);
    for status in [
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::TEMPORARY_REDIRECT,
    ] {
        let target = target.clone();
        let moved = host.serve("/moved", move || {
            (status, [("location", target.clone())]).into_response()
        });
        let before = host.requests();
        is_refused(&server, &moved, &format!("status {}", status.as_u16())).await;
        assert_eq!(host.requests(), before + 1, "{status}");
    }
}

#[tokio::test]
async fn the_size_of_a_document_is_limited() {
    let host = DocumentHost::start().await;
    let server = host.mcp(&[]).await;
    let padded = |path: &str, size: usize| {
        let document =
            json!({ "client_id": host.url(path), "redirect_uris": [CALLBACK] }).to_string();
        document.clone() + &" ".repeat(size - document.len())
    };
    let (whole, large, endless) = (
        padded("/whole", 5120),
        padded("/large", 5121),
        padded("/chunks", 5120),
    );
    is_known(
        &server,
        &host.serve("/whole", move || answer(&[], whole.clone())),
    )
    .await;
    is_refused(
        &server,
        &host.serve("/large", move || answer(&[], large.clone())),
        "larger than 5120 bytes",
    )
    .await;
    // Without a Content-Length, and endless.
    let chunks = host.serve("/chunks", move || {
        let (mut sender, body) = Channel::<Bytes>::new(1);
        let chunk = Bytes::from(endless.clone());
        tokio::spawn(async move { while sender.send_data(chunk.clone()).await.is_ok() {} });
        answer(&[], Body::new(body))
    });
    is_refused(&server, &chunks, "larger than 5120 bytes").await;
}

#[tokio::test]
async fn a_fetch_from_a_stalled_host_times_out() {
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
    is_refused(&server, &stuck, "cannot be fetched").await;
    host.hold(true);
    let silent = host.document("/silent", &json!({}), &[]);
    is_refused(&server, &silent, "cannot be fetched").await;
}

#[tokio::test]
async fn private_addresses_are_never_contacted() {
    let host = DocumentHost::start().await;
    let client_id = host.document("/client", &json!({}), &[]);
    let port = host.server.addr.port();
    let ca = host.certificates.file("ca.pem");
    let server = start(&["--metadata-ca", ca.to_str().unwrap()]).await;
    let locals = [
        "127.0.0.1",
        "127.0.0.2",
        "[::1]",
        "[::ffff:7f00:1]",
        "0.0.0.0",
        "[::]",
    ];
    let locals = locals.map(|host| format!("https://{host}:{port}/client"));
    for local in locals.iter().chain([&client_id]) {
        is_refused(&server, local, "cannot be fetched").await;
    }
    assert_eq!(host.server.connections(), 0);
    // They are not contacted either if loopback addresses are allowed.
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
            is_refused(
                server,
                &format!("https://{address}/latest/meta-data"),
                "cannot be fetched",
            )
            .await;
        }
    }
}

#[tokio::test]
async fn responses_do_not_disclose_why_a_fetch_failed() {
    let host = DocumentHost::start().await;
    let ca = host.certificates.file("ca.pem");
    let server = start(&["--metadata-ca", ca.to_str().unwrap()]).await;
    let loopback = host.mcp(&[]).await;
    let untrusting = start(&["--metadata-loopback"]).await;
    host.hold(true);
    let port = host.server.addr.port();
    let rows = [
        (
            "a private name",
            &server,
            "https://localhost/client".to_owned(),
        ),
        (
            "a name that does not exist",
            &server,
            "https://nowhere.invalid/client".to_owned(),
        ),
        (
            "a private address",
            &server,
            "https://10.0.0.1/client".to_owned(),
        ),
        (
            "a loopback address",
            &server,
            "https://127.0.0.1/client".to_owned(),
        ),
        (
            "a private name, another port",
            &server,
            format!("https://localhost:{port}/client"),
        ),
        (
            "a name that does not exist, another port",
            &server,
            "https://nowhere.invalid:22/client".to_owned(),
        ),
        (
            "a private address, another port",
            &server,
            "https://10.0.0.1:6379/client".to_owned(),
        ),
        (
            "a closed port",
            &loopback,
            "https://localhost:1/client".to_owned(),
        ),
        ("no response", &loopback, host.url("/client")),
        ("an untrusted certificate", &untrusting, host.url("/client")),
    ];
    let mut pages = Vec::new();
    for (name, server, client_id) in &rows {
        let page = authorize(server, client_id).await;
        assert!(
            page.text().contains("cannot be fetched"),
            "{name}: {}",
            page.text()
        );
        pages.push((name, page.status, page.body));
    }
    for (name, status, body) in &pages {
        assert_eq!((status, body), (&pages[0].1, &pages[0].2), "{name}");
    }
    let token = async |client_id: &str| {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", "x"),
            ("client_id", client_id),
        ];
        let answer = post(&server.url("/token"), &form).await;
        (answer.status, answer.body)
    };
    let unresolved = token("https://nowhere.invalid/client").await;
    assert_eq!(unresolved.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        token("https://localhost/client").await,
        unresolved,
        "a private name"
    );
}

#[tokio::test]
async fn ports_other_than_443_are_never_contacted() {
    let host = DocumentHost::start().await;
    let ca = host.certificates.file("ca.pem");
    let server = start(&["--metadata-ca", ca.to_str().unwrap()]).await;
    // The names are not resolved either.
    for client_id in [
        "https://nowhere.invalid:8443/x",
        "https://nowhere.invalid:80/x",
        "https://1.1.1.1:22/x",
    ] {
        is_refused(&server, client_id, "cannot be fetched").await;
        server
            .written(&format!(
                "could not use a client metadata document client_id=\"{client_id}\""
            ))
            .await;
    }
    assert!(!server.stderr().contains("dns error"), "{server:?}");
    assert_eq!(host.server.connections(), 0);
}

#[tokio::test]
async fn concurrent_fetches_from_one_host_are_limited() {
    let host = DocumentHost::start().await;
    let server = host.mcp(&[]).await;
    host.hold(true);
    let mut asking = JoinSet::new();
    for number in 0..24 {
        let client_id = host.document(&format!("/client/{number}"), &json!({}), &[]);
        let url = server.url("/authorize");
        asking.spawn(async move { authorize_at(url, &client_id, CALLBACK).await.status });
    }
    // When the first request reaches its time limit, all of them have arrived.
    let first = asking.join_next().await.unwrap().unwrap();
    assert!(
        [StatusCode::BAD_REQUEST, StatusCode::SERVICE_UNAVAILABLE].contains(&first),
        "{first}"
    );
    assert_eq!(host.most_at_once(), 4);
    host.hold(false);
    while let Some(status) = asking.join_next().await {
        assert!(matches!(status.unwrap().as_u16(), 303 | 400 | 503));
    }
    is_known(&server, &host.document("/later", &json!({}), &[])).await;
    assert_eq!(host.most_at_once(), 4);
}

#[tokio::test]
async fn fetches_from_one_host_per_minute_are_limited() {
    let host = DocumentHost::start().await;
    let server = host.mcp(&["--limit-document-fetches", "0"]).await;
    let mut known = Vec::new();
    let refused = loop {
        let number = known.len();
        assert!(number < 1000, "the limit does not take effect");
        let client_id = host.document(&format!("/client/{number}"), &json!({}), &[]);
        let answer = authorize(&server, &client_id).await;
        if answer.status != StatusCode::SEE_OTHER {
            break answer;
        }
        known.push(client_id);
    };
    assert_eq!(
        refused.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{}",
        refused.text()
    );
    mcp::assert_is_page(&refused);
    assert!(
        refused.text().contains("Wait a moment"),
        "{}",
        refused.text()
    );
    assert!(
        known.len() >= 60 && host.requests() == known.len(),
        "{} {}",
        known.len(),
        host.requests()
    );
    // A cached document needs no fetch.
    is_known(&server, &known[0]).await;
    let form = [
        ("grant_type", "authorization_code"),
        ("code", "x"),
        ("client_id", &*host.url("/another")),
    ];
    let answer = post(&server.url("/token"), &form).await;
    assert_eq!(
        (answer.status, &*answer.string("error")),
        (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable")
    );
    assert_eq!(host.requests(), known.len());
}

#[tokio::test]
async fn a_host_with_an_untrusted_certificate_is_rejected() {
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
async fn invalid_document_urls_are_not_fetched() {
    let host = DocumentHost::start().await;
    let server = host.mcp(&[]).await;
    let (good, port) = (
        host.document("/client", &json!({}), &[]),
        host.server.addr.port(),
    );
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
        is_refused(
            &server,
            &client_id,
            "not a valid URL of a client ID metadata document",
        )
        .await;
    }
    let off = start(&["--metadata-loopback", "--no-metadata-documents"]).await;
    assert_eq!(authorize(&off, &good).await.status, StatusCode::BAD_REQUEST);
    assert_eq!((host.server.connections(), host.requests()), (0, 0));
}
