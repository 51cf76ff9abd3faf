//! With `end_responses`, a response ends when its access token or its grant ends, and not earlier.

mod expiry;

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Body as _;
use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt as _, Full};
use test_support::access::{LOG_IN, another, pair, referencing};
use test_support::{Act, App, Call, Plan, TestStore};
use tokio::time::timeout;
use tower::{Layer as _, service_fn};
use tower_oauth_refresh::access::{AccessBody, ResponseEnded};
use tower_oauth_refresh::{AccessGrant, AccessLayer, AccessLayerBuilder, EventKind};

/// The time limit for an event that is certain to occur.
const PATIENCE: Duration = Duration::from_secs(60);

const HOUR: Duration = Duration::from_secs(3600);

type Settings = fn(AccessLayerBuilder<TestStore>) -> AccessLayerBuilder<TestStore>;

/// An open response, and the sender of its frames.
struct Open {
    sender: Sender<Bytes, io::Error>,
    body: AccessBody<Channel<Bytes, io::Error>>,
    grant: AccessGrant,
}

/// Opens a response to a request with this token.
async fn open(layer: &AccessLayer<TestStore>, token: &str) -> Open {
    let opened = Arc::new(Mutex::new(None));
    let sink = Arc::clone(&opened);
    let service = service_fn(move |mut request: Request<()>| {
        let (sender, body) = Channel::<Bytes, io::Error>::new(8);
        *sink.lock().unwrap() = Some((
            sender,
            request.extensions_mut().remove::<AccessGrant>().unwrap(),
        ));
        async move { Ok::<_, Infallible>(Response::new(body)) }
    });
    let request = Request::get("/events")
        .header("authorization", format!("Bearer {token}"))
        .body(())
        .unwrap();
    let response = tower::ServiceExt::oneshot(layer.layer(service), request)
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let (sender, grant) = opened.lock().unwrap().take().unwrap();
    Open {
        sender,
        body: response.into_body(),
        grant,
    }
}

impl Open {
    /// Sends one frame and expects it to arrive.
    async fn passes(&mut self, name: &str) {
        self.sender
            .send_data(Bytes::from_static(b"data: x\n\n"))
            .await
            .unwrap();
        let frame = timeout(PATIENCE, self.body.frame())
            .await
            .unwrap_or_else(|_| panic!("{name}: a frame did not arrive"));
        assert_eq!(
            frame.unwrap().unwrap().into_data().unwrap(),
            "data: x\n\n",
            "{name}"
        );
    }

    /// Waits for the end of the response, which must not look like the end of a complete one. The
    /// inner service sends nothing.
    async fn ended(&mut self, name: &str) -> ResponseEnded {
        let frame = timeout(PATIENCE, self.body.frame())
            .await
            .unwrap_or_else(|_| panic!("{name}: the response continues"));
        let error = frame
            .unwrap_or_else(|| panic!("{name}: a complete response"))
            .unwrap_err();
        assert!(
            self.body.frame().await.is_none() && self.body.is_end_stream(),
            "{name}: the error is the last frame"
        );
        *error
            .downcast_ref::<ResponseEnded>()
            .unwrap_or_else(|| panic!("{name}: {error:?}"))
    }
}

fn ending(app: &App, settings: Settings) -> AccessLayer<TestStore> {
    settings(app.layer.access().cache_ttl(HOUR).end_responses(true))
        .build()
        .unwrap()
}

#[tokio::test]
async fn ending_the_grant_ends_its_responses_on_every_instance() {
    let settings: [(&str, Settings); 3] = [
        ("cached", |b| b),
        ("no time to live", |b| b.cache_ttl(Duration::ZERO)),
        ("no cache", |b| b.cache_size(0)),
    ];
    for (cache, settings) in settings {
        for name in [
            "revoked",
            "revoked alone",
            "reused",
            "ended by the application",
            "dead upstream",
        ] {
            let app = referencing();
            let here = ending(&app, settings);
            let there = ending(&another(&app), settings);
            let (first, access) = pair(&app.post("/token", &LOG_IN).await);
            let (_, elsewhere) = pair(&app.post("/token", &LOG_IN).await);
            let mut open_ones = [
                open(&here, &access).await,
                open(&there, &access).await,
                open(&there, &access).await,
            ];
            let mut other = open(&there, &elsewhere).await;
            for one in open_ones.iter_mut().take(2) {
                one.passes(name).await;
                one.passes(name).await;
            }
            let grant = open_ones[0].grant.grant().unwrap();
            let waiting = open_ones.each_mut().map(|one| one.ended(name));
            let end = async {
                tokio::task::yield_now().await;
                match name {
                    "revoked" => drop(app.revoke(&first).await),
                    "revoked alone" => drop(
                        app.post("/revoke", &[("token", &access), ("client_id", "app")])
                            .await,
                    ),
                    "reused" => {
                        let (second, _) = pair(&app.refresh(&first).await);
                        app.refresh(&second).await.token();
                        app.clock.advance(Duration::from_secs(61));
                        app.refresh(&first).await;
                    }
                    "ended by the application" => {
                        assert!(app.layer.end_grant(&grant).await.unwrap());
                    }
                    _ => {
                        app.upstream.then(Act::Answer(
                            400,
                            "application/json",
                            r#"{"error":"invalid_grant"}"#,
                        ));
                        app.refresh(&first).await;
                    }
                }
            };
            if name == "revoked alone" {
                app.upstream.then(Act::Answer(200, "text/plain", ""));
            }
            let [one, two, three] = waiting;
            let (one, two, three, ()) = tokio::join!(one, two, three, end);
            assert_eq!(
                [one, two, three],
                [ResponseEnded::GrantEnded; 3],
                "{name}, {cache}"
            );
            other.passes("another grant is still valid").await;
        }
    }
}

#[tokio::test]
async fn a_response_ends_before_the_revocation_is_confirmed() {
    for looked_at in [0, 1, 3] {
        let app = referencing();
        let layer = ending(&app, |builder| builder);
        let (token, access) = pair(&app.post("/token", &LOG_IN).await);
        let mut one = open(&layer, &access).await;
        for _ in 0..looked_at {
            one.passes("before").await;
        }
        app.revoke(&token).await;
        // The inner service has one more frame, and the slow client reads only now.
        one.sender
            .send_data(Bytes::from_static(b"late"))
            .await
            .unwrap();
        assert_eq!(
            one.ended("after").await,
            ResponseEnded::GrantEnded,
            "{looked_at} frames before"
        );
    }
}

/// Without announcements, the token is read again within the time to live of the cache.
#[tokio::test]
async fn without_announcements_a_response_ends_within_the_cache_ttl() {
    for ttl in [Duration::ZERO, Duration::from_secs(1)] {
        let app = referencing();
        let layer = AccessLayer::builder(app.store.clone()).clock(app.clock.clone());
        let layer = layer.cache_ttl(ttl).end_responses(true).build().unwrap();
        app.store.hook(|_, call| {
            if *call == Call::Announce {
                Plan::Lose
            } else {
                Plan::Pass
            }
        });
        let (token, access) = pair(&app.post("/token", &LOG_IN).await);
        let mut one = open(&layer, &access).await;
        one.passes("alive").await;
        assert_eq!(app.revoke(&token).await.status, 200);
        assert_eq!(one.ended("revoked").await, ResponseEnded::GrantEnded);
    }
}

#[tokio::test]
async fn a_response_ends_if_the_store_does_not_confirm_its_token_in_time() {
    for recovers in [true, false] {
        let app = referencing();
        let layer = ending(&app, |builder| builder.cache_ttl(Duration::from_secs(1)));
        let (_, access) = pair(&app.post("/token", &LOG_IN).await);
        let mut one = open(&layer, &access).await;
        one.passes("at first").await;
        let failures = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&failures);
        app.store.hook(move |_, call| {
            let mut failures = counted.lock().unwrap();
            if !matches!(call, Call::Get) || (recovers && *failures == 2) {
                return Plan::Pass;
            }
            *failures += 1;
            Plan::Lose
        });
        if recovers {
            let end = tokio::time::Instant::now() + PATIENCE;
            while *failures.lock().unwrap() < 2 || app.store.calls().is_empty() {
                assert!(
                    tokio::time::Instant::now() < end,
                    "the store was never called again"
                );
                let _ = timeout(Duration::from_millis(20), one.body.frame()).await;
            }
            one.passes("the store is back").await;
        } else {
            assert_eq!(
                one.ended("the store is away").await,
                ResponseEnded::Unconfirmed
            );
            assert!(
                app.events().contains(&EventKind::StoreUnavailable),
                "an event states the reason"
            );
        }
    }
}

#[tokio::test]
async fn a_rotation_does_not_end_a_response() {
    let app = referencing();
    let layer = ending(&app, |builder| builder);
    let (mut token, access) = pair(&app.post("/token", &LOG_IN).await);
    let mut one = open(&layer, &access).await;
    for _ in 0..3 {
        token = app.refresh(&token).await.token();
        one.passes("rotated").await;
    }
}

#[tokio::test]
async fn responses_are_not_ended_by_default() {
    let app = referencing();
    let layer = app.layer.access().build().unwrap();
    let off = app
        .layer
        .access()
        .end_responses(true)
        .end_responses(false)
        .build()
        .unwrap();
    let (token, access) = pair(&app.post("/token", &LOG_IN).await);
    let (mut one, mut two) = (open(&layer, &access).await, open(&off, &access).await);
    app.revoke(&token).await;
    app.clock.advance(Duration::from_secs(4000));
    one.passes("by default").await;
    two.passes("off again").await;
}

#[tokio::test]
async fn a_complete_response_is_unchanged() {
    let app = referencing();
    let layer = ending(&app, |builder| builder);
    let (_, access) = pair(&app.post("/token", &LOG_IN).await);
    let mut one = open(&layer, &access).await;
    one.passes("data").await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "1".parse().unwrap());
    one.sender.send_trailers(trailers.clone()).await.unwrap();
    assert_eq!(
        one.body
            .frame()
            .await
            .unwrap()
            .unwrap()
            .into_trailers()
            .unwrap(),
        trailers
    );
    drop(one.sender);
    assert!(one.body.frame().await.is_none());

    let mut broken = open(&layer, &access).await;
    broken.passes("data").await;
    broken.sender.abort(io::Error::other("the disk is full"));
    let error = broken.body.frame().await.unwrap().unwrap_err();
    assert!(
        error.downcast_ref::<io::Error>().is_some(),
        "{error}: passed on"
    );

    let whole = service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("whole")))
    });
    let request = Request::get("/")
        .header("authorization", format!("Bearer {access}"))
        .body(())
        .unwrap();
    let body = tower::ServiceExt::oneshot(layer.layer(whole), request)
        .await
        .unwrap()
        .into_body();
    assert_eq!(
        (body.size_hint().exact(), body.is_end_stream()),
        (Some(5), false)
    );
    assert_eq!(body.collect().await.unwrap().to_bytes(), "whole");
}
