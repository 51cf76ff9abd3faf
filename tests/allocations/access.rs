//! The cost of a request with a cached access token, and the memory that a hundred thousand cached
//! tokens take.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use bytes::Bytes;
use http::{Extensions, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use test_support::access::{Guarded, LOG_IN, access_token, pair, referencing};
use test_support::{Call, post};
use tower::{Layer as _, Service, ServiceExt as _};
use tower_oauth_refresh::access::{Access, Requirements};
use tower_oauth_refresh::{AccessGrant, AccessLayer, Event, MemoryStore, RefreshLayer};

const HOUR: Duration = Duration::from_secs(3600);

/// A token endpoint whose access tokens have 64 bytes, and a resource server that does nothing.
#[derive(Clone)]
struct Server;

impl<B> Service<Request<B>> for Server {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if request.extensions().get::<AccessGrant>().is_some() {
            return ready(Ok(Response::new(Full::default())));
        }
        let (access, refresh) = ("a".repeat(64), "r".repeat(64));
        let body = format!(
            r#"{{"access_token":"{access}","token_type":"Bearer","expires_in":3600,"refresh_token":"{refresh}","scope":"read"}}"#
        );
        ready(Ok(Response::new(body.into())))
    }
}

async fn issue(layer: &RefreshLayer<MemoryStore>) -> String {
    let client = "0123456789abcdef0123456789abcdef0123";
    let form = [
        ("grant_type", "authorization_code"),
        ("code", "c"),
        ("client_id", client),
    ];
    let response = layer
        .layer(Server)
        .oneshot(post("/token", &form))
        .await
        .unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
    answer["access_token"].as_str().unwrap().to_owned()
}

fn request(token: &str) -> Request<()> {
    let mut request = Request::get("/orders")
        .header("authorization", format!("Bearer {token}"))
        .body(())
        .unwrap();
    // A server has already inserted an extension; otherwise this request would pay for the map.
    request.extensions_mut().insert(7_u8);
    request.extensions_mut().insert(7_u16);
    request
}

/// Returns the allocations of a request that never has to wait.
fn count(service: &mut Access<Server, MemoryStore>, request: Request<()>) -> AllocationInfo {
    let mut status = None;
    let counted = measure(|| {
        let mut future = std::pin::pin!(service.call(request));
        let Poll::Ready(answer) = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        else {
            panic!("nothing here waits")
        };
        status = Some(answer.unwrap().status());
    });
    assert_eq!(status.unwrap(), 200);
    counted
}

#[test]
fn a_cache_hit_allocates_only_the_header_value_and_the_extension() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let layer = RefreshLayer::builder(MemoryStore::new())
            .reference_access_tokens(true)
            .build()
            .unwrap();
        let token = issue(&layer).await;
        let no_event = |event: &Event| panic!("unexpected event: {event:?}");
        let builder = || layer.access().cache_ttl(HOUR).on_event(no_event);
        let swap: AccessLayer<MemoryStore> = builder().build().unwrap();
        let strip = builder().strip(true).build().unwrap();
        let orders = Requirements::new().require_any_scope(["none", "read"]);
        let table = builder()
            .scope_policy(|_, _| false)
            .resource_for("/orders", orders)
            .resource_for("/orders/x", Requirements::new())
            .build()
            .unwrap();
        for (name, layer, header) in [
            ("swap", &swap, 1),
            ("strip", &strip, 0),
            ("with a table of resources", &table, 1),
        ] {
            let mut service = layer.layer(Server);
            assert_eq!(service.call(request(&token)).await.unwrap().status(), 200);
            // The box in which the extensions keep each value.
            let grant = 1;
            let counts: Vec<_> = (0..200)
                .map(|_| count(&mut service, request(&token)).count_total)
                .collect();
            // The cache occasionally runs its maintenance during a lookup.
            let usual = counts
                .iter()
                .filter(|count| **count == header + grant)
                .count();
            assert!(usual >= 190, "{name}: {counts:?}");
        }
    });
}

#[test]
fn extensions_allocate_extra_only_for_the_first_value() {
    let mut extensions = Extensions::new();
    let first = measure(|| assert!(extensions.insert(7_u8).is_none())).count_total;
    let second = measure(|| assert!(extensions.insert(7_u16).is_none())).count_total;
    assert_eq!(
        (first, second),
        (3, 1),
        "the map, its table and the box of the value; the box alone"
    );
    let bytes = vec![b'a'; 64];
    let value =
        measure(|| drop(HeaderValue::from_maybe_shared(Bytes::from(bytes)).unwrap())).count_total;
    assert_eq!(
        value, 0,
        "a header value takes over its bytes without a copy"
    );
}

#[tokio::test]
async fn a_cache_hit_makes_no_store_call() {
    let app = referencing();
    let guarded = Guarded::with(&app, |builder| builder.cache_ttl(HOUR));
    let (_, token) = pair(&app.post("/token", &LOG_IN).await);
    app.store.calls();
    assert_eq!(guarded.status(&token).await, 200);
    assert_eq!(
        app.store.calls(),
        [Call::Get, Call::Get],
        "the reads of the token and its grant, sent concurrently"
    );
    for _ in 0..100 {
        assert_eq!(guarded.status(&token).await, 200);
        let (answer, _) = guarded.send(&["Bearer nonsense"]).await;
        assert_eq!(answer.status, 401);
    }
    assert_eq!(app.store.calls(), []);
}

#[tokio::test]
async fn a_cache_miss_sends_its_two_reads_concurrently() {
    let app = referencing();
    let guarded = Guarded::new(&app);
    let (_, token) = pair(&app.post("/token", &LOG_IN).await);
    // Each read waits until both have been sent: sequential reads would wait forever.
    let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(2));
    app.store.hook(move |_, _| {
        let barrier = std::sync::Arc::clone(&barrier);
        test_support::Plan::after(async move {
            barrier.wait().await;
        })
    });
    assert_eq!(guarded.status(&token).await, 200);
}

#[tokio::test]
async fn a_disabled_cache_stores_nothing() {
    for off in [true, false] {
        let app = referencing();
        let guarded = Guarded::with(&app, |builder| {
            if off {
                builder.cache_ttl(Duration::ZERO)
            } else {
                builder.cache_size(0)
            }
        });
        let token = access_token(&app.post("/token", &LOG_IN).await);
        app.store.calls();
        for _ in 0..3 {
            assert_eq!(guarded.status(&token).await, 200);
            assert_eq!(app.store.calls(), [Call::Get, Call::Get]);
        }
    }
}

#[test]
fn a_hundred_thousand_tokens_fit_into_64_mib() {
    // A tenth of both, because issuing the tokens takes most of the time.
    const TOKENS: usize = 10_000;
    const SIZE: u64 = (64 << 20) / 10;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let layer = RefreshLayer::builder(MemoryStore::new())
            .reference_access_tokens(true)
            .build()
            .unwrap();
        let mut tokens = Vec::with_capacity(TOKENS);
        for _ in 0..TOKENS {
            tokens.push(issue(&layer).await);
        }
        // The first read of an entry makes its value shareable, which takes memory of the store.
        let uncached = layer.access().cache_ttl(Duration::ZERO).build().unwrap();
        let mut service = uncached.layer(Server);
        for token in &tokens {
            count(&mut service, request(token));
        }
        let access = layer
            .access()
            .cache_ttl(HOUR)
            .cache_size(SIZE)
            .build()
            .unwrap();
        let mut service = access.layer(Server);
        // Bytes that are allocated here and still allocated afterwards.
        let taken = measure(|| {
            for token in &tokens {
                count(&mut service, request(token));
            }
        });
        // An allocator uses at least eight bytes more for each allocation, and a token consists of
        // a dozen.
        let taken = u64::try_from(taken.bytes_current).unwrap() + 12 * 8 * TOKENS as u64;
        println!("{} bytes a token", taken / TOKENS as u64);
        assert!((SIZE / 4..=SIZE).contains(&taken), "{taken}");
        let mut hit =
            |token: &String| format!("{:?}", service.call(request(token))).contains("inner");
        let hits = tokens.iter().filter(|token| hit(token)).count();
        assert_eq!(hits, TOKENS, "all of them are cached");
    });
}
