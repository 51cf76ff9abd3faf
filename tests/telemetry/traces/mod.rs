//! The spans of the layer, exported to OpenTelemetry.

mod background;
mod errors;

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, LazyLock};

use opentelemetry::trace::{
    SpanId, SpanKind, Status, TraceContextExt as _, TraceId, TracerProvider as _,
};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use test_support::access::{Guarded, access_token, pair, referencing};
use test_support::secrets::Needles;
use test_support::{App, Hooked, Upstream};
use tower_oauth_refresh::{BoxStore, ManualClock, MemoryStore, Store, TieredStore};
use tracing::Instrument as _;
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::layer::SubscriberExt as _;

/// The exporter of all tests of this process.
///
/// There is one subscriber, and each test begins with it: a thread without a subscriber that is the
/// first to reach a span can make `tracing` disable that span for all threads.
static EXPORTER: LazyLock<(InMemorySpanExporter, SdkTracerProvider)> = LazyLock::new(|| {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(exporter.clone())
        .build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let subscriber = tracing_subscriber::registry()
        .with(LevelFilter::DEBUG)
        .with(layer);
    tracing::subscriber::set_global_default(subscriber).unwrap();
    (exporter, provider)
});

/// Exports the spans of this process.
pub(crate) fn subscribe() {
    LazyLock::force(&EXPORTER);
}

/// A request of the application, in a span of its own.
struct Request(TraceId);

impl Request {
    /// Makes a call. Returns the request and the result of the call.
    async fn run<T>(call: impl Future<Output = T>) -> (Self, T) {
        subscribe();
        let span = tracing::info_span!("request");
        let trace = span.context().span().span_context().trace_id();
        (Self(trace), call.instrument(span).await)
    }

    /// Returns the spans of the request. Asserts that they are one tree.
    fn tree(&self) -> Tree {
        let (exporter, provider) = &*EXPORTER;
        provider.force_flush().unwrap();
        let mut spans = exporter.get_finished_spans().unwrap();
        spans.retain(|span| span.span_context.trace_id() == self.0);
        let by_id: HashMap<_, _> = spans
            .iter()
            .map(|span| (span.span_context.span_id(), span.clone()))
            .collect();
        let without_parent: Vec<_> = spans
            .iter()
            .filter(|span| !by_id.contains_key(&span.parent_span_id))
            .map(|span| span.name.as_ref())
            .collect();
        assert_eq!(without_parent, ["request"], "{spans:#?}");
        Tree { spans, by_id }
    }
}

struct Tree {
    /// In the order of their ends.
    spans: Vec<SpanData>,
    by_id: HashMap<SpanId, SpanData>,
}

impl Tree {
    /// Returns the path of every span, sorted.
    fn paths(&self) -> Vec<String> {
        let mut paths: Vec<_> = self.spans.iter().map(|span| self.path(span)).collect();
        paths.sort();
        paths
    }

    fn path(&self, span: &SpanData) -> String {
        match self.by_id.get(&span.parent_span_id) {
            Some(parent) => format!("{}/{}", self.path(parent), span.name),
            None => span.name.to_string(),
        }
    }

    /// Returns the spans with this name, in the order of their ends.
    fn named(&self, name: &str) -> Vec<&SpanData> {
        let spans = self.spans.iter();
        spans.filter(|span| span.name == name).collect()
    }

    #[track_caller]
    fn only(&self, name: &str) -> &SpanData {
        let named = self.named(name);
        assert_eq!(named.len(), 1, "{name}: {:?}", self.paths());
        named[0]
    }
}

/// Returns the attributes that the layer sets.
fn attributes(span: &SpanData) -> Vec<(String, String)> {
    let ours = ["db.", "error.", "http.", "url.", "endpoint"];
    let mut attributes: Vec<_> = span
        .attributes
        .iter()
        .map(|attribute| (attribute.key.to_string(), attribute.value.to_string()))
        .filter(|(key, _)| ours.iter().any(|prefix| key.starts_with(prefix)))
        .collect();
    attributes.sort();
    attributes
}

#[track_caller]
fn has<const N: usize>(span: &SpanData, expected: [(&str, &str); N]) {
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(attributes(span), expected, "{}", span.name);
}

fn is_error(span: &SpanData) -> bool {
    matches!(span.status, Status::Error { .. })
}

/// Returns a layer with a token that was refreshed once, so that nothing is read for the first
/// time.
async fn warmed_up() -> (App, String) {
    subscribe();
    let app = App::new();
    let token = app.log_in("app").await;
    let token = app.refresh(&token).await.token();
    (app, token)
}

#[tokio::test]
async fn layer_store_and_inner_call_are_one_tree() {
    let (app, token) = warmed_up().await;
    let (request, answer) = Request::run(app.refresh(&token)).await;
    answer.token();
    let tree = request.tree();
    assert_eq!(
        tree.paths(),
        [
            "request",
            "request/oauth_refresh",
            "request/oauth_refresh/claim",
            "request/oauth_refresh/inner_service",
            "request/oauth_refresh/swap",
        ]
    );
    has(tree.only("oauth_refresh"), [("endpoint", "token")]);
    assert_eq!(tree.only("oauth_refresh").span_kind, SpanKind::Internal);
    for operation in ["claim", "swap"] {
        let span = tree.only(operation);
        assert_eq!(span.span_kind, SpanKind::Client);
        has(
            span,
            [
                ("db.operation.name", operation),
                ("db.system.name", "hooked"),
            ],
        );
    }
    let inner = tree.only("inner_service");
    assert_eq!(inner.span_kind, SpanKind::Internal);
    has(
        inner,
        [
            ("http.request.method", "POST"),
            ("http.response.status_code", "200"),
            ("url.path", "/token"),
        ],
    );
    for span in &tree.spans {
        assert_eq!(span.status, Status::Unset, "{}", span.name);
    }
}

#[tokio::test]
async fn a_memory_store_is_not_a_database_client() {
    let clock = ManualClock::new();
    let store = MemoryStore::with_clock(clock.clone());
    let app = App::over(clock, store, Upstream::new(), |builder| builder);
    let token = app
        .post("/token", &[("grant_type", "x"), ("client_id", "app")])
        .await
        .token();
    let (request, answer) = Request::run(app.refresh(&token)).await;
    answer.token();
    let tree = request.tree();
    let claim = tree.only("claim");
    assert_eq!(claim.span_kind, SpanKind::Internal);
    has(claim, [("db.operation.name", "claim")]);
}

#[tokio::test]
async fn an_access_token_that_is_not_cached_is_read_in_the_trace_of_its_request() {
    let app = referencing();
    let answer = app
        .post("/token", &[("grant_type", "x"), ("client_id", "app")])
        .await;
    let token = access_token(&answer);
    let resource = Guarded::new(&app);
    let (request, status) = Request::run(resource.status(&token)).await;
    assert_eq!(status, 200);
    let tree = request.tree();
    assert!(!tree.named("get").is_empty(), "{:?}", tree.paths());
    for get in tree.named("get") {
        assert_eq!(tree.path(get), "request/get");
        has(
            get,
            [("db.operation.name", "get"), ("db.system.name", "hooked")],
        );
    }
    let (request, status) = Request::run(resource.status(&token)).await;
    assert_eq!(status, 200);
    assert_eq!(request.tree().paths(), ["request"], "the cache answers");
}

/// The log lines of a request are events of its span, and have what the log has.
#[tokio::test]
async fn no_attribute_names_a_client_or_a_grant_and_no_span_has_a_token() {
    subscribe();
    let client = "confidential client";
    let app = referencing();
    let mut needles = Needles::default();
    needles.text(&format!("secret of {client}"));
    let form = [
        ("grant_type", "authorization_code"),
        ("code", "the code"),
        ("client_id", client),
        ("client_secret", "secret of confidential client"),
    ];
    let (log_in, answer) = Request::run(app.post("/token", &form)).await;
    let (token, access) = pair(&answer);
    let refresh = [
        ("grant_type", "refresh_token"),
        ("refresh_token", &token),
        ("client_id", client),
        ("client_secret", "secret of confidential client"),
    ];
    let (first, answer) = Request::run(app.post("/token", &refresh)).await;
    needles.token(&token);
    needles.token(&access);
    needles.token(&answer.token());
    let (again, _) = Request::run(app.refresh_as("other", &token)).await;
    let guarded = Guarded::new(&app);
    let (resource, _) = Request::run(guarded.status(&access)).await;
    let grant = app.take_events()[0].grant.unwrap();
    let mut attributes = 0;
    for tree in [&log_in, &first, &again, &resource].map(Request::tree) {
        for span in &tree.spans {
            assert_eq!(needles.find(&format!("{span:?}")), None);
            for attribute in &span.attributes {
                let value = attribute.value.to_string();
                let named = [client, "the code", &*grant.short().to_string()];
                assert!(
                    !named.iter().any(|name| value.contains(name)),
                    "{attribute:?}"
                );
                attributes += 1;
            }
        }
    }
    assert!(attributes > 40, "{attributes}");
}

#[test]
fn a_wrapper_names_the_database_of_the_store_behind_it() {
    let store = Hooked::new(MemoryStore::new());
    let metered = tower_oauth_refresh::metrics::Metrics::default().store(store.clone());
    assert_eq!(MemoryStore::new().system_name(), None);
    for (wrapper, name) in [
        ("Arc", Arc::new(store.clone()).system_name()),
        ("BoxStore", BoxStore::new(store.clone()).system_name()),
        ("MeteredStore", metered.system_name()),
        ("TieredStore", TieredStore::new(store).system_name()),
    ] {
        assert_eq!(name, Some("hooked"), "{wrapper}");
    }
}
