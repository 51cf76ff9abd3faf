//! A request that waits for a lock or a lease holds no permit of the inner service.

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use test_support::session::{log_in, refresh, send, session_over};
use test_support::{Act, Answer, Upstream, refresh_form, settle};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tower::{Layer as _, Service, ServiceBuilder};
use tower_oauth_refresh::{MemoryStore, RefreshLayer};

type Layer = RefreshLayer<Arc<MemoryStore>>;

fn layer(store: &Arc<MemoryStore>) -> Layer {
    RefreshLayer::builder(Arc::clone(store)).build().unwrap()
}

fn spawn_refresh<S, B>(service: &S, token: &str) -> JoinHandle<Answer>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Debug, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: Body<Data = Bytes, Error: Debug> + Send + 'static,
{
    let (service, token) = (service.clone(), token.to_owned());
    tokio::spawn(async move { refresh(&service, &token).await })
}

/// Runs a check over every kind of service that lets one caller at a time through.
macro_rules! over_one_permit {
    ($check:ident) => {
        $check(|layer, upstream| {
            ServiceBuilder::new()
                .layer(layer)
                .concurrency_limit(1)
                .service(upstream)
        })
        .await;
        $check(|layer, upstream| {
            ServiceBuilder::new()
                .layer(layer)
                .buffer(1)
                .service(upstream)
        })
        .await;
        $check(|layer, upstream| {
            ServiceBuilder::new()
                .layer(layer)
                .buffer(1)
                .concurrency_limit(1)
                .service(upstream)
        })
        .await;
    };
}

// In paused time, a deadlock ends immediately with 503.

#[tokio::test(start_paused = true)]
async fn waiting_for_a_rotation_does_not_hold_an_inner_permit() {
    async fn check<S, B>(stack: impl Fn(Layer, Upstream) -> S)
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Debug, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
        B: Body<Data = Bytes, Error: Debug> + Send + 'static,
    {
        let upstream = Upstream::new();
        let service = stack(layer(&Arc::default()), upstream.clone());
        let (one, other) = (log_in(&service).await, log_in(&service).await);
        let gate = Arc::new(Notify::new());
        upstream.then(Act::Wait(Arc::clone(&gate)));

        let rotates = spawn_refresh(&service, &one);
        settle().await;
        let waits = spawn_refresh(&service, &one);
        settle().await;
        let rotates_other = spawn_refresh(&service, &other);
        settle().await;
        gate.notify_one();

        let next = rotates.await.unwrap().token();
        assert_eq!(waits.await.unwrap().token(), next);
        rotates_other.await.unwrap().token();
        assert_eq!((upstream.refreshes(), upstream.reuses()), (2, 0));
    }
    over_one_permit!(check);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_another_instance_does_not_hold_an_inner_permit() {
    async fn check<S, B>(stack: impl Fn(Layer, Upstream) -> S)
    where
        S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Debug, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
        B: Body<Data = Bytes, Error: Debug> + Send + 'static,
    {
        let (upstream, store) = (Upstream::new(), Arc::new(MemoryStore::new()));
        let another = layer(&store).layer(upstream.clone());
        let service = stack(layer(&store), upstream.clone());
        let (one, other) = (log_in(&service).await, log_in(&service).await);
        let gate = Arc::new(Notify::new());
        upstream.then(Act::Wait(Arc::clone(&gate)));

        let rotates = spawn_refresh(&another, &one);
        settle().await;
        let waits = spawn_refresh(&service, &one);
        settle().await;
        // Other requests proceed while that one waits.
        refresh(&service, &other).await.token();
        session_over(&service, &upstream).await;
        let get = Request::get("/elsewhere").body(Full::default()).unwrap();
        assert_eq!(
            send(&service, get).await.status,
            StatusCode::BAD_REQUEST,
            "the server knows no such path"
        );
        assert!(!waits.is_finished());
        gate.notify_one();

        let next = rotates.await.unwrap().token();
        assert_eq!(waits.await.unwrap().token(), next);
        assert_eq!(upstream.reuses(), 0);
    }
    over_one_permit!(check);
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_rotation_releases_its_permit_when_it_completes() {
    let upstream = Upstream::new();
    let refresh_layer = layer(&Arc::default());
    let service = ServiceBuilder::new()
        .layer(refresh_layer.clone())
        .concurrency_limit(1)
        .service(upstream.clone());
    let token = log_in(&service).await;
    let gate = Arc::new(Notify::new());
    upstream.then(Act::Wait(Arc::clone(&gate)));
    let client = spawn_refresh(&service, &token);
    settle().await;
    client.abort();
    settle().await;
    gate.notify_one();
    refresh_layer.drain().await;
    session_over(&service, &upstream).await;
    refresh(&service, &token).await.token();
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_response_releases_the_permit_of_an_outer_limit() {
    let upstream = Upstream::new();
    let service = ServiceBuilder::new()
        .concurrency_limit(1)
        .layer(layer(&Arc::default()))
        .service(upstream.clone());
    let token = log_in(&service).await;
    let requests = ["rt_unknown", &token, &token].map(|token| spawn_refresh(&service, token));
    let mut statuses = Vec::new();
    for request in requests {
        statuses.push(request.await.unwrap().status.as_u16());
    }
    assert_eq!(statuses, [400, 200, 200]);
    let malformed = test_support::post(
        "/token",
        &[refresh_form("app", &token), refresh_form("app", &token)].concat(),
    );
    assert_eq!(
        send(&service, malformed).await.error(),
        (400, "invalid_request".into())
    );
    session_over(&service, &upstream).await;
}
