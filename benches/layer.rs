//! What the layer costs in one process, with an inner service that does nothing: `cargo bench --bench layer`.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use tokio::runtime::Runtime;
use tower::{Service, ServiceExt as _};
use tower_layer::Layer as _;
use tower_oauth_refresh::{MemoryStore, Refresh, RefreshLayer, RequestBody};

/// Answers every request with the same token answer of 1 KB.
#[derive(Clone)]
struct Server(Bytes);

impl Server {
    fn new() -> Self {
        Self::of(850)
    }

    /// With an access token of so many bytes.
    fn of(len: usize) -> Self {
        let access_token = "a".repeat(len);
        let refresh_token = "u".repeat(64);
        Self(Bytes::from(format!(
            r#"{{"access_token":"{access_token}","token_type":"Bearer","expires_in":3600,"refresh_token":"{refresh_token}","scope":"read"}}"#
        )))
    }
}

impl<B> Service<Request<B>> for Server {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        ready(Ok(Response::new(Full::new(self.0.clone()))))
    }
}

type Guarded = Refresh<Server, MemoryStore>;

fn post(body: String) -> Request<Full<Bytes>> {
    Request::post("/token")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::from(body))
        .expect("a request")
}

/// Sends a token request; the refresh token of the answer.
async fn send(service: &Guarded, body: String) -> String {
    let Ok(response) = service.clone().oneshot(post(body)).await;
    let Ok(body) = response.into_body().collect().await;
    let value: serde_json::Value = serde_json::from_slice(&body.to_bytes()).expect("an answer");
    value["refresh_token"].as_str().expect("a refresh token").to_owned()
}

async fn log_in(service: &Guarded) -> String {
    send(service, "grant_type=authorization_code&code=c&client_id=0123456789abcdef0123456789abcdef0123".into()).await
}

fn refresh(token: &str) -> String {
    format!("grant_type=refresh_token&refresh_token={token}&client_id=0123456789abcdef0123456789abcdef0123")
}

fn pass_through(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let mut group = c.benchmark_group("pass through");
    let request = || Request::get("/orders").body(Full::<Bytes>::default()).expect("a request");
    group.bench_function("bare", |b| {
        let mut service = Server::new();
        b.iter(|| {
            runtime.block_on(async { black_box(Service::<Request<Full<Bytes>>>::call(&mut service, request()).await) })
        });
    });
    group.bench_function("layered", |b| {
        let mut service = RefreshLayer::new(MemoryStore::new()).layer(Server::new());
        b.iter(|| runtime.block_on(async { black_box(service.call(request()).await) }));
    });
    group.finish();
}

/// Time is taken around the layer alone: the answer is read to find the next token while the clock stands.
fn rotation(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let service = RefreshLayer::new(MemoryStore::new()).layer(Server::new());
    let mut group = c.benchmark_group("memory store");
    group.throughput(Throughput::Elements(1));
    for grants in [1, 10_000] {
        let mut tokens: Vec<String> =
            runtime.block_on(async { futures(grants, async || log_in(&service).await).await });
        group.bench_function(BenchmarkId::new("rotation", grants), |b| {
            b.iter_custom(|times| {
                runtime.block_on(async {
                    let mut spent = Duration::ZERO;
                    for n in 0..times {
                        let at = usize::try_from(n).expect("few") % tokens.len();
                        let request = post(refresh(&tokens[at]));
                        let mut service = service.clone();
                        let start = Instant::now();
                        let Ok(response) = service.call(request).await;
                        spent += start.elapsed();
                        let Ok(body) = response.into_body().collect().await;
                        let value: serde_json::Value = serde_json::from_slice(&body.to_bytes()).expect("an answer");
                        tokens[at] = value["refresh_token"].as_str().expect("a token").to_owned();
                    }
                    spent
                })
            });
        });
    }
    let token = runtime.block_on(log_in(&service));
    runtime.block_on(send(&service, refresh(&token)));
    group.bench_function("replay", |b| {
        b.iter_custom(|times| {
            runtime.block_on(async {
                let mut spent = Duration::ZERO;
                for _ in 0..times {
                    let request = post(refresh(&token));
                    let mut service = service.clone();
                    let start = Instant::now();
                    black_box(service.call(request).await.expect("an answer"));
                    spent += start.elapsed();
                }
                spent
            })
        });
    });
    group.finish();
}

async fn futures<T>(count: usize, mut make: impl AsyncFnMut() -> T) -> Vec<T> {
    let mut made = Vec::with_capacity(count);
    for _ in 0..count {
        made.push(make().await);
    }
    made
}

/// What the store and the cryptography of one rotation cost apart from the layer.
fn parts(c: &mut Criterion) {
    use tower_oauth_refresh::store::{Beside, Change, Entry, Key, Name, Store as _, Swap, Tag, Ttl, Version};
    let runtime = Runtime::new().expect("a runtime");
    let store = MemoryStore::new();
    let key = Key::new([1; 32]);
    let value = Bytes::from(vec![0; 330]);
    let replay = Bytes::from(vec![0; 1100]);
    let ttl = Duration::from_secs(1000);
    let mut count = 0_u64;
    let mut version = move || {
        count += 1;
        Version::new(count.to_be_bytes())
    };
    let tag = Tag::new([2; 32]);
    let insert = Change::Put { entry: Entry::new(version(), tag, value.clone()), ttl: Ttl::After(ttl) };
    runtime.block_on(store.swap(&key, None, insert, None)).map(drop).expect("stored");
    c.bench_function("memory store/claim and swap", |b| {
        b.iter_custom(|times| {
            runtime.block_on(async {
                let start = Instant::now();
                for _ in 0..times {
                    let claimed = version();
                    black_box(store.claim(&key, &tag, claimed, ttl).await.expect("claimed"));
                    let entry = Entry::new(version(), tag, value.clone());
                    let change = Change::Put { entry, ttl: Ttl::After(ttl) };
                    let also = Beside::new(Name::new([3; 16]), replay.clone(), ttl);
                    let swap = store.swap(&key, Some(claimed), change, Some(also)).await;
                    assert!(matches!(black_box(swap), Ok(Swap::Swapped)));
                }
                start.elapsed()
            })
        });
    });
}

/// An access token is looked up in the cache of the layer, or in the store with its grant. Time is taken around the
/// layer alone, as for a rotation.
fn access(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let layer = RefreshLayer::builder(MemoryStore::new()).reference_access_tokens().build().expect("settings");
    let issue = async |layer: &RefreshLayer<MemoryStore>| {
        let form = "grant_type=authorization_code&code=c&client_id=0123456789abcdef0123456789abcdef0123";
        let Ok(response) = layer.layer(Server::of(64)).oneshot(post(form.into())).await;
        let Ok(body) = response.into_body().collect().await;
        let value: serde_json::Value = serde_json::from_slice(&body.to_bytes()).expect("an answer");
        format!("Bearer {}", value["access_token"].as_str().expect("an access token"))
    };
    let tokens = runtime.block_on(futures(10_000, async || issue(&layer).await));
    let request = |token: &str| {
        let mut request = Request::get("/orders").header("authorization", token).body(()).expect("a request");
        request.extensions_mut().insert(7_u8);
        request
    };
    let mut group = c.benchmark_group("access");
    group.throughput(Throughput::Elements(1));
    let time = |service: &mut dyn FnMut(Request<()>) -> Duration, times: u64| {
        let tokens = tokens.iter().cycle();
        tokens.take(usize::try_from(times).expect("few")).map(|token| service(request(token))).sum::<Duration>()
    };
    let _guard = runtime.enter();
    let mut bare = Server::of(64);
    group.bench_function("bare", |b| {
        let mut call = |request: Request<()>| {
            let start = Instant::now();
            black_box(now(&mut bare, request));
            start.elapsed()
        };
        b.iter_custom(|times| time(&mut call, times));
    });
    let long = Duration::from_secs(3600);
    for (name, ttl) in [("hit", long), ("miss", Duration::ZERO)] {
        let guard = layer.access().cache_ttl(ttl).build().expect("settings");
        let mut service = guard.layer(Server::of(64));
        let mut call = |request: Request<()>| {
            let start = Instant::now();
            black_box(now(&mut service, request));
            start.elapsed()
        };
        time(&mut call, 10_000);
        group.bench_function(format!("{name}, 10000 tokens"), |b| b.iter_custom(|times| time(&mut call, times)));
        group.bench_function(format!("{name}, one token"), |b| {
            b.iter_custom(|times| (0..times).map(|_| call(request(&tokens[0]))).sum::<Duration>());
        });
    }
    group.finish();
}

/// Runs a request to its end that waits for nothing.
fn now<S: Service<Request<()>, Error = Infallible>>(service: &mut S, request: Request<()>) -> S::Response {
    let future = std::pin::pin!(service.call(request));
    match future.poll(&mut Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(Ok(response)) => response,
        Poll::Pending => unreachable!("nothing here waits"),
    }
}

criterion_group!(benches, pass_through, rotation, parts, access);
criterion_main!(benches);

// The inner service gets the layer's body type; this says that it takes any.
const _: fn(Server, Request<RequestBody<Full<Bytes>>>) = |mut server, request| drop(server.call(request));
