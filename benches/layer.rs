//! The cost of the layer in one process, with an inner service that does nothing:
//! `benches/run layer`.

use std::convert::Infallible;
use std::hint::black_box;
use std::path::Path;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use support::{Endpoint, field, log_in, post, refresh, send, short};
use tokio::runtime::Runtime;
use tower::{Layer as _, Service};
use tower_oauth_refresh::{MemoryStore, Refresh, RefreshLayer};

/// The start of this run: older results are not from this run.
static BEGAN: LazyLock<SystemTime> = LazyLock::new(SystemTime::now);

fn main() {
    LazyLock::force(&BEGAN);
    let figures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("criterion");
    let mut criterion = Criterion::default()
        .output_directory(&figures)
        .configure_from_args();
    pass_through(&mut criterion);
    rotation(&mut criterion);
    parts(&mut criterion);
    access(&mut criterion);
    criterion.final_summary();
    if support::wanted() {
        println!("\n### In one process\n");
        println!(
            "The inner service does nothing and responds with 1 KB. Only allocations of the layer count.\n\n| | median | allocations |\n| --- | ---: | ---: |"
        );
        for (name, path, counted) in ROWS {
            if let Some(time) = median(&figures.join(path)) {
                let count = counted.map(|count| count().to_string()).unwrap_or_default();
                println!("| {name} | {} | {count} |", short(time));
            }
        }
        println!();
    }
}

/// The name of a row, its path in criterion's results, and the function that counts its
/// allocations.
type Row = (&'static str, &'static str, Option<fn() -> u64>);

const ROWS: [Row; 11] = [
    (
        "a request to another path, without the layer",
        "pass through/bare",
        None,
    ),
    (
        "a request to another path, with the layer",
        "pass through/layered",
        Some(allocations_of_pass_through),
    ),
    (
        "a rotation over `MemoryStore`, one grant",
        "memory store/rotation/1",
        Some(allocations_of_a_rotation),
    ),
    (
        "a rotation over `MemoryStore`, 10,000 grants in turn",
        "memory store/rotation/10000",
        None,
    ),
    (
        "`claim` and `swap` of `MemoryStore`, without the layer",
        "memory store/claim and swap",
        None,
    ),
    ("a replay", "memory store/replay", None),
    ("a request without `AccessLayer`", "access/bare", None),
    (
        "a request with a cached access token, one token",
        "access/hit, one token",
        Some(allocations_of_a_hit),
    ),
    (
        "a request with a cached access token, 10,000 tokens in turn",
        "access/hit, 10000 tokens",
        None,
    ),
    (
        "a request with an access token that is not cached, one token",
        "access/miss, one token",
        None,
    ),
    (
        "a request with an access token that is not cached, 10,000 tokens in turn",
        "access/miss, 10000 tokens",
        None,
    ),
];

/// Returns the median that criterion measured, if it is from this run.
fn median(path: &Path) -> Option<Duration> {
    let path = path.join("new/estimates.json");
    let written = std::fs::metadata(&path)
        .and_then(|file| file.modified())
        .ok()?;
    if written < *BEGAN {
        return None;
    }
    let estimates: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
    let nanoseconds = estimates.get("median")?.get("point_estimate")?.as_f64()?;
    Some(Duration::from_secs_f64(nanoseconds / 1e9))
}

/// Returns a request to a path that the layer does not handle.
fn other_request() -> Request<Full<Bytes>> {
    Request::get("/orders")
        .body(Full::default())
        .expect("a request")
}

fn pass_through(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let mut group = c.benchmark_group("pass through");
    group.bench_function("bare", |b| {
        let mut service = Endpoint::default();
        b.iter(|| {
            runtime.block_on(async {
                black_box(
                    Service::<Request<Full<Bytes>>>::call(&mut service, other_request()).await,
                )
            })
        });
    });
    group.bench_function("layered", |b| {
        let mut service = RefreshLayer::new(MemoryStore::new()).layer(Endpoint::default());
        b.iter(|| runtime.block_on(async { black_box(service.call(other_request()).await) }));
    });
    group.finish();
}

/// Only the layer is timed: the response is read to find the next token while the timer is stopped.
fn rotation(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let service = RefreshLayer::new(MemoryStore::new()).layer(Endpoint::default());
    let mut group = c.benchmark_group("memory store");
    group.throughput(Throughput::Elements(1));
    for grants in [1, 10_000] {
        let mut tokens: Vec<String> =
            runtime.block_on(async { futures(grants, async || session(&service).await).await });
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
                        let body = body.to_bytes();
                        let answer = std::str::from_utf8(&body).expect("text");
                        tokens[at].replace_range(.., field(answer, "refresh_token"));
                    }
                    spent
                })
            });
        });
    }
    let token = runtime.block_on(session(&service));
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

/// Logs a client in, and returns its refresh token.
async fn session(service: &Refresh<Endpoint, MemoryStore>) -> String {
    field(&send(service, log_in()).await, "refresh_token").to_owned()
}

async fn futures<T>(count: usize, mut make: impl AsyncFnMut() -> T) -> Vec<T> {
    let mut made = Vec::with_capacity(count);
    for _ in 0..count {
        made.push(make().await);
    }
    made
}

/// Measures the store and the cryptography of one rotation without the layer.
fn parts(c: &mut Criterion) {
    use tower_oauth_refresh::store::{
        Change, ClaimTag, Entry, Key, Sidecar, SidecarName, Store as _, Swap, Ttl, Version,
    };
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
    let tag = ClaimTag::new([2; 32]);
    let insert = Change::Put {
        entry: Entry::new(version(), tag, value.clone()),
        ttl: Ttl::After(ttl),
    };
    runtime
        .block_on(store.swap(&key, None, insert, &[]))
        .map(drop)
        .expect("stored");
    let mut group = c.benchmark_group("memory store");
    group.bench_function("claim and swap", |b| {
        b.iter_custom(|times| {
            runtime.block_on(async {
                let start = Instant::now();
                for _ in 0..times {
                    let claimed = version();
                    black_box(
                        store
                            .claim(&key, &tag, claimed, ttl)
                            .await
                            .expect("claimed"),
                    );
                    let entry = Entry::new(version(), tag, value.clone());
                    let change = Change::Put {
                        entry,
                        ttl: Ttl::After(ttl),
                    };
                    let also = Sidecar::new(SidecarName::new([3; 16]), replay.clone(), ttl);
                    let swap = store.swap(&key, Some(claimed), change, &[also]).await;
                    assert!(matches!(black_box(swap), Ok(Swap::Swapped)));
                }
                start.elapsed()
            })
        });
    });
}

/// Measures the lookup of an access token in the cache of the layer, or in the store with its
/// grant. Only the layer is timed, as for a rotation.
fn access(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let layer = RefreshLayer::builder(MemoryStore::new())
        .reference_access_tokens(true)
        .build()
        .expect("settings");
    let service = layer.layer(Endpoint::with_access_token(64));
    let tokens = runtime.block_on(futures(10_000, async || {
        format!(
            "Bearer {}",
            field(&send(&service, log_in()).await, "access_token")
        )
    }));
    let request = |token: &str| {
        let mut request = Request::get("/orders")
            .header("authorization", token)
            .body(())
            .expect("a request");
        request.extensions_mut().insert(7_u8);
        request
    };
    let mut group = c.benchmark_group("access");
    group.throughput(Throughput::Elements(1));
    let time = |service: &mut dyn FnMut(Request<()>) -> Duration, times: u64| {
        let tokens = tokens.iter().cycle();
        tokens
            .take(usize::try_from(times).expect("few"))
            .map(|token| service(request(token)))
            .sum::<Duration>()
    };
    let _guard = runtime.enter();
    let mut bare = Endpoint::with_access_token(64);
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
        let mut service = guard.layer(Endpoint::with_access_token(64));
        let mut call = |request: Request<()>| {
            let start = Instant::now();
            black_box(now(&mut service, request));
            start.elapsed()
        };
        time(&mut call, 10_000);
        group.bench_function(format!("{name}, 10000 tokens"), |b| {
            b.iter_custom(|times| time(&mut call, times))
        });
        group.bench_function(format!("{name}, one token"), |b| {
            b.iter_custom(|times| {
                (0..times)
                    .map(|_| call(request(&tokens[0])))
                    .sum::<Duration>()
            });
        });
    }
    group.finish();
}

/// Returns the response to a request that never has to wait.
fn now<S: Service<Request<B>, Error = Infallible>, B>(
    service: &mut S,
    request: Request<B>,
) -> S::Response {
    let future = std::pin::pin!(service.call(request));
    match future.poll(&mut Context::from_waker(std::task::Waker::noop())) {
        Poll::Ready(Ok(response)) => response,
        Poll::Pending => unreachable!("nothing here waits"),
    }
}

/// Returns the number of allocations for this request.
fn allocations<S: Service<Request<B>, Error = Infallible>, B>(
    service: &mut S,
    request: Request<B>,
) -> (u64, S::Response) {
    let mut response = None;
    let counted = allocation_counter::measure(|| response = Some(now(service, request)));
    (counted.count_total, response.expect("it was run"))
}

fn allocations_of_pass_through() -> u64 {
    let mut service = RefreshLayer::new(MemoryStore::new()).layer(Endpoint::default());
    allocations(&mut service, other_request()).0
}

fn allocations_of_a_rotation() -> u64 {
    let runtime = Runtime::new().expect("a runtime");
    let mut service = RefreshLayer::new(MemoryStore::new()).layer(Endpoint::default());
    let mut token = runtime.block_on(session(&service));
    let _guard = runtime.enter();
    let mut last = 0;
    // The first rotations fill caches that later ones reuse.
    for _ in 0..20 {
        let (count, response) = allocations(&mut service, post(refresh(&token)));
        let Ok(body) = runtime.block_on(response.into_body().collect());
        token = field(
            std::str::from_utf8(&body.to_bytes()).expect("text"),
            "refresh_token",
        )
        .to_owned();
        last = count;
    }
    last
}

fn allocations_of_a_hit() -> u64 {
    let runtime = Runtime::new().expect("a runtime");
    let layer = RefreshLayer::builder(MemoryStore::new())
        .reference_access_tokens(true)
        .build()
        .expect("settings");
    let service = layer.layer(Endpoint::with_access_token(64));
    let token = format!(
        "Bearer {}",
        field(&runtime.block_on(send(&service, log_in())), "access_token")
    );
    let mut service = layer
        .access()
        .build()
        .expect("settings")
        .layer(Endpoint::default());
    let _guard = runtime.enter();
    let mut last = 0;
    for _ in 0..20 {
        let mut request = Request::get("/orders")
            .header("authorization", &token)
            .body(())
            .expect("a request");
        request.extensions_mut().insert(7_u8);
        last = allocations(&mut service, request).0;
    }
    last
}
