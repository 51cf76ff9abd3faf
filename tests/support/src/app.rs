//! The layer in front of the strict server, in one process, and a client.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use tower::{BoxError, Layer as _, ServiceExt as _};
use tower_oauth_refresh::{
    Event, EventKind, ManualClock, MemoryStore, Refresh, RefreshLayer, RefreshLayerBuilder, Store,
};

use super::hooked::Hooked;
use super::upstream::Upstream;

pub type TestStore = Hooked<MemoryStore>;

/// An instance of the layer with everything around it.
#[derive(Clone)]
pub struct App<St = TestStore> {
    pub clock: ManualClock,
    pub store: St,
    pub upstream: Upstream,
    pub layer: RefreshLayer<St>,
    pub service: Refresh<Upstream, St>,
    events: Arc<Mutex<Vec<Event>>>,
}

/// A response, read to its end.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// Returns a string member of the JSON body.
    pub fn get(&self, member: &str) -> Option<String> {
        self.json()[member].as_str().map(str::to_owned)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Returns the status and the `error`.
    pub fn error(&self) -> (u16, String) {
        (self.status.as_u16(), self.get("error").unwrap_or_default())
    }

    /// Returns the refresh token of a success.
    #[track_caller]
    pub fn token(&self) -> String {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        self.get("refresh_token")
            .unwrap_or_else(|| panic!("no refresh token in {self:?}"))
    }
}

impl App {
    pub fn new() -> Self {
        Self::with(|builder| builder)
    }

    pub fn with(
        settings: impl FnOnce(RefreshLayerBuilder<TestStore>) -> RefreshLayerBuilder<TestStore>,
    ) -> Self {
        let clock = ManualClock::new();
        let store = Hooked::new(MemoryStore::with_clock(clock.clone()));
        Self::over(clock, store, Upstream::new(), settings)
    }

    /// Returns another instance over the same store, in front of the same server.
    pub fn another(&self) -> Self {
        Self::over(
            self.clock.clone(),
            self.store.clone(),
            self.upstream.clone(),
            |builder| builder,
        )
    }
}

impl<St: Store + Clone> App<St> {
    pub fn over(
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
    pub fn events(&self) -> Vec<EventKind> {
        self.take_events()
            .into_iter()
            .map(|event| event.kind)
            .collect()
    }

    pub fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock().unwrap())
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, BoxError> {
        let (head, body) = self.service.clone().oneshot(request).await?.into_parts();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: body.collect().await?.to_bytes(),
        })
    }

    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        self.send(post(path, form)).await.unwrap()
    }

    /// Logs a client in, and returns its refresh token.
    pub async fn log_in(&self, client: &str) -> String {
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

    pub async fn refresh(&self, token: &str) -> Answer {
        self.refresh_as("app", token).await
    }

    pub async fn refresh_as(&self, client: &str, token: &str) -> Answer {
        self.post("/token", &refresh_form(client, token)).await
    }

    pub async fn revoke(&self, token: &str) -> Answer {
        self.post("/revoke", &[("token", token), ("client_id", "app")])
            .await
    }
}

pub fn refresh_form<'a>(client: &'a str, token: &'a str) -> [(&'a str, &'a str); 3] {
    [
        ("grant_type", "refresh_token"),
        ("refresh_token", token),
        ("client_id", client),
    ]
}

pub fn post(path: &str, form: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish();
    Request::post(path)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::from(body))
        .unwrap()
}

/// Runs everything that can proceed without time passing.
pub async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

pub const SECOND: Duration = Duration::from_secs(1);
