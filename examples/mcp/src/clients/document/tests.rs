//! A real host of documents, and a store in which documents age without a clock.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use governor::clock::MonotonicClock;
use serde_json::json;
use test_support::redis::Certificates;
use test_support::tls::TlsServer;
use tower_oauth_refresh::MemoryStore;
use tower_oauth_refresh::store::BoxStore;

use super::*;
use crate::clients::rules::AllowedRedirects;
use crate::rate_limit::Limit;
use crate::scopes::{Scopes, UnknownScopes};

struct Host {
    documents: Documents,
    rules: Rules,
    client_id: String,
    statuses: Arc<Mutex<HashMap<String, StatusCode>>>,
    requests: Arc<AtomicUsize>,
}

impl Host {
    async fn start() -> Self {
        Self::start_with(None).await
    }

    /// Starts a host whose documents a network may fetch as often as `of_networks` says.
    async fn start_with(of_networks: Option<Limit>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let certificates = Certificates::generate();
        let (statuses, requests) = (Arc::<Mutex<HashMap<_, _>>>::default(), Arc::default());
        let (current, counted) = (Arc::clone(&statuses), Arc::clone(&requests));
        let router = Router::new().fallback(move |request: Request| async move {
            AtomicUsize::fetch_add(&counted, 1, Ordering::SeqCst);
            let authority = request.uri().authority().map(ToString::to_string);
            let host = request.headers().get("host");
            let host = host.map(|host| host.to_str().unwrap().to_owned());
            let path = request.uri().path();
            let status = current.lock().unwrap().get(path).copied();
            let document = json!({
                "client_id": format!("https://{}{path}", authority.or(host).unwrap()),
                "redirect_uris": ["https://client.example/callback"],
            });
            let status = status.unwrap_or(StatusCode::NOT_FOUND);
            (status, axum::Json(document)).into_response()
        });
        let identity = &certificates.server;
        let server = TlsServer::start(&identity.certificate, &identity.key, router).await;
        let ca = certificates.file("ca.pem");
        let records = Records::new(BoxStore::new(MemoryStore::new()));
        let host = Self {
            documents: Documents::new(records, Fetcher::new(Some(&ca), true, of_networks).unwrap()),
            rules: Rules {
                redirects: AllowedRedirects::default(),
                scopes: Scopes::new(vec!["openid".into()], UnknownScopes::Drop),
                fetches_keys: true,
            },
            client_id: format!("https://localhost:{}/client", server.addr.port()),
            statuses,
            requests,
        };
        host.answer(StatusCode::OK);
        host
    }

    /// Sets the status of the responses for the document.
    fn answer(&self, status: StatusCode) {
        let mut statuses = self.statuses.lock().unwrap();
        statuses.insert("/client".into(), status);
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    async fn find(&self) -> Result<Client, ClientError> {
        self.find_named(&self.client_id).await
    }

    async fn find_named(&self, client_id: &str) -> Result<Client, ClientError> {
        self.find_from([127, 0, 0, 1], client_id).await
    }

    async fn find_from(&self, address: [u8; 4], client_id: &str) -> Result<Client, ClientError> {
        let network = Network::of(address.into());
        self.documents.find(client_id, network, &self.rules).await
    }

    async fn is_found(&self) -> bool {
        self.find().await.is_ok()
    }

    /// Lets the stored document age.
    async fn age(&self, age: Duration) {
        let records = &self.documents.records;
        let stored = records.get::<Cached>(KIND, &self.client_id).await.unwrap();
        let mut cached = stored.unwrap().value;
        cached.fresh_until -= age;
        cached.usable_until -= age;
        let day = Duration::from_secs(24 * 3600);
        let put = records.put(KIND, &self.client_id, &cached, day).await;
        put.unwrap();
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_document_that_cannot_be_fetched_is_used_for_a_day() {
    let host = Host::start().await;
    assert!(host.is_found().await);
    host.answer(StatusCode::SERVICE_UNAVAILABLE);
    for status in [503, 429] {
        host.answer(StatusCode::from_u16(status).unwrap());
        host.age(HOUR).await;
        let before = host.requests();
        assert!(host.is_found().await && host.is_found().await);
        assert_eq!(host.requests(), before + 1, "it is fetched again later");
    }
    host.age(STALE).await;
    let error = host.find().await.unwrap_err();
    assert!(error.to_string().contains("status 429"), "{error}");
    host.answer(StatusCode::OK);
    assert!(host.is_found().await);
}

#[tokio::test]
async fn a_document_that_its_host_has_withdrawn_is_not_used() {
    let host = Host::start().await;
    assert!(host.is_found().await);
    host.age(HOUR).await;
    host.answer(StatusCode::NOT_FOUND);
    assert!(!host.is_found().await);
    host.answer(StatusCode::SERVICE_UNAVAILABLE);
    assert!(!host.is_found().await);
}

#[tokio::test]
async fn a_network_beyond_its_limit_does_not_keep_others_from_fetching() {
    let (one, other) = ([192, 0, 2, 1], [192, 0, 2, 2]);
    let host = Host::start_with(Some(Limit::new(NonZeroU32::MIN, MonotonicClock))).await;
    let is_found = async |address| host.find_from(address, &host.client_id).await.is_ok();
    assert!(is_found(one).await);
    host.age(HOUR).await;
    for _ in 0..3 {
        assert!(is_found(one).await, "the document is still usable");
    }
    assert_eq!(host.requests(), 1);
    host.answer(StatusCode::NOT_FOUND);
    assert!(!is_found(other).await, "its host has withdrawn it");
    assert_eq!(host.requests(), 2);
}

#[tokio::test]
async fn strangers_cannot_use_up_the_fetches_of_a_known_client() {
    let host = Host::start().await;
    assert!(host.is_found().await);
    let find = async |number: usize| {
        let client_id = format!("{}-{number}", host.client_id);
        let found = host.find_named(&client_id).await;
        found.unwrap_err().to_string()
    };
    for number in 1..60 {
        let error = find(number).await;
        assert!(error.contains("status 404"), "{error}");
    }
    let error = find(60).await;
    assert!(error.contains("too many others"), "{error}");
    for _ in 0..60 {
        host.age(HOUR).await;
        assert!(host.is_found().await);
    }
    assert_eq!(host.requests(), 120);
    // Nothing is left for this client, either. It is used as it was.
    host.age(HOUR).await;
    assert!(host.is_found().await);
    assert_eq!(host.requests(), 120);
}
