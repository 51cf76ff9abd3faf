//! A whole session, for every stack into which the layer is put.

use std::convert::Infallible;
use std::fmt::Debug;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use tower::{Service, ServiceExt as _, service_fn};
use tower_oauth_refresh::{MemoryStore, RefreshLayer};

use super::{Answer, Upstream, post, refresh_form};

pub fn layer() -> RefreshLayer<MemoryStore> {
    RefreshLayer::builder(MemoryStore::new()).build().unwrap()
}

/// Wraps the strict server into a service that never fails, like most servers.
pub fn infallible<B>(
    upstream: &Upstream,
) -> impl Service<Request<B>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ Sync
+ use<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Debug,
{
    let upstream = upstream.clone();
    service_fn(move |request: Request<B>| {
        let upstream = upstream.clone();
        async move { Ok(upstream.oneshot(request).await.unwrap()) }
    })
}

pub async fn try_send<S, B>(service: &S, request: Request<Full<Bytes>>) -> Result<Answer, S::Error>
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>> + Clone,
    B: Body<Data = Bytes>,
    B::Error: Debug,
{
    let (head, body) = service.clone().oneshot(request).await?.into_parts();
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body: body.collect().await.unwrap().to_bytes(),
    })
}

pub async fn send<S, B>(service: &S, request: Request<Full<Bytes>>) -> Answer
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Debug> + Clone,
    B: Body<Data = Bytes>,
    B::Error: Debug,
{
    try_send(service, request).await.unwrap()
}

pub async fn log_in<S, B>(service: &S) -> String
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Debug> + Clone,
    B: Body<Data = Bytes>,
    B::Error: Debug,
{
    send(service, post("/token", &LOG_IN)).await.token()
}

pub async fn refresh<S, B>(service: &S, token: &str) -> Answer
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Debug> + Clone,
    B: Body<Data = Bytes>,
    B::Error: Debug,
{
    send(service, post("/token", &refresh_form("app", token))).await
}

/// Runs [`session`] over a service.
pub async fn session_over<S, B>(service: &S, upstream: &Upstream)
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error: Debug> + Clone,
    B: Body<Data = Bytes>,
    B::Error: Debug,
{
    session(upstream, async |path: &str, form: &[(&str, &str)]| {
        send(service, post(path, form)).await
    })
    .await;
}

const LOG_IN: [(&str, &str); 3] = [
    ("grant_type", "authorization_code"),
    ("code", "c"),
    ("client_id", "app"),
];

/// Runs a client that logs in, refreshes, retries, survives a theft, refreshes again and logs out.
pub async fn session(upstream: &Upstream, post: impl AsyncFn(&str, &[(&str, &str)]) -> Answer) {
    let (alive, refreshes) = (upstream.alive(), upstream.refreshes());
    let first = post("/token", &LOG_IN).await.token();
    assert!(first.starts_with("rt_"), "{first}");
    let second = post("/token", &refresh_form("app", &first)).await.token();
    assert_ne!(second, first);
    assert_eq!(
        post("/token", &refresh_form("app", &first)).await.token(),
        second,
        "a retry gets the same response"
    );
    assert_eq!(
        post("/token", &refresh_form("thief", &second))
            .await
            .error(),
        (400, "invalid_grant".into())
    );
    let third = post("/token", &refresh_form("app", &second)).await.token();
    assert_eq!(upstream.alive(), alive + 1);

    let revoked = post("/revoke", &[("token", &third), ("client_id", "app")]).await;
    assert_eq!(revoked.status, StatusCode::OK, "{revoked:?}");
    assert_eq!(
        post("/token", &refresh_form("app", &third)).await.error(),
        (400, "invalid_grant".into())
    );
    assert_eq!(upstream.alive(), alive, "the logout reached the server");
    assert_eq!(
        (upstream.refreshes(), upstream.reuses()),
        (refreshes + 2, 0)
    );
}
