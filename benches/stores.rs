//! Rotations, replays and lookups of uncached access tokens, over every store:
//! `benches/run stores`.
//!
//! The inner service does nothing and there is no HTTP: the layer and its store are measured.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use support::{
    Endpoint, PostgresServer, RedisServer, Session, Work, directory, field, grouped, log_in,
    median, percentile, postgres_store, redis_store, refresh, rounded, send, short, slice,
};
use tower::{Layer as _, ServiceExt as _};
use tower_oauth_refresh::access::Access;
use tower_oauth_refresh::{
    MemoryStore, RedbStore, RedisStore, Refresh, RefreshLayer, Store, TieredStore,
};

const IN_FLIGHT: [usize; 4] = [1, 32, 256, 1024];
const ROUNDS: usize = 5;
/// The number of rounds of a comparison.
const COMPARED: usize = 15;
const SLICE: Duration = Duration::from_millis(500);
/// The retry window for rotations: for this long, every rotation leaves a kilobyte behind.
const RETRY_WINDOW: Duration = Duration::from_secs(5);
/// The retry window for replays.
const LONG: Duration = Duration::from_secs(3600);

fn main() -> ExitCode {
    if !support::wanted() {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(measure());
    ExitCode::SUCCESS
}

async fn measure() {
    let redis = RedisServer::start().await;
    let files = directory(env!("CARGO_TARGET_TMPDIR"));
    let mut count = 0;
    let mut file = || {
        count += 1;
        let path = files.path().join(count.to_string());
        RedbStore::builder(path)
            .timeout(LONG)
            .open()
            .expect("a file")
    };
    let connect = async || redis_store(&redis).await;
    let mut tables = Tables::default();
    tables
        .add(
            "memory",
            [MemoryStore::new(), MemoryStore::new(), MemoryStore::new()],
        )
        .await;
    tables.add("redb", [file(), file(), file()]).await;
    tables
        .add("Redis", [connect().await, connect().await, connect().await])
        .await;
    let tiered = async || TieredStore::new(connect().await);
    tables
        .add(
            "Redis, tiered",
            [tiered().await, tiered().await, tiered().await],
        )
        .await;
    // It waits for the disk, as in production.
    let postgres = PostgresServer::start_with("fsync=on").await;
    let connect = async |schema| postgres_store(&postgres, schema).await;
    let stores = [
        connect("one").await,
        connect("two").await,
        connect("three").await,
    ];
    tables.add("PostgreSQL", stores.clone()).await;
    tables
        .add("PostgreSQL, tiered", stores.map(TieredStore::new))
        .await;
    tables.print();
    let (alone, tiered) = (redis_store(&redis).await, redis_store(&redis).await);
    compare(alone, TieredStore::new(tiered)).await;
}

/// Prints the rate of rotations with a cache in front of a store, compared with that of the store
/// alone. The two take turns.
async fn compare(alone: RedisStore, tiered: TieredStore<RedisStore>) {
    let alone = rotating(alone).layer(Endpoint::default());
    let tiered = rotating(tiered).layer(Endpoint::default());
    println!("### The cache in front of Redis\n");
    println!("Rotations per second over Redis, and with `TieredStore` in front of it.\n");
    println!("| in flight | Redis | tiered | ratio |\n| ---: | ---: | ---: | ---: |");
    for in_flight in [1, 32, 256] {
        let mut of_alone = Vec::with_capacity(in_flight);
        let mut of_tiered = Vec::with_capacity(in_flight);
        for _ in 0..in_flight {
            of_alone.push(Session::begin(&alone).await);
            of_tiered.push(Session::begin(&tiered).await);
        }
        let (mut rates, mut tiered_rates, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=COMPARED {
            let (of_one, of_other);
            (of_alone, of_one) = slice(of_alone, SLICE).await;
            (of_tiered, of_other) = slice(of_tiered, SLICE).await;
            // The first round warms up.
            if round > 0 {
                rates.push(of_one.rate);
                tiered_rates.push(of_other.rate);
                ratios.push(of_other.rate / of_one.rate);
            }
        }
        let [rate, tiered_rate] =
            [rates, tiered_rates].map(|rates| grouped(rounded(median(rates))));
        let ratio = 100.0 * median(ratios);
        println!("| {in_flight} | {rate} | {tiered_rate} | {ratio:.0} % |");
    }
    println!();
}

/// Returns a layer for rotations.
fn rotating<St: Store>(store: St) -> RefreshLayer<St> {
    let layer = RefreshLayer::builder(store).retry_window(RETRY_WINDOW);
    layer.build().expect("settings")
}

/// Rows of Markdown.
#[derive(Default)]
struct Tables {
    rates: [String; 3],
    latencies: [String; 3],
}

const OPERATIONS: [&str; 3] = ["rotation", "replay", "access token, not cached"];

impl Tables {
    async fn add<St: Store>(&mut self, name: &str, [rotating, replaying, guarding]: [St; 3]) {
        let service = self::rotating(rotating).layer(Endpoint::default());
        self.row(0, name, async || Session::begin(&service).await)
            .await;

        let layer = RefreshLayer::builder(replaying)
            .retry_window(LONG)
            .build()
            .expect("settings");
        let service = layer.layer(Endpoint::default());
        self.row(1, name, async || Retrying::begin(&service).await)
            .await;

        let layer = RefreshLayer::builder(guarding)
            .reference_access_tokens(true)
            .build()
            .expect("settings");
        let guard = layer
            .access()
            .cache_ttl(Duration::ZERO)
            .build()
            .expect("settings");
        let service = layer.layer(Endpoint::with_access_token(64));
        let guarded = guard.layer(Endpoint::default());
        let visitor = async || Visitor {
            service: guarded.clone(),
            authorization: format!(
                "Bearer {}",
                field(&send(&service, log_in()).await, "access_token")
            ),
        };
        self.row(2, name, visitor).await;
    }

    async fn row<W: Work>(&mut self, operation: usize, store: &str, one: impl AsyncFn() -> W) {
        let name = OPERATIONS[operation];
        let (rates, latencies) = (&mut self.rates[operation], &mut self.latencies[operation]);
        write!(rates, "| {name} | {store} |").expect("a string");
        write!(latencies, "| {name} | {store} |").expect("a string");
        for in_flight in IN_FLIGHT {
            let mut all = Vec::with_capacity(in_flight);
            for _ in 0..in_flight {
                all.push(one().await);
            }
            (all, _) = slice(all, SLICE).await;
            let (mut rate, mut times) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let done;
                (all, done) = slice(all, SLICE).await;
                rate.push(done.rate);
                times.extend(done.latencies);
            }
            let [p50, p99] = [50, 99].map(|per_cent| short(percentile(&mut times, per_cent)));
            write!(rates, " {} |", grouped(rounded(median(rate)))).expect("a string");
            write!(latencies, " {p50} / {p99} |").expect("a string");
        }
        rates.push('\n');
        latencies.push('\n');
    }

    fn print(&self) {
        let in_flight = IN_FLIGHT
            .map(|in_flight| grouped(in_flight as u64))
            .join(" | ");
        println!(
            "### Stores\n\nThe layer and its store, in front of an inner service that does nothing."
        );
        println!("Requests per second, by requests in flight:\n");
        println!(
            "| | store | {in_flight} |\n| --- | --- | ---: | ---: | ---: | ---: |\n{}",
            self.rates.concat()
        );
        println!("Latency, p50 / p99:\n");
        println!(
            "| | store | {in_flight} |\n| --- | --- | ---: | ---: | ---: | ---: |\n{}",
            self.latencies.concat()
        );
    }
}

/// A client that lost its response, and retries again and again.
struct Retrying<St: Store> {
    service: Refresh<Endpoint, St>,
    token: String,
}

impl<St: Store> Retrying<St> {
    async fn begin(service: &Refresh<Endpoint, St>) -> Self {
        let mut session = Session::begin(service).await;
        let token = session.token.clone();
        session.once().await;
        Self {
            service: service.clone(),
            token,
        }
    }
}

impl<St: Store> Work for Retrying<St> {
    async fn once(&mut self) {
        send(&self.service, refresh(&self.token)).await;
    }
}

/// A client of the resource server.
struct Visitor<St> {
    service: Access<Endpoint, St>,
    authorization: String,
}

impl<St: Store> Work for Visitor<St> {
    async fn once(&mut self) {
        let request = Request::get("/orders").header("authorization", &self.authorization);
        let Ok(response) = self
            .service
            .clone()
            .oneshot(request.body(Full::<Bytes>::default()).expect("a request"))
            .await;
        assert_eq!(response.status(), StatusCode::OK);
    }
}
