//! The layer in front of the strict server, in one process, and a client.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use tower::{BoxError, ServiceExt as _};
use tower_layer::Layer as _;
use tower_oauth_refresh::{
    Event, EventKind, MemoryStore, Refresh, RefreshLayer, RefreshLayerBuilder, Store,
};

use super::clock::ManualClock;
use super::hooked::Hooked;
use super::upstream::Upstream;

pub(crate) type TestStore = Hooked<MemoryStore>;

/// An instance of the layer with everything around it.
#[derive(Clone)]
pub(crate) struct App<St = TestStore> {
    pub(crate) clock: ManualClock,
    pub(crate) store: St,
    pub(crate) upstream: Upstream,
    pub(crate) layer: RefreshLayer<St>,
    pub(crate) service: Refresh<Upstream, St>,
    events: Arc<Mutex<Vec<Event>>>,
}

/// A response, read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// Returns a string member of the JSON body.
    pub(crate) fn get(&self, member: &str) -> Option<String> {
        self.json()[member].as_str().map(str::to_owned)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Returns the status and the `error`.
    pub(crate) fn error(&self) -> (u16, String) {
        (self.status.as_u16(), self.get("error").unwrap_or_default())
    }

    /// Returns the refresh token of a success.
    #[track_caller]
    pub(crate) fn token(&self) -> String {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        self.get("refresh_token")
            .unwrap_or_else(|| panic!("no refresh token in {self:?}"))
    }
}

impl App {
    pub(crate) fn new() -> Self {
        Self::with(|builder| builder)
    }

    pub(crate) fn with(
        settings: impl FnOnce(RefreshLayerBuilder<TestStore>) -> RefreshLayerBuilder<TestStore>,
    ) -> Self {
        let clock = ManualClock::new();
        let store = Hooked::new(MemoryStore::with_clock(clock.clone()));
        Self::over(clock, store, Upstream::new(), settings)
    }

    /// Returns another instance over the same store, in front of the same server.
    pub(crate) fn another(&self) -> Self {
        Self::over(
            self.clock.clone(),
            self.store.clone(),
            self.upstream.clone(),
            |builder| builder,
        )
    }
}

impl<St: Store + Clone> App<St> {
    pub(crate) fn over(
        clock: ManualClock,
        store: St,
        upstream: Upstream,
        settings: impl FnOnce(RefreshLayerBuilder<St>) -> RefreshLayerBuilder<St>,
    ) -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&events);
        let builder = RefreshLayer::builder(store.clone())
            .clock(clock.clone())
            .on_event(move |event| sink.lock().unwrap().push(event.clone()));
        let layer = settings(builder).build().unwrap();
        let service = layer.layer(upstream.clone());
        Self {
            clock,
            store,
            upstream,
            layer,
            service,
            events,
        }
    }

    /// Returns the kinds of the events since the last call.
    pub(crate) fn events(&self) -> Vec<EventKind> {
        self.take_events()
            .into_iter()
            .map(|event| event.kind)
            .collect()
    }

    pub(crate) fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock().unwrap())
    }

    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, BoxError> {
        let (head, body) = self.service.clone().oneshot(request).await?.into_parts();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.collect().await?.to_bytes(),
        })
    }

    pub(crate) async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        self.send(post(path, form)).await.unwrap()
    }

    /// Logs a client in, and returns its refresh token.
    pub(crate) async fn log_in(&self, client: &str) -> String {
        let secret = format!("secret of {client}");
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", "c"),
            ("client_id", client),
        ];
        if client.starts_with("confidential") {
            form.push(("client_secret", &secret));
        }
        self.post("/token", &form).await.token()
    }

    pub(crate) async fn refresh(&self, token: &str) -> Answer {
        self.refresh_as("app", token).await
    }

    pub(crate) async fn refresh_as(&self, client: &str, token: &str) -> Answer {
        self.post("/token", &refresh_form(client, token)).await
    }

    pub(crate) async fn revoke(&self, token: &str) -> Answer {
        self.post("/revoke", &[("token", token), ("client_id", "app")])
            .await
    }
}

pub(crate) fn refresh_form<'a>(client: &'a str, token: &'a str) -> [(&'a str, &'a str); 3] {
    [
        ("grant_type", "refresh_token"),
        ("refresh_token", token),
        ("client_id", client),
    ]
}

pub(crate) fn post(path: &str, form: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish();
    Request::post(path)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::from(body))
        .unwrap()
}

/// Runs everything that can proceed without time passing.
pub(crate) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

pub(crate) const SECOND: Duration = Duration::from_secs(1);
