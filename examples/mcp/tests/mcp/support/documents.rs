//! A host of client ID metadata documents, and helpers for tests of the example `mcp` with them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use test_support::PATIENCE;
use test_support::http::{Answer, get};
use test_support::process::Example;
use test_support::redis::Certificates;
use test_support::tls::TlsServer;
use tokio::sync::watch;
use tokio::time::sleep;
use url::Url;

use super::mcp::{self, CHALLENGE, onward};

pub(crate) const CALLBACK: &str = "https://client.example/callback";

/// A host of documents.
#[derive(Clone)]
pub(crate) struct DocumentHost {
    pub(crate) certificates: Certificates,
    pub(crate) server: TlsServer,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    documents: Mutex<HashMap<String, Arc<dyn Fn() -> Response + Send + Sync>>>,
    requests: AtomicUsize,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
    /// Whether responses are held back.
    held: watch::Sender<bool>,
}

/// A request without a response.
struct Present<'a>(&'a State);

impl<'a> Present<'a> {
    fn of(state: &'a State) -> Self {
        let now = state.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        state.most_at_once.fetch_max(now, Ordering::SeqCst);
        Self(state)
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.at_once.fetch_sub(1, Ordering::SeqCst);
    }
}

impl DocumentHost {
    pub(crate) async fn start() -> Self {
        let certificates = Certificates::generate();
        let state = Arc::new(State::default());
        let answering = Arc::clone(&state);
        let router = Router::new().fallback(move |request: Request| async move {
            answering.requests.fetch_add(1, Ordering::SeqCst);
            let _present = Present::of(&answering);
            let _ = answering.held.subscribe().wait_for(|held| !held).await;
            let path = request.uri().path_and_query().unwrap().as_str();
            let document = answering.documents.lock().unwrap().get(path).cloned();
            document.map_or_else(
                || StatusCode::NOT_FOUND.into_response(),
                |document| document(),
            )
        });
        let identity = &certificates.server;
        let server = TlsServer::start(&identity.certificate, &identity.key, router).await;
        Self {
            certificates,
            server,
            state,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.server.addr.port())
    }

    /// Sets the response for a path. Returns the URL.
    pub(crate) fn serve(
        &self,
        path: &str,
        answer: impl Fn() -> Response + Send + Sync + 'static,
    ) -> String {
        self.state
            .documents
            .lock()
            .unwrap()
            .insert(path.to_owned(), Arc::new(answer));
        self.url(path)
    }

    /// Serves a valid document with these changes and headers. Returns its URL.
    pub(crate) fn document(
        &self,
        path: &str,
        changes: &Value,
        headers: &'static [(&str, &str)],
    ) -> String {
        let mut document = json!({
            "client_id": self.url(path),
            "client_name": "Client with a document",
            "client_uri": "https://client.example/",
            "redirect_uris": [CALLBACK, "http://127.0.0.1/callback"],
            "token_endpoint_auth_method": "none",
        });
        for (name, value) in changes.as_object().unwrap() {
            document[name] = value.clone();
        }
        let document = document.to_string();
        self.serve(path, move || answer(headers, document.clone()))
    }

    pub(crate) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Waits until there have been this many requests.
    pub(crate) async fn wait_for_requests(&self, number: usize) {
        let end = Instant::now() + PATIENCE;
        while self.requests() < number {
            assert!(Instant::now() < end, "{} requests", self.requests());
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Returns the highest number of simultaneous requests.
    pub(crate) fn most_at_once(&self) -> usize {
        self.state.most_at_once.load(Ordering::SeqCst)
    }

    /// Sets whether responses are held back.
    pub(crate) fn hold(&self, held: bool) {
        self.state.held.send_replace(held);
    }

    /// Starts the server with flags that let it contact and trust this host.
    pub(crate) async fn mcp(&self, flags: &[&str]) -> Example {
        let ca = self.certificates.file("ca.pem");
        start(
            &[
                &["--metadata-loopback", "--metadata-ca", ca.to_str().unwrap()],
                flags,
            ]
            .concat(),
        )
        .await
    }
}

pub(crate) async fn start(flags: &[&str]) -> Example {
    mcp::start(
        &flags
            .iter()
            .map(|&flag| flag.to_owned())
            .collect::<Vec<_>>(),
    )
    .await
}

/// Returns a response with these headers. The default content type is JSON.
pub(crate) fn answer(headers: &[(&'static str, &'static str)], body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/json"));
    for (name, value) in headers {
        response.headers_mut().insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    response
}

pub(crate) async fn authorize_at(server: String, client_id: &str, redirect_uri: &str) -> Answer {
    let query = [
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", redirect_uri),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    get(Url::parse_with_params(&server, query).unwrap().as_str()).await
}

pub(crate) async fn authorize(server: &Example, client_id: &str) -> Answer {
    authorize_at(server.url("/authorize"), client_id, CALLBACK).await
}

/// Panics unless the client can begin a log-in.
pub(crate) async fn is_known(server: &Example, client_id: &str) {
    let answer = authorize(server, client_id).await;
    assert!(
        answer.status == StatusCode::SEE_OTHER && onward(&answer).contains("/consent"),
        "{client_id}: {answer:?}"
    );
}

/// Panics unless the server responds with a page that contains `words` and does not redirect.
pub(crate) async fn is_refused(server: &Example, client_id: &str, words: &str) {
    let answer = authorize(server, client_id).await;
    assert_eq!(
        answer.status,
        StatusCode::BAD_REQUEST,
        "{client_id}: {answer:?}"
    );
    assert!(
        answer.text().contains(words),
        "{client_id}: {words:?} is missing: {}",
        answer.text()
    );
    assert!(
        !answer.headers.contains_key("location") && !answer.headers.contains_key("refresh"),
        "{answer:?}"
    );
}
