//! Rotations per second through the layer over Redis, compared with the scripts alone:
//! `benches/run redis`.
//!
//! A rotation is a `claim` and a `swap` with its replay. Without the layer, the same scripts run on
//! entries of the same size through the same Redis client. The two take turns in short slices, and
//! the ratio is the median over the rounds, so that disturbances affect both alike.

use std::process::ExitCode;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Value, cmd};
use support::{
    Endpoint, Line, Panel, RedisServer, Session, Work, draw, grouped, median, redis_store, rounded,
    slice,
};
use tower::Layer as _;
use tower_oauth_refresh::{RedisStore, Refresh, RefreshLayer, TieredStore};

/// As in the proxy: a rotation makes many small, short-lived allocations.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const IN_FLIGHT: [usize; 4] = [1, 32, 256, 1024];
const ROUNDS: usize = 21;
/// The duration for each kind in each round.
const SLICE: Duration = Duration::from_millis(250);
/// For this long, every rotation leaves a kilobyte behind.
const RETRY_WINDOW: Duration = Duration::from_secs(5);
/// The length of the queue, as in the store.
const QUEUE: usize = 1024;

fn main() -> ExitCode {
    if !support::wanted() {
        return ExitCode::SUCCESS;
    }
    // One thread for everything that is measured, as in Redis, so that the cost of waking threads
    // affects neither side.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(measure());
    ExitCode::SUCCESS
}

async fn measure() {
    let server = RedisServer::start().await;
    let store = redis_store(&server).await;
    let layer = RefreshLayer::builder(TieredStore::new(store))
        .retry_window(RETRY_WINDOW)
        .build()
        .expect("settings");
    let service = layer.layer(Endpoint::default());
    let written = Written::by_a_rotation(&service, &server).await;
    let connection = connect(&server).await;

    println!("### Compared with Redis alone\n");
    println!(
        "Rotations through the layer, compared with the same two scripts through the same Redis client without the layer.\n"
    );
    println!("| in flight | rotations/s | scripts alone/s | ratio |");
    println!("| ---: | ---: | ---: | ---: |");
    let (mut of_layer, mut of_scripts) = (Vec::new(), Vec::new());
    for in_flight in IN_FLIGHT {
        let (mut layered, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..in_flight {
            layered.push(Session::begin(&service).await);
            bare.push(Bare::insert(&connection, &written).await);
        }
        (layered, _) = slice(layered, SLICE).await;
        (bare, _) = slice(bare, SLICE).await;
        let (mut with, mut without, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (layer, scripts);
            (layered, layer) = slice(layered, SLICE).await;
            (bare, scripts) = slice(bare, SLICE).await;
            with.push(layer.rate);
            without.push(scripts.rate);
            ratios.push(layer.rate / scripts.rate);
        }
        let (with, without, ratio) = (median(with), median(without), median(ratios));
        let [with_text, without_text] = [with, without].map(|rate| grouped(rounded(rate)));
        println!(
            "| {} | {with_text} | {without_text} | {:.0} % |",
            grouped(in_flight as u64),
            ratio * 100.0
        );
        of_layer.push((in_flight as f64, with));
        of_scripts.push((in_flight as f64, without));
    }
    println!(
        "\n`MEMORY USAGE` of a rotated grant is {} bytes, and of its replay {} bytes.\n",
        grouped(written.grant_memory),
        grouped(written.replay_memory)
    );
    println!("![Rotations per second by requests in flight](docs/rotations.svg)\n");
    let lines = vec![
        Line {
            name: "the two scripts alone".into(),
            points: of_scripts,
        },
        Line {
            name: "the layer".into(),
            points: of_layer,
        },
    ];
    draw(
        "rotations.svg",
        &[Panel {
            title: "Rotations over one Redis",
            x: "requests in flight",
            y: "rotations per second",
            lines,
        }],
    );
}

type Guarded = Refresh<Endpoint, TieredStore<RedisStore>>;

async fn connect(server: &RedisServer) -> MultiplexedConnection {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(QUEUE);
    let client = Client::open(server.url()).expect("an address");
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .expect("a connection")
}

/// The entries that the layer has in Redis after a rotation.
struct Written {
    entry: Vec<u8>,
    entry_ttl: String,
    replay: Vec<u8>,
    replay_ttl: String,
    grant_memory: u64,
    replay_memory: u64,
    claim: String,
    swap: String,
}

impl Written {
    async fn by_a_rotation(service: &Guarded, server: &RedisServer) -> Self {
        Session::begin(service).await.once().await;
        let found = server.dump().await;
        assert_eq!(found.len(), 2, "a grant and its replay");
        let is_sidecar = |key: &[u8]| key.windows(2).any(|pair| pair == b"}:");
        let (replays, grants): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|(key, _)| is_sidecar(key));
        let ([(grant, entry)], [(sidecar, replay)]) = (&grants[..], &replays[..]) else {
            panic!("a grant and its replay")
        };
        let number = async |words: &[&[u8]]| match server.command(words).await {
            Value::Int(number) => u64::try_from(number).expect("a size"),
            other => panic!("a number, not {other:?}"),
        };
        Self {
            entry: entry.clone(),
            entry_ttl: number(&[b"PTTL", grant]).await.to_string(),
            replay: replay.clone(),
            replay_ttl: number(&[b"PTTL", sidecar]).await.to_string(),
            grant_memory: number(&[b"MEMORY", b"USAGE", grant]).await,
            replay_memory: number(&[b"MEMORY", b"USAGE", sidecar]).await,
            claim: redis::Script::new(include_str!("../src/store/redis/claim.lua"))
                .get_hash()
                .to_owned(),
            swap: redis::Script::new(include_str!("../src/store/redis/swap.lua"))
                .get_hash()
                .to_owned(),
        }
    }
}

/// Runs the scripts alone, on the data that the layer would write.
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

/// The layout of an entry: the version after the format, the end of the lease, the tag.
const VERSION: std::ops::Range<usize> = 1..9;
const LEASE: std::ops::Range<usize> = 9..15;
const TAG: std::ops::Range<usize> = 15..47;

/// The scripts return the nonce of the call with their result.
const NONCE: &str = "12345678";

impl Bare {
    async fn insert(connection: &MultiplexedConnection, written: &Written) -> Self {
        let name = format!("{:032x}", rand::random::<u128>());
        let Written {
            entry,
            entry_ttl,
            replay,
            replay_ttl,
            claim,
            swap,
            ..
        } = written;
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
        set.arg(&inserted.key)
            .arg(&inserted.entry)
            .arg("PX")
            .arg(&inserted.entry_ttl);
        let set: Value = set
            .query_async(&mut inserted.connection)
            .await
            .expect("an answer");
        assert_eq!(set, Value::Okay);
        inserted
    }

    fn next_version(&mut self) -> [u8; 8] {
        self.count += 1;
        self.count.to_be_bytes()
    }
}

impl Work for Bare {
    async fn once(&mut self) {
        let claimed = self.next_version();
        let mut claim = cmd("EVALSHA");
        claim
            .arg(&self.scripts[0])
            .arg(1)
            .arg(&self.key)
            .arg(&claimed)
            .arg(&self.entry[TAG])
            .arg("60000")
            .arg("");
        let claim: Value = claim
            .query_async(&mut self.connection)
            .await
            .expect("an answer");
        let Value::Array(claim) = claim else {
            panic!("an entry, not {claim:?}")
        };
        let [_, Value::BulkString(_), Value::BulkString(_)] = &*claim else {
            panic!("the lease is not free")
        };

        let next = self.next_version();
        self.entry[VERSION].copy_from_slice(&next);
        let mut expected = [self.entry[0]; 9];
        expected[VERSION].copy_from_slice(&claimed);
        let sidecar = format!("{}:{:022}", self.key, self.count);
        let mut swap = cmd("EVALSHA");
        swap.arg(&self.scripts[1])
            .arg(2)
            .arg(&self.key)
            .arg(&sidecar);
        swap.arg(NONCE)
            .arg(&expected)
            .arg(&self.entry)
            .arg(&self.entry_ttl)
            .arg(&self.replay)
            .arg(&self.replay_ttl);
        let swap: Value = swap
            .query_async(&mut self.connection)
            .await
            .expect("an answer");
        let made = Value::BulkString(NONCE.into());
        assert_eq!(swap, made, "no other client writes");
    }
}
