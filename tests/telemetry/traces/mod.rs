//! The spans of the layer, exported to OpenTelemetry.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::sync::{Arc, LazyLock};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use opentelemetry::trace::{
    SpanId, SpanKind, Status, TraceContextExt as _, TraceId, TracerProvider as _,
};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use test_support::access::{Guarded, LOG_IN, access_token, pair, referencing};
use test_support::foreign::adopting;
use test_support::secrets::Needles;
use test_support::users::next_extension;
use test_support::{Act, App, Call, Hooked, Plan, SECOND, Upstream, post, refresh_form, settle};
use tokio::sync::Notify;
use tower_oauth_refresh::{
    BoxStore, ClientCredentials, EventKind, GrantKey, ManualClock, MemoryStore, RefreshLayer,
    Store, Subject, TieredStore,
};
use tracing::Instrument as _;
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::layer::SubscriberExt as _;

const HOUR: Duration = Duration::from_secs(3600);

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
async fn failures_set_error_type() {
    let (app, token) = warmed_up().await;
    // The client is to blame: no error of the layer.
    let (request, _) = Request::run(app.refresh_as("other", &token)).await;
    let tree = request.tree();
    let layer = tree.only("oauth_refresh");
    has(
        layer,
        [("endpoint", "token"), ("error.type", "invalid_grant")],
    );
    assert!(!is_error(layer));

    for (plan, kind, code) in [
        (Plan::Lose, "store_unavailable", "temporarily_unavailable"),
        (Plan::Corrupt, "store_corrupt", "server_error"),
        (
            Plan::after(async { panic!("the store panics") }),
            "store_unavailable",
            "temporarily_unavailable",
        ),
    ] {
        app.store.once(|call| *call == Call::Claim, plan);
        let (request, _) = Request::run(app.refresh(&token)).await;
        app.layer.drain().await;
        app.store.unhook();
        let tree = request.tree();
        let claim = tree.only("claim");
        has(
            claim,
            [
                ("db.operation.name", "claim"),
                ("db.system.name", "hooked"),
                ("error.type", kind),
            ],
        );
        let layer = tree.only("oauth_refresh");
        has(layer, [("endpoint", "token"), ("error.type", code)]);
        assert!(is_error(claim) && is_error(layer));
    }

    app.upstream.then(Act::Answer(500, "text/plain", "down"));
    let (request, _) = Request::run(app.refresh(&token)).await;
    app.layer.drain().await;
    let tree = request.tree();
    let inner = tree.only("inner_service");
    has(
        inner,
        [
            ("error.type", "500"),
            ("http.request.method", "POST"),
            ("http.response.status_code", "500"),
            ("url.path", "/token"),
        ],
    );
    assert!(is_error(inner));

    app.upstream.then(Act::Break);
    let form = refresh_form("app", &token);
    let (request, answer) = Request::run(app.send(post("/token", &form))).await;
    answer.unwrap_err();
    app.layer.drain().await;
    let tree = request.tree();
    assert_no_response(&tree);
    let layer = tree.only("oauth_refresh");
    has(layer, [("endpoint", "token"), ("error.type", "_OTHER")]);
    assert!(is_error(layer));
}

/// Asserts that the call of the inner service has failed without a response.
fn assert_no_response(tree: &Tree) {
    let inner = tree.only("inner_service");
    has(
        inner,
        [
            ("error.type", "_OTHER"),
            ("http.request.method", "POST"),
            ("url.path", "/token"),
        ],
    );
    assert!(is_error(inner));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_times_out_is_an_error() {
    let (app, token) = warmed_up().await;
    app.upstream.then(Act::Hang);
    let (request, _) = Request::run(app.refresh(&token)).await;
    app.layer.drain().await;
    let tree = request.tree();
    assert_no_response(&tree);
}

#[tokio::test]
async fn the_rest_of_a_rotation_whose_client_has_hung_up_is_in_its_trace() {
    let (app, token) = warmed_up().await;
    let gate = Arc::new(Notify::new());
    app.upstream.then(Act::Wait(Arc::clone(&gate)));
    let call = tower::ServiceExt::oneshot(
        app.service.clone(),
        post("/token", &refresh_form("app", &token)),
    );
    let hung_up = async {
        tokio::select! {
            biased;
            _ = call => panic!("the inner service does not answer yet"),
            () = settle() => {}
        }
    };
    let (request, ()) = Request::run(hung_up).await;
    gate.notify_one();
    app.layer.drain().await;
    settle().await;
    assert_eq!(
        request.tree().paths(),
        [
            "request",
            "request/oauth_refresh",
            "request/oauth_refresh/claim",
            "request/oauth_refresh/inner_service",
            "request/oauth_refresh/swap",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_is_retried_in_the_background_is_in_the_trace_of_its_request() {
    let (app, token) = warmed_up().await;
    let mut failures = 3;
    app.store.hook(move |_, call| {
        if call.is_commit() && failures > 0 {
            failures -= 1;
            return Plan::Lose;
        }
        Plan::Pass
    });
    let (request, answer) = Request::run(app.refresh(&token)).await;
    assert_eq!(answer.status, 503);
    app.layer.drain().await;
    settle().await;
    let tree = request.tree();
    let swaps: Vec<_> = tree.named("swap").into_iter().map(is_error).collect();
    assert_eq!(swaps, [true, true, true, false]);
    for swap in tree.named("swap") {
        assert_eq!(tree.path(swap), "request/oauth_refresh/swap");
    }
}

#[tokio::test]
async fn the_release_of_a_lease_is_in_the_trace_of_its_request() {
    let (app, token) = warmed_up().await;
    app.store
        .once(|call| *call == Call::Claim, Plan::LoseAnswer);
    let (request, answer) = Request::run(app.refresh(&token)).await;
    assert_eq!(answer.status, 503);
    app.layer.drain().await;
    settle().await;
    let paths = request.tree().paths();
    let written = "request/oauth_refresh/swap".to_owned();
    assert!(paths.contains(&written), "{paths:?}");
}

/// Makes a call, and asserts that every call of the store that follows from it is in its trace.
async fn every_store_call_is_traced<T>(name: &str, app: &App, call: impl Future<Output = T>) -> T {
    app.store.hook_epochs();
    app.store.calls();
    let (request, result) = Request::run(call).await;
    app.layer.drain().await;
    settle().await;
    let tree = request.tree();
    let traced = tree.spans.iter().filter(|span| {
        let mut keys = span.attributes.iter();
        keys.any(|attribute| attribute.key.as_str() == "db.operation.name")
    });
    let calls = app.store.calls();
    assert!(calls.len() > 1, "{name}: {calls:?}");
    let paths = tree.paths();
    assert_eq!(traced.count(), calls.len(), "{name}: {paths:?} {calls:?}");
    result
}

#[tokio::test(start_paused = true)]
async fn every_store_call_in_the_background_is_in_the_trace_of_its_request() {
    subscribe();
    let app = App::new();
    let log_in = async |name: &str| {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", "c"),
            ("client_id", "app"),
        ];
        next_extension(&app, Subject::new("ann").unwrap());
        let call = app.post("/token", &form);
        every_store_call_is_traced(name, &app, call).await.token()
    };
    let token = log_in("the session is listed").await;
    // The first swap inserts the grant, the second one writes the list.
    let mut swaps = 0;
    app.store.hook(move |_, call| {
        swaps += usize::from(call.is_swap());
        match call.is_swap() && swaps == 2 {
            true => Plan::Lose,
            false => Plan::Pass,
        }
    });
    log_in("the session is listed in the background").await;
    app.store.unhook();
    every_store_call_is_traced("the session is forgotten", &app, app.revoke(&token)).await;

    let (app, token) = adopting().await;
    let mut failures = 3;
    app.store.hook(move |_, call| {
        if has_sidecars(call) && failures > 0 {
            failures -= 1;
            return Plan::Lose;
        }
        Plan::Pass
    });
    let adopt = app.refresh(&token);
    every_store_call_is_traced("the adoption is retried", &app, adopt).await;
    assert!(app.events().contains(&EventKind::Adopted));
}

/// Returns whether the call writes a response.
fn has_sidecars(call: &Call) -> bool {
    matches!(call, Call::Swap { sidecars, .. } if !sidecars.is_empty())
}

#[tokio::test]
async fn the_end_of_a_grant_whose_caller_has_gone_is_in_the_trace_of_the_call() {
    subscribe();
    let app = App::new();
    app.log_in("app").await;
    let grant = app.take_events()[0].grant.unwrap();
    app.store.hook(|_, _| Plan::Slow);
    let mut held = None;
    let (request, ()) = Request::run(async {
        let mut ending = Box::pin(app.layer.end_grant(&grant));
        let pending = poll_fn(|cx| Poll::Ready(ending.as_mut().poll(cx).is_pending())).await;
        assert!(pending, "the store is slow");
        held = Some(ending);
    })
    .await;
    drop(held);
    app.layer.drain().await;
    settle().await;
    let paths = request.tree().paths();
    assert!(paths.contains(&"request/swap".to_owned()), "{paths:?}");
}

/// Returns an instance that revokes upstream tokens, and the grant of a session.
async fn revoking() -> (App, GrantKey) {
    subscribe();
    let (clock, upstream) = (ManualClock::new(), Upstream::new());
    let store = Hooked::new(MemoryStore::with_clock(clock.clone()));
    let service = upstream.clone();
    let app = App::over(clock, store, upstream, |builder| {
        builder
            .revocation_key([7; 32])
            .upstream_revocation::<_, Full<Bytes>, _>(service, ClientCredentials::public())
    });
    app.log_in("app").await;
    let grant = app.take_events()[0].grant.unwrap();
    (app, grant)
}

#[tokio::test]
async fn the_end_of_a_grant_and_its_revocation_are_in_the_trace_of_the_call() {
    let (app, grant) = revoking().await;
    let (request, ()) = Request::run(end(&app.layer, grant)).await;
    app.layer.drain().await;
    settle().await;
    let tree = request.tree();
    let paths = tree.paths();
    assert!(paths.contains(&"request/swap".to_owned()), "{paths:?}");
    let inner = tree.only("inner_service");
    assert_eq!(tree.path(inner), "request/inner_service");
    has(
        inner,
        [
            ("http.request.method", "POST"),
            ("http.response.status_code", "200"),
            ("url.path", "/revoke"),
        ],
    );
}

/// Retries take up to ten minutes, and the span of the request would end only then.
#[tokio::test(start_paused = true)]
async fn the_span_of_a_request_does_not_wait_for_the_retries_of_a_revocation() {
    let (app, grant) = revoking().await;
    app.upstream.then(Act::Answer(503, "text/plain", "down"));
    let (request, ()) = Request::run(end(&app.layer, grant)).await;
    app.layer.drain().await;
    settle().await;
    let tree = request.tree();
    assert!(is_error(tree.only("inner_service")));
    assert_eq!(app.upstream.alive(), 1);
    while app.upstream.alive() > 0 {
        tokio::time::sleep(SECOND).await;
    }
    settle().await;
    assert_eq!(request.tree().paths(), tree.paths());
}

#[tokio::test]
async fn the_renewal_of_an_upstream_access_token_is_in_the_trace_of_the_request_that_began_it() {
    subscribe();
    let (clock, upstream) = (ManualClock::new(), Upstream::new());
    let store = Hooked::new(MemoryStore::with_clock(clock.clone()));
    let app = App::over(clock, store, upstream, |builder| {
        builder
            .reference_access_tokens(true)
            .access_token_lifetime(100 * HOUR)
    });
    let guarded = app
        .layer
        .access()
        .upstream_refresh::<_, Full<Bytes>, _>(app.upstream.clone(), ClientCredentials::public());
    let guarded = Guarded::of(guarded.build().unwrap());
    let token = access_token(&app.post("/token", &LOG_IN).await);
    app.clock.advance(HOUR);
    let (request, status) = Request::run(guarded.status(&token)).await;
    assert_eq!(status, 200);
    settle().await;
    let tree = request.tree();
    let inner = tree.only("inner_service");
    assert_eq!(tree.path(inner), "request/inner_service");
    for operation in ["claim", "swap"] {
        let found = tree.named(operation);
        assert!(!found.is_empty(), "{operation}: {:?}", tree.paths());
        for span in found {
            assert_eq!(tree.path(span), format!("request/{operation}"));
        }
    }
}

async fn end<St: Store>(layer: &RefreshLayer<St>, grant: GrantKey) {
    layer.end_grant(&grant).await.unwrap();
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
