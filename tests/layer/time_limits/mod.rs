//! Reading the body of a guarded request and every call of the inner service end in bounded time.

mod bodies;

use std::convert::Infallible;
use std::future::pending;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Full};
use test_support::foreign::{adopting, log_in_before};
use test_support::requests::Whole;
use test_support::{App, SECOND, post, refresh_form, settle};
use tokio::time::{Instant, Sleep, sleep};
use tower::{Layer as _, Service, ServiceExt as _};
use tower_oauth_refresh::{EventKind, RefreshError, RequestBody};

/// A body that sends these frames, with a pause before each, and never ends.
struct Endless {
    frames: Vec<Bytes>,
    pause: Option<Duration>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Endless {
    fn new(frames: impl IntoIterator<Item = Bytes>) -> Self {
        Self {
            frames: frames.into_iter().collect(),
            pause: None,
            sleep: None,
        }
    }

    /// Returns a body that sends one byte after each pause.
    fn trickle(form: &str, pause: Duration) -> Self {
        let frames = form
            .bytes()
            .rev()
            .map(|byte| Bytes::from(vec![byte]))
            .collect();
        Self {
            frames,
            pause: Some(pause),
            sleep: None,
        }
    }
}

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(pause) = self.pause {
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(pause)));
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.sleep = None;
        }
        self.frames.pop().map_or(Poll::Pending, |frame| {
            Poll::Ready(Some(Ok(Frame::data(frame))))
        })
    }
}

/// The point at which an inner service hangs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stop {
    Ready,
    Call,
    Body,
}

/// An inner service that hangs at this point.
#[derive(Clone)]
struct Stopped(Stop);

impl<B> Service<Request<RequestBody<B>>> for Stopped {
    type Response = Response<Endless>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.0 == Stop::Ready {
            Poll::Pending
        } else {
            Poll::Ready(Ok(()))
        }
    }

    fn call(&mut self, _: Request<RequestBody<B>>) -> Self::Future {
        let stop = self.0;
        Box::pin(async move {
            if stop == Stop::Call {
                pending::<()>().await;
            }
            let half = r#"{"access_token":"a","token_type":"Bearer","refresh_token":"up"#;
            let response = Response::builder().header("content-type", "application/json");
            Ok(response.body(Endless::new([Bytes::from(half)])).unwrap())
        })
    }
}

/// Returns the response of `app` over a service that hangs, and how many seconds it took.
async fn stopped(app: &App, stop: Stop, request: Request<Full<Bytes>>) -> (Whole, u64) {
    let began = Instant::now();
    // Called without `poll_ready`, as servers do: the call itself must be bounded.
    let (head, body) = app
        .layer
        .layer(Stopped(stop))
        .call(request)
        .await
        .unwrap()
        .into_parts();
    (
        Whole {
            head,
            body: body.collect().await.unwrap().to_bytes(),
        },
        began.elapsed().as_secs(),
    )
}

const STOPS: [Stop; 3] = [Stop::Ready, Stop::Call, Stop::Body];

#[tokio::test(start_paused = true)]
async fn a_log_in_that_times_out_gets_504_and_stores_nothing() {
    let forms: [&[(&str, &str)]; 5] = [
        &[
            ("grant_type", "authorization_code"),
            ("code", "c"),
            ("client_id", "app"),
        ],
        &[
            ("grant_type", "urn:openid:params:grant-type:ciba"),
            ("client_id", "app"),
        ],
        &[("grant_type", "client_credentials"), ("client_id", "app")],
        &[
            ("grant_type", "refresh_token "),
            ("refresh_token", "x"),
            ("client_id", "app"),
        ],
        &[
            ("grant_type", "password"),
            ("username", "u"),
            ("password", "p"),
            ("client_id", "app"),
        ],
    ];
    for form in forms {
        for stop in STOPS {
            for reference in [false, true] {
                let name = format!("{form:?} {stop:?} {reference}");
                let app = App::with(|builder| {
                    let builder = builder.rotation_timeout(SECOND);
                    builder.reference_access_tokens(reference)
                });
                let (answer, seconds) = stopped(&app, stop, post("/token", form)).await;
                assert_eq!(seconds, 30, "{name}");
                answer.assert_refused(&name, 504, "temporarily_unavailable", false);
                assert!(
                    matches!(
                        answer.head.extensions.get(),
                        Some(RefreshError::UpstreamTimeout)
                    ),
                    "{name}"
                );
                assert_eq!(app.events(), [EventKind::UpstreamTimeout], "{name}");
                assert!(app.store.calls().is_empty(), "{name}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_configured_log_in_timeout_applies() {
    let log_in = || {
        post(
            "/token",
            &[
                ("grant_type", "authorization_code"),
                ("code", "c"),
                ("client_id", "app"),
            ],
        )
    };
    for (limit, expected) in [(SECOND * 2, 2), (SECOND * 3600, 3600)] {
        let app = App::with(|builder| builder.issue_timeout(limit));
        let (answer, seconds) = stopped(&app, Stop::Call, log_in()).await;
        assert_eq!((answer.head.status.as_u16(), seconds), (504, expected));
    }
}

#[tokio::test(start_paused = true)]
async fn other_requests_that_time_out_get_503_within_the_limit() {
    for stop in STOPS {
        let (app, foreign) = adopting().await;
        // The introspection path is a setting, so this app is another one over the same store.
        let app = App::over(
            app.clock.clone(),
            app.store.clone(),
            app.upstream.clone(),
            |builder| {
                let until = std::time::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
                builder
                    .introspection_path("/introspect")
                    .adopt_until(until)
                    .rotation_timeout(SECOND * 3)
            },
        );
        let ours = app.log_in("app").await;
        let other = log_in_before(&app, "app").await;
        drop(app.events());
        let requests = [
            (
                "introspection of ours",
                post("/introspect", &[("token", &ours)]),
            ),
            (
                "introspection of another's",
                post("/introspect", &[("token", &other)]),
            ),
            ("refresh", post("/token", &refresh_form("app", &ours))),
            ("adoption", post("/token", &refresh_form("app", &foreign))),
            (
                "revocation of ours",
                post("/revoke", &[("token", &ours), ("client_id", "app")]),
            ),
            (
                "revocation of another's",
                post("/revoke", &[("token", &other), ("client_id", "app")]),
            ),
        ];
        for (name, request) in requests {
            // These responses are passed on without being read: the server limits how long the
            // client takes to receive them.
            if stop == Stop::Body && (name.ends_with("another's") || name.starts_with("revocation"))
            {
                continue;
            }
            let name = format!("{name} {stop:?}");
            let (answer, seconds) = stopped(&app, stop, request).await;
            assert!(seconds <= 6, "{name}: {seconds} s");
            answer.assert_refused(&name, 503, "temporarily_unavailable", false);
            app.layer.drain().await;
            // A revocation has ended the grant here, and its event says so.
            let event = if name.starts_with("revocation of ours") {
                EventKind::Revoked
            } else {
                EventKind::UpstreamTimeout
            };
            assert!(app.events().contains(&event), "{name}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejected_client_does_not_hold_a_permit() {
    let app = App::new();
    let inner = tower::ServiceBuilder::new()
        .concurrency_limit(1)
        .service(tower::service_fn(|_: Request<RequestBody<Full<Bytes>>>| {
            pending::<Result<Response<Full<Bytes>>, Infallible>>()
        }));
    let service = app.layer.layer(inner);
    let log_in = || {
        post(
            "/token",
            &[
                ("grant_type", "authorization_code"),
                ("code", "c"),
                ("client_id", "app"),
            ],
        )
    };
    for round in 0..3 {
        let first = tokio::spawn(service.clone().oneshot(log_in()));
        settle().await;
        let waits = service.clone().call(log_in()).await.unwrap();
        assert_eq!(
            (
                waits.status().as_u16(),
                first.await.unwrap().unwrap().status().as_u16()
            ),
            (504, 504),
            "{round}"
        );
    }
}
