//! The upstream access token of an access token in use, renewed once for all instances.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, StatusCode};
use http_body_util::Full;
use test_support::redis::RedisServer;
use test_support::{App, ManualClock, Upstream};
use tokio::task::JoinSet;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_oauth_refresh::access::AccessBody;
use tower_oauth_refresh::store::{RedisStore, TieredStore};
use tower_oauth_refresh::{ClientCredentials, EventKind};

use crate::faults::{LIMIT, RedisApp, count, events};

const HOUR: Duration = Duration::from_secs(3600);

async fn instance(server: &RedisServer, upstream: &Upstream, clock: &ManualClock) -> RedisApp {
    let store = RedisStore::builder(&server.url()).command_timeout(LIMIT);
    let store = TieredStore::new(store.connect().await.unwrap());
    App::over(clock.clone(), store, upstream.clone(), |builder| {
        builder
            .rotation_timeout(LIMIT)
            .reference_access_tokens(true)
            .access_token_lifetime(24 * HOUR)
    })
}

/// The upstream accepts each of its refresh tokens once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_on_four_instances_cause_one_refresh() {
    let (server, upstream) = (RedisServer::start().await, Upstream::new());
    let clock = ManualClock::new();
    let mut instances = Vec::new();
    for _ in 0..4 {
        instances.push(instance(&server, &upstream, &clock).await);
    }
    let guarded = instances.iter().map(|app| {
        let builder = app.layer.access();
        let credentials = ClientCredentials::public();
        let layer = builder
            .upstream_refresh::<_, Full<Bytes>, _>(upstream.clone(), credentials)
            .build()
            .unwrap();
        let resource = service_fn(async |request: Request<Full<Bytes>>| {
            let sent = request.headers()["authorization"].clone();
            let mut response = http::Response::new(Full::<Bytes>::default());
            response.headers_mut().insert("x-sent", sent);
            Ok::<_, std::convert::Infallible>(response)
        });
        layer.layer(resource)
    });
    let guarded: Vec<_> = guarded.collect();
    let log_in = test_support::access::LOG_IN;
    let answer = instances[0].post("/token", &log_in).await;
    let mut refresh = answer.token();
    let access = answer.get("access_token").unwrap();
    let send = |number: usize| {
        let service = guarded[number % 4].clone();
        let request = Request::get("/").header("authorization", format!("Bearer {access}"));
        let request = request.body(Full::<Bytes>::default()).unwrap();
        async move {
            let Ok(response) = service.oneshot(request).await;
            let response: http::Response<AccessBody<Full<Bytes>>> = response;
            let sent = response.headers().get("x-sent").cloned();
            (
                response.status(),
                sent.map(|sent| sent.to_str().unwrap().to_owned()),
            )
        }
    };
    for round in 1..=3 {
        // Every instance has the token in its cache.
        for answer in join_all((0..8).map(send)).await {
            assert_eq!(answer.0, StatusCode::OK);
        }
        clock.advance(HOUR);
        let mut requests = JoinSet::new();
        for number in 0..1000 {
            requests.spawn(send(number));
        }
        for (status, sent) in requests.join_all().await {
            assert_eq!(status, StatusCode::OK);
            assert_eq!(sent, Some(format!("Bearer at-0-{round}")));
        }
        assert_eq!((upstream.refreshes(), upstream.reuses()), (round, 0));
    }
    let events = events(&instances);
    assert_eq!(count(&events, EventKind::Renewed), 3, "{events:?}");
    // The client's refresh token is still the current one, on any instance.
    for instance in &instances {
        refresh = instance.refresh(&refresh).await.token();
    }
    assert_eq!((upstream.reuses(), upstream.alive()), (0, 1));
}
