//! Clients of the example `mcp` that are known by a document of their own, fetched over TLS from a real server
//! (draft-ietf-oauth-client-id-metadata-document).

#[path = "support/redis/certificates.rs"]
#[allow(dead_code, reason = "other tests need a client's certificate too")]
mod certificates;
mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body_util::Channel;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use url::Url;

use self::certificates::Certificates;
use self::support::http::{Answer, get};
use self::support::mcp::{self, CHALLENGE, onward};
use self::support::process::Example;
use self::support::tls::TlsServer;

const CALLBACK: &str = "https://client.example/callback";

/// A host of documents, by their paths.
#[derive(Clone)]
struct Host {
    certificates: Certificates,
    server: TlsServer,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    documents: Mutex<HashMap<String, Arc<dyn Fn() -> Response + Send + Sync>>>,
    requests: AtomicUsize,
    /// Whether answers are kept back.
    held: watch::Sender<bool>,
}

impl Host {
    async fn start() -> Self {
        let certificates = Certificates::generate();
        let state = Arc::new(State::default());
        let answering = Arc::clone(&state);
        let router = Router::new().fallback(move |request: Request| async move {
            answering.requests.fetch_add(1, Ordering::SeqCst);
            let _ = answering.held.subscribe().wait_for(|held| !held).await;
            let path = request.uri().path_and_query().unwrap().as_str();
            let document = answering.documents.lock().unwrap().get(path).cloned();
            document.map_or_else(|| StatusCode::NOT_FOUND.into_response(), |document| document())
        });
        let identity = &certificates.server;
        let server = TlsServer::start(&identity.certificate, &identity.key, router).await;
        Self { certificates, server, state }
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.server.addr.port())
    }

    /// From now on this is the answer there; the URL.
    fn serve(&self, path: &str, answer: impl Fn() -> Response + Send + Sync + 'static) -> String {
        self.state.documents.lock().unwrap().insert(path.to_owned(), Arc::new(answer));
        self.url(path)
    }

    /// From now on a good document lies there, but for these members and with these headers; its URL.
    fn document(&self, path: &str, changes: &Value, headers: &'static [(&str, &str)]) -> String {
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

    fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Starts the server so that it may ask this host, and trusts it.
    async fn mcp(&self, flags: &[&str]) -> Example {
        let ca = self.certificates.file("ca.pem");
        start(&[&["--metadata-loopback", "--metadata-ca", ca.to_str().unwrap()], flags].concat()).await
    }
}

async fn start(flags: &[&str]) -> Example {
    mcp::start(&flags.iter().map(|&flag| flag.to_owned()).collect::<Vec<_>>()).await
}

/// With these headers, JSON if they say nothing else.
fn answer(headers: &[(&'static str, &'static str)], body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    for (name, value) in headers {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

async fn authorize_at(server: String, client_id: &str, redirect_uri: &str) -> Answer {
    let query = [
        ("response_type", "code"),
        ("client_id", client_id),
        ("redirect_uri", redirect_uri),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    get(Url::parse_with_params(&server, query).unwrap().as_str()).await
}

async fn authorize(server: &Example, client_id: &str) -> Answer {
    authorize_at(server.url("/authorize"), client_id, CALLBACK).await
}

/// Panics unless a log-in for the client begins.
async fn is_known(server: &Example, client_id: &str) {
    let answer = authorize(server, client_id).await;
    assert!(answer.status == StatusCode::SEE_OTHER && onward(&answer).contains("/consent"), "{client_id}: {answer:?}");
}

/// Panics unless a page says this of the client, and sends nobody anywhere.
async fn is_refused(server: &Example, client_id: &str, words: &str) {
    let answer = authorize(server, client_id).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{client_id}: {answer:?}");
    assert!(answer.text().contains(words), "{client_id}: {words:?} is not said: {}", answer.text());
    assert!(!answer.headers.contains_key("location") && !answer.headers.contains_key("refresh"), "{answer:?}");
}

#[tokio::test]
async fn a_client_is_known_by_its_document() {
    let host = Host::start().await;
    let server = host.mcp(&[]).await;
    let client_id = host.document("/client.json", &json!({}), &[]);
    is_known(&server, &client_id).await;
    for (uri, allowed) in [
        ("http://127.0.0.1:51004/callback", true),
        ("http://localhost:51004/callback", false),
        ("https://evil.example/callback", false),
    ] {
        let answer = authorize_at(server.url("/authorize"), &client_id, uri).await;
        assert_eq!(answer.status == StatusCode::SEE_OTHER, allowed, "{uri}: {answer:?}");
    }
    is_known(&server, &host.document("/query.json?v=1", &json!({}), &[])).await;
    is_known(&server, &host.document("/own", &json!({}), &[("content-type", "application/client+json; x=y")])).await;
    is_known(&server, &host.document("/plain", &json!({ "token_endpoint_auth_method": null }), &[])).await;
}

#[tokio::test]
async fn what_is_no_document_of_the_client_is_refused() {
    let host = Host::start().await;
    let server = host.mcp(&[]).await;
    let good = host.document("/good", &json!({}), &[]);
    let of = |path: &str, changes: Value| host.document(path, &changes, &[]);
    let rows = [
        (host.url("/nowhere"), "status 404"),
        (host.serve("/broken", || StatusCode::INTERNAL_SERVER_ERROR.into_response()), "status 500"),
        (host.serve("/made", || (StatusCode::CREATED, answer(&[], "{}")).into_response()), "status 201"),
        (host.document("/page", &json!({}), &[("content-type", "text/html")]), "not JSON by its Content-Type"),
        (host.document("/form", &json!({}), &[("content-type", "application/jsonp")]), "not JSON by its Content-Type"),
        (host.serve("/no-json", || answer(&[], "redirect_uris=x")), "must be a JSON object"),
        (host.serve("/list", || answer(&[], "[]")), "must be a JSON object"),
        (host.serve("/cut", || answer(&[], "{\"client_id\":")), "cannot be read"),
        (of("/other", json!({ "client_id": good })), "of another client"),
        (of("/none", json!({ "client_id": null })), "of another client"),
        (of("/slash", json!({ "client_id": host.url("/slash/") })), "of another client"),
        (of("/case", json!({ "client_id": host.url("/CASE") })), "of another client"),
        (of("/secret", json!({ "client_secret": "x" })), "holds a secret"),
        (of("/expiry", json!({ "client_secret_expires_at": 0 })), "holds a secret"),
        (of("/basic", json!({ "token_endpoint_auth_method": "client_secret_basic" })), "asks for a secret"),
        (of("/post", json!({ "token_endpoint_auth_method": "client_secret_post" })), "asks for a secret"),
        (of("/key", json!({ "token_endpoint_auth_method": "private_key_jwt" })), "must be one of"),
        (of("/no-uris", json!({ "redirect_uris": [] })), "must hold at least one"),
        (of("/script", json!({ "redirect_uris": ["javascript:alert(1)"] })), "scheme is not allowed"),
        (of("/http", json!({ "redirect_uris": ["http://client.example/"] })), "use https"),
        (of("/grants", json!({ "grant_types": ["client_credentials"] })), "grant_types must hold"),
    ];
    for (client_id, words) in rows {
        is_refused(&server, &client_id, words).await;
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let host = Host::start().await;
    let server = host.mcp(&[]).await;
    let target = host.document("/target", &json!({ "client_id": host.url("/moved") }), &[]);
    for status in [StatusCode::MOVED_PERMANENTLY, StatusCode::FOUND, StatusCode::TEMPORARY_REDIRECT] {
        let target = target.clone();
        let moved = host.serve("/moved", move || (status, [("location", target.clone())]).into_response());
        let before = host.requests();
        is_refused(&server, &moved, &format!("status {}", status.as_u16())).await;
        assert_eq!(host.requests(), before + 1, "{status}");
    }
}

#[tokio::test]
async fn a_document_has_a_limit() {
    let host = Host::start().await;
    let server = host.mcp(&[]).await;
    let padded = |path: &str, size: usize| {
        let document = json!({ "client_id": host.url(path), "redirect_uris": [CALLBACK] }).to_string();
        document.clone() + &" ".repeat(size - document.len())
    };
    let (whole, large, endless) = (padded("/whole", 5120), padded("/large", 5121), padded("/chunks", 5120));
    is_known(&server, &host.serve("/whole", move || answer(&[], whole.clone()))).await;
    is_refused(&server, &host.serve("/large", move || answer(&[], large.clone())), "larger than 5120 bytes").await;
    // Without a length, and without an end.
    let chunks = host.serve("/chunks", move || {
        let (mut sender, body) = Channel::<Bytes>::new(1);
        let chunk = Bytes::from(endless.clone());
        tokio::spawn(async move { while sender.send_data(chunk.clone()).await.is_ok() {} });
        answer(&[], Body::new(body))
    });
    is_refused(&server, &chunks, "larger than 5120 bytes").await;
}

#[tokio::test]
async fn a_host_that_does_not_come_to_an_end_is_given_up() {
    let host = Host::start().await;
    let server = host.mcp(&[]).await;
    let stuck = host.serve("/stuck", || {
        let (mut sender, body) = Channel::<Bytes>::new(1);
        tokio::spawn(async move {
            while sender.send_data(Bytes::from_static(b" ")).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
        answer(&[], Body::new(body))
    });
    is_refused(&server, &stuck, "did not come within 10 seconds").await;
    host.state.held.send_replace(true);
    let silent = host.document("/silent", &json!({}), &[]);
    is_refused(&server, &silent, "did not come within 10 seconds").await;
}

#[tokio::test]
async fn a_document_is_remembered_but_no_error() {
    let host = Host::start().await;
    let server = host.mcp(&[]).await;
    let client_id = host.document("/client", &json!({}), &[("cache-control", "no-store")]);
    for _ in 0..3 {
        is_known(&server, &client_id).await;
    }
    assert_eq!(host.requests(), 1, "for a minute at least");
    host.serve("/late", || StatusCode::SERVICE_UNAVAILABLE.into_response());
    let late = host.url("/late");
    is_refused(&server, &late, "status 503").await;
    host.document("/late", &json!({}), &[]);
    is_known(&server, &late).await;
}

#[cfg(feature = "redb")]
#[tokio::test]
async fn a_document_is_remembered_by_the_store() {
    let host = Host::start().await;
    let directory = tempfile::tempdir().unwrap();
    let store = format!("redb:{}", directory.path().join("store").display());
    let client_id = host.document("/client", &json!({}), &[("cache-control", "max-age=3600")]);
    for _ in 0..2 {
        let mut server = host.mcp(&["--store", &store]).await;
        is_known(&server, &client_id).await;
        server.terminate();
        server.ended(Duration::from_secs(30)).await;
    }
    assert_eq!(host.requests(), 1);
    // What is allowed is what is allowed now.
    let server = host.mcp(&["--store", &store, "--allowed-redirect", "https://other.example/*"]).await;
    assert_eq!(authorize(&server, &client_id).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(host.requests(), 1);
}

#[tokio::test]
async fn many_that_ask_at_once_ask_once() {
    let host = Host::start().await;
    let server = host.mcp(&[]).await;
    for (path, known) in [("/client", true), ("/nowhere", false)] {
        let before = host.requests();
        host.state.held.send_replace(true);
        let client_id = if known { host.document(path, &json!({}), &[]) } else { host.url(path) };
        let mut asking = JoinSet::new();
        for _ in 0..20 {
            let (server, client_id) = (server.url("/authorize"), client_id.clone());
            asking.spawn(async move { authorize_at(server, &client_id, CALLBACK).await.status });
        }
        while host.requests() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Time for the others. Whoever comes later finds a document all the same, but asks anew after an error.
        tokio::time::sleep(Duration::from_millis(1000)).await;
        host.state.held.send_replace(false);
        let status = if known { StatusCode::SEE_OTHER } else { StatusCode::BAD_REQUEST };
        assert!(asking.join_all().await.iter().all(|answer| *answer == status));
        let asked = host.requests() - before;
        assert!(asked == 1 || (!known && asked < 20), "{path}: {asked}");
    }
}

#[tokio::test]
async fn who_gives_up_leaves_the_others_their_answer() {
    let host = Host::start().await;
    let server = host.mcp(&[]).await;
    host.state.held.send_replace(true);
    let client_id = host.document("/client", &json!({}), &[]);
    let ask = || {
        let (server, client_id) = (server.url("/authorize"), client_id.clone());
        tokio::spawn(async move { authorize_at(server, &client_id, CALLBACK).await.status })
    };
    let first = ask();
    while host.requests() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let second = ask();
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    host.state.held.send_replace(false);
    assert_eq!(second.await.unwrap(), StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn nothing_private_is_asked() {
    let host = Host::start().await;
    let client_id = host.document("/client", &json!({}), &[]);
    let port = host.server.addr.port();
    let ca = host.certificates.file("ca.pem");
    let server = start(&["--metadata-ca", ca.to_str().unwrap()]).await;
    let locals = ["127.0.0.1", "127.0.0.2", "[::1]", "[::ffff:7f00:1]", "0.0.0.0", "[::]"];
    let locals = locals.map(|host| format!("https://{host}:{port}/client"));
    for local in locals.iter().chain([&client_id]) {
        is_refused(&server, local, "its host is not public").await;
    }
    assert_eq!(host.server.connections(), 0);
    // Neither where this machine may be asked.
    let loopback = host.mcp(&[]).await;
    for address in [
        "10.0.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.168.0.1",
        "224.0.0.1",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::]",
    ] {
        for server in [&server, &loopback] {
            is_refused(server, &format!("https://{address}/latest/meta-data"), "its host is not public").await;
        }
    }
}

#[tokio::test]
async fn a_host_that_nobody_vouches_for_is_not_believed() {
    let host = Host::start().await;
    let client_id = host.document("/client", &json!({}), &[]);
    let server = start(&["--metadata-loopback"]).await;
    is_refused(&server, &client_id, "cannot be fetched").await;
    assert_eq!((host.server.connections() > 0, host.requests()), (true, 0));
    // A certificate for another name.
    let server = host.mcp(&[]).await;
    let other = format!("https://[::1]:{}/client", host.server.addr.port());
    is_refused(&server, &other, "cannot be fetched").await;
    assert_eq!(host.requests(), 0);
}

#[tokio::test]
async fn what_is_no_url_of_a_document_is_not_asked() {
    let host = Host::start().await;
    let server = host.mcp(&[]).await;
    let (good, port) = (host.document("/client", &json!({}), &[]), host.server.addr.port());
    for client_id in [
        format!("http://localhost:{port}/client"),
        format!("{good}#x"),
        format!("https://user@localhost:{port}/client"),
        format!("https://localhost:{port}"),
        format!("https://localhost:{port}/"),
        format!("https://localhost:{port}/a/../client"),
        format!("https://LOCALHOST:{port}/client"),
        format!(" {good}"),
    ] {
        is_refused(&server, &client_id, "no URL of a client id metadata document").await;
    }
    let off = host.mcp(&["--no-metadata-documents"]).await;
    assert_eq!(authorize(&off, &good).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(host.requests(), 0);
}

#[tokio::test]
async fn the_consent_page_says_which_host_vouches_for_a_client() {
    let host = Host::start().await;
    let server = host.mcp(&[]).await;
    let client_id = host.document("/client", &json!({ "client_name": "Nice <b>client" }), &[]);
    let mut browser = mcp::Browser::default();
    let asked = browser.get(&mcp::request(&server, &client_id, CALLBACK, &[])).await;
    let page = browser.get(&onward(&asked)).await;
    mcp::assert_is_page(&page);
    let authority = &host.url("")["https://".len()..];
    let lead = format!("<bdi><strong>{authority}</strong></bdi> wants to use ");
    for words in [&*lead, "The program is published by", "It calls itself “<bdi>Nice &lt;b&gt;client</bdi>”"] {
        assert!(page.text().contains(words), "{words:?} is missing: {}", page.text());
    }
    assert!(!page.text().contains("Nobody has checked it"), "its host is known");
}
