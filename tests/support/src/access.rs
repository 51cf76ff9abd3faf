//! A resource server behind an `AccessLayer`.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use tower::{Layer as _, Service, ServiceExt as _};
use tower_oauth_refresh::access::Access;
use tower_oauth_refresh::store::Store;
use tower_oauth_refresh::{AccessError, AccessGrant, AccessLayer, AccessLayerBuilder};

use super::{Answer, App, PATIENCE, TestStore};

const POLL: Duration = Duration::from_millis(20);

/// Responds with the request that it received, and records the headers.
#[derive(Clone, Debug, Default)]
pub struct Resource(Arc<Mutex<Vec<(HeaderMap, AccessGrant)>>>);

impl Resource {
    /// Returns the headers of the requests that have reached it.
    pub fn seen(&self) -> Vec<HeaderMap> {
        self.0
            .lock()
            .unwrap()
            .iter()
            .map(|(headers, _)| headers.clone())
            .collect()
    }
}

impl<B> Service<Request<B>> for Resource {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let grant = request.extensions().get::<AccessGrant>().unwrap();
        self.0
            .lock()
            .unwrap()
            .push((request.headers().clone(), grant.clone()));
        let values = request
            .headers()
            .get_all("authorization")
            .iter()
            .map(|value| value.to_str().unwrap());
        let body = serde_json::json!({
            "authorization": values.collect::<Vec<_>>(),
            "client": grant.client_id(),
            "scopes": grant.scopes().collect::<Vec<_>>(),
            "resources": grant.resources().collect::<Vec<_>>(),
            "expires_at": grant.expires_at().as_millis(),
        });
        ready(Ok(Response::new(body.to_string().into())))
    }
}

/// A resource server and its layer.
#[derive(Clone)]
pub struct Guarded {
    pub layer: AccessLayer<TestStore>,
    pub service: Access<Resource, TestStore>,
    pub resource: Resource,
}

impl Guarded {
    pub fn new(app: &App) -> Self {
        Self::with(app, |builder| builder)
    }

    pub fn with(
        app: &App,
        settings: impl FnOnce(AccessLayerBuilder<TestStore>) -> AccessLayerBuilder<TestStore>,
    ) -> Self {
        Self::of(settings(app.layer.access()).build().unwrap())
    }

    pub fn of(layer: AccessLayer<TestStore>) -> Self {
        let resource = Resource::default();
        let service = layer.layer(resource.clone());
        Self {
            layer,
            service,
            resource,
        }
    }

    /// Sends a request with these `Authorization` values. Returns the cause as well if it was
    /// rejected.
    pub async fn send(&self, values: &[&str]) -> (Answer, Option<AccessError>) {
        let mut request = Request::get("/orders");
        for value in values {
            request = request.header("authorization", *value);
        }
        let request = request.body(Full::<Bytes>::default()).unwrap();
        let Ok(response) = self.service.clone().oneshot(request).await;
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let cause = head.extensions.get::<AccessError>().cloned();
        (
            Answer {
                status: head.status,
                headers: head.headers,
                body,
            },
            cause,
        )
    }

    pub async fn get(&self, token: &str) -> Answer {
        self.send(&[&format!("Bearer {token}")]).await.0
    }

    /// Returns the upstream token that reached the resource server.
    #[track_caller]
    pub fn swapped(answer: &Answer) -> String {
        assert_eq!(answer.status, 200, "{answer:?}");
        let values = answer.json()["authorization"].as_array().unwrap().clone();
        assert_eq!(values.len(), 1, "{answer:?}");
        values[0]
            .as_str()
            .unwrap()
            .strip_prefix("Bearer ")
            .unwrap()
            .to_owned()
    }

    /// Returns the grant of a request with this token, if it is let through.
    pub async fn grant(&self, token: &str) -> Option<AccessGrant> {
        let let_through = self.status(token).await == 200;
        let seen = self
            .resource
            .0
            .lock()
            .unwrap()
            .last()
            .map(|(_, grant)| grant.clone());
        seen.filter(|_| let_through)
    }

    pub async fn status(&self, token: &str) -> u16 {
        self.get(token).await.status.as_u16()
    }
}

/// Returns the status of a request with this token to a resource server behind this layer.
pub async fn status<St: Store + Clone>(access: &AccessLayer<St>, token: &str) -> u16 {
    let request = Request::get("/")
        .header("authorization", format!("Bearer {token}"))
        .body(())
        .unwrap();
    let Ok(response) = access.layer(Resource::default()).oneshot(request).await;
    response.status().as_u16()
}

/// Waits until a resource server behind this layer rejects the token.
pub async fn refused<St: Store + Clone>(access: &AccessLayer<St>, token: &str, what: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        match status(access, token).await {
            401 => return,
            // An unreachable store rejects no token.
            200 | 503 => {}
            status => panic!("{what}: {status}"),
        }
        assert!(Instant::now() < end, "{what}: the token never ended");
        tokio::time::sleep(POLL).await;
    }
}

/// Returns an instance that issues access tokens of its own.
pub fn referencing() -> App {
    App::with(|builder| builder.reference_access_tokens(true))
}

/// Returns another instance over the same store, in front of the same server.
pub fn another(app: &App) -> App {
    App::over(
        app.clock.clone(),
        app.store.clone(),
        app.upstream.clone(),
        |builder| builder.reference_access_tokens(true),
    )
}

/// Returns the refresh token and the access token of a success.
#[track_caller]
pub fn pair(answer: &Answer) -> (String, String) {
    (answer.token(), access_token(answer))
}

#[track_caller]
pub fn access_token(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    let token = answer
        .get("access_token")
        .unwrap_or_else(|| panic!("no access token in {answer:?}"));
    assert!(token.starts_with("at_") && token.len() == 75, "{token}");
    token
}

pub const LOG_IN: [(&str, &str); 3] = [
    ("grant_type", "authorization_code"),
    ("code", "c"),
    ("client_id", "app"),
];
