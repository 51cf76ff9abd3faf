//! The example `hyper`, run as a process: the layer without axum over HTTP/1 and HTTP/2, and its
//! graceful shutdown.

use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};
use serde_json::Value;
use test_support::http::get;
use test_support::oauth::{error, post_form, post_form_http2, refresh_token};
use test_support::process::{Example, example};

type Answer = (StatusCode, HeaderMap, Value);

const LIMIT: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
enum Protocol {
    Http1,
    Http2,
}

use Protocol::{Http1, Http2};

impl Protocol {
    async fn post(self, url: &str, form: &[(&str, &str)]) -> Answer {
        match self {
            Http1 => post_form(url, form, &[]).await,
            Http2 => post_form_http2(url, form, &[]).await,
        }
    }

    async fn log_in(self, server: &Example) -> String {
        let form = [
            ("grant_type", "password"),
            ("client_id", "app"),
            ("username", "demo"),
            ("password", "demo"),
        ];
        refresh_token(&self.post(&server.url("/token"), &form).await)
    }

    async fn refresh(self, server: &Example, client: &str, token: &str) -> Answer {
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", client),
            ("refresh_token", token),
        ];
        self.post(&server.url("/token"), &form).await
    }
}

fn start() -> Example {
    Example::start(example("hyper"), &["127.0.0.1:0"], &[] as &[(&str, &str)])
}

fn slow_refresh(token: &str) -> [(&str, &str); 4] {
    [
        ("grant_type", "refresh_token"),
        ("client_id", "app"),
        ("refresh_token", token),
        ("pause", "2"),
    ]
}

#[tokio::test]
async fn a_session_works_over_both_protocols() {
    let server = start();
    for protocol in [Http1, Http2] {
        let first = protocol.log_in(&server).await;
        let second = refresh_token(&protocol.refresh(&server, "app", &first).await);
        let replayed = refresh_token(&protocol.refresh(&server, "app", &first).await);
        assert_eq!(replayed, second, "{protocol:?}");
        let stolen = protocol.refresh(&server, "thief", &second).await;
        assert_eq!(error(&stolen), (400, "invalid_grant"), "{protocol:?}");
        let third = refresh_token(&protocol.refresh(&server, "app", &second).await);

        let revoked = protocol
            .post(
                &server.url("/revoke"),
                &[("token", &third), ("client_id", "app")],
            )
            .await;
        assert_eq!(revoked.0, StatusCode::OK, "{protocol:?}");
        let ended = protocol.refresh(&server, "app", &third).await;
        assert_eq!(error(&ended), (400, "invalid_grant"), "{protocol:?}");
    }
}

#[tokio::test]
async fn one_session_can_be_refreshed_over_both_protocols_concurrently() {
    let server = start();
    let token = Http1.log_in(&server).await;
    let (one, two) = tokio::join!(
        Http1.refresh(&server, "app", &token),
        Http2.refresh(&server, "app", &token)
    );
    let next = refresh_token(&one);
    assert_eq!(next, refresh_token(&two));
    refresh_token(&Http2.refresh(&server, "app", &next).await);
}

#[tokio::test]
async fn other_requests_are_answered_by_the_function() {
    let server = start();
    assert_eq!(
        get(&server.url("/token")).await.status,
        StatusCode::METHOD_NOT_ALLOWED
    );
    assert_eq!(
        get(&server.url("/elsewhere")).await.string("error"),
        "not_found"
    );
    let answer = post_form(
        &server.url("/token"),
        &[("grant_type", "magic"), ("client_id", "app")],
        &[],
    )
    .await;
    assert_eq!(error(&answer), (400, "unsupported_grant_type"));
}

#[tokio::test]
async fn shutdown_waits_for_a_rotation_whose_client_waits() {
    for protocol in [Http1, Http2] {
        let mut server = start();
        let token = protocol.log_in(&server).await;
        let url = server.url("/token");
        let client = tokio::spawn(async move { protocol.post(&url, &slow_refresh(&token)).await });
        server.written("delaying the response").await;
        server.terminate();
        refresh_token(&client.await.unwrap());
        assert!(server.ended(LIMIT).await.success(), "{server:?}");
        server.wait_for("drained");
    }
}

#[test]
fn shutdown_waits_for_a_rotation_whose_client_disconnected() {
    for protocol in [Http1, Http2] {
        let mut server = start();
        // A client with a runtime of its own, which can be stopped with all its connections.
        let client = tokio::runtime::Runtime::new().unwrap();
        let token = client.block_on(protocol.log_in(&server));
        let url = server.url("/token");
        client.spawn(async move { protocol.post(&url, &slow_refresh(&token)).await });
        server.wait_for("delaying the response");
        client.shutdown_timeout(LIMIT);
        // The connections of the log-in and of the refresh.
        let end = Instant::now() + LIMIT;
        while server.stderr().matches("connection ended").count() < 2 {
            assert!(
                Instant::now() < end,
                "the server does not notice that its client has disconnected: {server:?}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }

        server.terminate();
        assert!(server.wait(LIMIT).success(), "{server:?}");
        server.wait_for("rotated");
        server.wait_for("drained");
    }
}

#[tokio::test]
async fn shutdown_without_rotations_is_immediate() {
    let mut server = start();
    Http1.log_in(&server).await;
    server.terminate();
    assert!(server.ended(LIMIT).await.success(), "{server:?}");
    server.wait_for("drained");
}
