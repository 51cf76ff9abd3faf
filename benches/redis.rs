//! Rotations a second through the layer over Redis, beside those of the scripts alone: `cargo bench --bench redis`.
//!
//! A rotation is a `claim` and a `swap` with its replay. Without the layer, the same scripts run on entries of the same size
//! through the same Redis client. The two take turns in short slices, and the ratio is the median over the rounds, so that
//! what else disturbs the machine disturbs both.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::process::ExitCode;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fixture::RedisServer;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Value, cmd};
use tower::{Service, ServiceExt as _};
use tower_layer::Layer as _;
use tower_oauth_refresh::{RedisStore, Refresh, RefreshLayer, TieredStore};

#[allow(dead_code, unused_imports)]
#[path = "../tests/support/redis/mod.rs"]
mod fixture;

const IN_FLIGHT: [usize; 3] = [1, 32, 256];
const ROUNDS: usize = 21;
/// Of each kind in each round.
const SLICE: Duration = Duration::from_millis(250);
/// For so long every rotation leaves a kilobyte behind.
const RETRY_WINDOW: Duration = Duration::from_secs(5);
/// As the store sets it.
const QUEUE: usize = 1024;

fn main() -> ExitCode {
    // `cargo test --benches` runs this, too.
    if !std::env::args().any(|arg| arg == "--bench") {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(measure());
    ExitCode::SUCCESS
}

async fn measure() {
    let server = RedisServer::start().await;
    let store = RedisStore::connect(&server.url()).await.expect("a server");
    let layer = RefreshLayer::builder(TieredStore::new(store)).retry_window(RETRY_WINDOW).build().expect("settings");
    let service = layer.layer(Upstream::new());
    let written = Written::by_a_rotation(&service, &server).await;
    let connection = connect(&server).await;

    println!("| in flight | rotations/s | scripts alone/s | ratio |");
    println!("| ---: | ---: | ---: | ---: |");
    for in_flight in IN_FLIGHT {
        let (mut layered, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..in_flight {
            layered.push(Layered::log_in(&service).await);
            bare.push(Bare::insert(&connection, &written).await);
        }
        (layered, _) = slice(layered).await;
        (bare, _) = slice(bare).await;
        let (mut with, mut without, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (of_layer, of_scripts);
            (layered, of_layer) = slice(layered).await;
            (bare, of_scripts) = slice(bare).await;
            with.push(of_layer);
            without.push(of_scripts);
            ratios.push(of_layer / of_scripts);
        }
        let (with, without, ratio) = (median(with), median(without), median(ratios));
        println!("| {in_flight} | {with:.0} | {without:.0} | {:.0} % |", ratio * 100.0);
    }
    println!(
        "\nRedis takes {} bytes for the grant, and {} for its replay.",
        written.grant_memory, written.replay_memory
    );
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

trait Rotate: Send + 'static {
    /// Once.
    fn rotate(&mut self) -> impl Future<Output = ()> + Send;
}

/// Lets all of them rotate, each as fast as it can; and how often they did so in a second.
async fn slice<R: Rotate>(all: Vec<R>) -> (Vec<R>, f64) {
    let started = Instant::now();
    let tasks: Vec<_> = all
        .into_iter()
        .map(|mut one| {
            tokio::spawn(async move {
                let mut count = 0_u32;
                while started.elapsed() < SLICE {
                    one.rotate().await;
                    count += 1;
                }
                (one, count)
            })
        })
        .collect();
    let (mut back, mut total) = (Vec::with_capacity(tasks.len()), 0);
    for task in tasks {
        let (one, count) = task.await.expect("a task that ends");
        back.push(one);
        total += count;
    }
    (back, f64::from(total) / started.elapsed().as_secs_f64())
}

/// Answers every request with the same token answer of 1 KB.
#[derive(Clone)]
struct Upstream(Bytes);

impl Upstream {
    fn new() -> Self {
        let (access_token, refresh_token) = ("a".repeat(850), "u".repeat(64));
        Self(Bytes::from(format!(
            r#"{{"access_token":"{access_token}","token_type":"Bearer","expires_in":3600,"refresh_token":"{refresh_token}","scope":"read"}}"#
        )))
    }
}

impl<B> Service<Request<B>> for Upstream {
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

type Guarded = Refresh<Upstream, TieredStore<RedisStore>>;

const CLIENT: &str = "0123456789abcdef0123456789abcdef0123";

/// A client behind the layer.
struct Layered {
    service: Guarded,
    token: String,
}

impl Layered {
    async fn log_in(service: &Guarded) -> Self {
        let form = format!("grant_type=authorization_code&code=c&client_id={CLIENT}");
        Self { service: service.clone(), token: send(service, form).await }
    }
}

impl Rotate for Layered {
    async fn rotate(&mut self) {
        let form = format!("grant_type=refresh_token&refresh_token={}&client_id={CLIENT}", self.token);
        self.token = send(&self.service, form).await;
    }
}

/// The refresh token of the answer to this form.
async fn send(service: &Guarded, form: String) -> String {
    let request = Request::post("/token")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::from(form))
        .expect("a request");
    let Ok(response) = service.clone().oneshot(request).await;
    let status = response.status();
    let Ok(body) = response.into_body().collect().await;
    let body = body.to_bytes();
    let answer = std::str::from_utf8(&body).expect("text");
    let token = answer.split_once(r#""refresh_token":""#).and_then(|(_, rest)| rest.split_once('"'));
    token.unwrap_or_else(|| panic!("{status}: {answer}")).0.to_owned()
}

async fn connect(server: &RedisServer) -> MultiplexedConnection {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(QUEUE);
    let client = Client::open(server.url()).expect("an address");
    client.get_multiplexed_async_connection_with_config(&config).await.expect("a connection")
}

/// What the layer has in Redis after a rotation.
struct Written {
    entry: Vec<u8>,
    entry_ttl: String,
    replay: Vec<u8>,
    replay_ttl: String,
    grant_memory: i64,
    replay_memory: i64,
    claim: String,
    swap: String,
}

impl Written {
    async fn by_a_rotation(service: &Guarded, server: &RedisServer) -> Self {
        Layered::log_in(service).await.rotate().await;
        let found = server.dump().await;
        assert_eq!(found.len(), 2, "a grant and its replay");
        let (grants, replays): (Vec<_>, Vec<_>) = found.into_iter().partition(|(key, _)| key.ends_with(b"}"));
        let ([(grant, entry)], [(beside, replay)]) = (&grants[..], &replays[..]) else {
            panic!("a grant and its replay")
        };
        let number = async |words: &[&[u8]]| match server.command(words).await {
            Value::Int(number) => number,
            other => panic!("a number, not {other:?}"),
        };
        Self {
            entry: entry.clone(),
            entry_ttl: number(&[b"PTTL", grant]).await.to_string(),
            replay: replay.clone(),
            replay_ttl: number(&[b"PTTL", beside]).await.to_string(),
            grant_memory: number(&[b"MEMORY", b"USAGE", grant]).await,
            replay_memory: number(&[b"MEMORY", b"USAGE", beside]).await,
            claim: redis::Script::new(include_str!("../src/store/redis/claim.lua")).get_hash().to_owned(),
            swap: redis::Script::new(include_str!("../src/store/redis/swap.lua")).get_hash().to_owned(),
        }
    }
}

/// The scripts alone, with what the layer would write.
struct Bare {
    connection: MultiplexedConnection,
    scripts: [String; 2],
    key: String,
    entry: Vec<u8>,
    entry_ttl: String,
    replay: Vec<u8>,
    replay_ttl: String,
    count: u64,
}

/// In an entry: the version behind the format, the end of the lease, the tag.
const VERSION: std::ops::Range<usize> = 1..9;
const LEASE: std::ops::Range<usize> = 9..15;
const TAG: std::ops::Range<usize> = 15..47;

impl Bare {
    async fn insert(connection: &MultiplexedConnection, written: &Written) -> Self {
        let name = format!("{:032x}", rand::random::<u128>());
        let Written { entry, entry_ttl, replay, replay_ttl, claim, swap, .. } = written;
        let mut inserted = Self {
            connection: connection.clone(),
            scripts: [claim.clone(), swap.clone()],
            key: format!("rt:{{{name:-<43}}}"),
            entry: entry.clone(),
            entry_ttl: entry_ttl.clone(),
            replay: replay.clone(),
            replay_ttl: replay_ttl.clone(),
            count: 0,
        };
        inserted.entry[LEASE].fill(0);
        let mut set = cmd("SET");
        set.arg(&inserted.key).arg(&inserted.entry).arg("PX").arg(&inserted.entry_ttl);
        let set: Value = set.query_async(&mut inserted.connection).await.expect("an answer");
        assert_eq!(set, Value::Okay);
        inserted
    }

    fn next_version(&mut self) -> [u8; 8] {
        self.count += 1;
        self.count.to_be_bytes()
    }
}

impl Rotate for Bare {
    async fn rotate(&mut self) {
        let claimed = self.next_version();
        let mut claim = cmd("EVALSHA");
        claim.arg(&self.scripts[0]).arg(1).arg(&self.key).arg(&self.entry[TAG]).arg(&claimed).arg("60000");
        let claim: Value = claim.query_async(&mut self.connection).await.expect("an answer");
        let Value::Array(claim) = claim else { panic!("an entry, not {claim:?}") };
        assert_eq!(claim.first(), Some(&Value::Int(0)), "the lease is free");

        let next = self.next_version();
        self.entry[VERSION].copy_from_slice(&next);
        let mut expected = [self.entry[0]; 9];
        expected[VERSION].copy_from_slice(&claimed);
        let beside = format!("{}:{:022}", self.key, self.count);
        let mut swap = cmd("EVALSHA");
        swap.arg(&self.scripts[1]).arg(2).arg(&self.key).arg(&beside);
        swap.arg(&expected).arg(&self.entry).arg(&self.entry_ttl).arg(&self.replay).arg(&self.replay_ttl);
        let swap: Value = swap.query_async(&mut self.connection).await.expect("an answer");
        assert_eq!(swap, Value::Int(1), "nobody else writes");
    }
}
