//! Bodies that do not arrive in time.

use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;
use http::Version;
use test_support::requests::{form, send};
use test_support::{App, SECOND, settle};
use tokio::time::Instant;
use tower::ServiceExt as _;

use super::Endless;

const GUARDED: [(&str, &str); 4] = [
    (
        "/token",
        "grant_type=refresh_token&client_id=app&refresh_token=rt_",
    ),
    (
        "/token",
        "grant_type=authorization_code&client_id=app&code=",
    ),
    ("/revoke", "client_id=app&token=rt_"),
    ("/introspect", "token=rt_"),
];

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_in_time_gets_408() {
    for (path, begun) in GUARDED {
        let bodies = [
            ("nothing", Endless::new([])),
            ("half a form", Endless::new([Bytes::from(begun)])),
            (
                "a byte every second",
                Endless::trickle(&begun.repeat(10), SECOND),
            ),
            (
                "empty frames for ever",
                Endless {
                    pause: Some(SECOND),
                    ..Endless::new(vec![Bytes::new(); 1000])
                },
            ),
        ];
        for (name, body) in bodies {
            let name = format!("{path}, {name}");
            let app = App::with(|builder| builder.introspection_path("/introspect"));
            let began = Instant::now();
            let answer = send(&app, form(path).body(body).unwrap()).await;
            assert_eq!(began.elapsed().as_secs(), 10, "{name}");
            answer.assert_refused(&name, 408, "invalid_request", false);
            assert_eq!(answer.headers()["connection"], "close", "{name}");
            assert!(
                app.upstream.seen().is_empty() && app.store.calls().is_empty(),
                "{name}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_configured_body_timeout_applies() {
    let slow = || Endless::trickle("grant_type=client_credentials&client_id=app", SECOND);
    for (limit, expected) in [(1, 1), (3600, 3600)] {
        let app = App::with(|builder| builder.request_body_timeout(SECOND * limit));
        let began = Instant::now();
        let answer = send(&app, form("/token").body(slow()).unwrap()).await;
        assert_eq!(
            (answer.head.status.as_u16(), began.elapsed().as_secs()),
            (408, expected)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn no_connection_close_over_http2() {
    let app = App::new();
    let request = form("/token")
        .version(Version::HTTP_2)
        .body(Endless::new([]))
        .unwrap();
    let answer = send(&app, request).await;
    answer.assert_refused("HTTP/2", 408, "invalid_request", false);
    assert!(!answer.headers().contains_key("connection"));
}

#[tokio::test(start_paused = true)]
async fn half_sent_forms_take_no_place_of_others() {
    let app = App::with(|builder| builder.max_in_flight(1));
    let token = app.log_in("app").await;
    let mut half_sent = Vec::new();
    for path in ["/token", "/revoke", "/token"] {
        let request = form(path).body(Endless::new([])).unwrap();
        let mut future = Box::pin(app.service.clone().oneshot(request));
        let mut context = Context::from_waker(Waker::noop());
        assert!(future.as_mut().poll(&mut context).is_pending());
        half_sent.push(future);
    }
    app.refresh(&token).await.token();
}

/// A read buffer of a server, of which a frame is a slice.
struct ReadBuffer(
    Vec<u8>,
    #[expect(dead_code, reason = "its reference count is read")] Arc<()>,
);

impl AsRef<[u8]> for ReadBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[tokio::test(start_paused = true)]
async fn a_partial_body_does_not_hold_server_buffers() {
    for frames in [1, 2, 1000] {
        let alive = Arc::new(());
        let frame =
            || Bytes::from_owner(ReadBuffer(vec![b'a'; 64 << 10], Arc::clone(&alive))).slice(..1);
        let body = Endless::new((0..frames).map(|_| frame()));
        let app = App::new();
        let waiting =
            tokio::spawn(async move { send(&app, form("/token").body(body).unwrap()).await });
        settle().await;
        assert!(!waiting.is_finished());
        assert_eq!(Arc::strong_count(&alive), 1, "{frames} frames of one byte");
        waiting.abort();
    }
}
