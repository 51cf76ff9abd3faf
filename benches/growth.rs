//! Processor time and memory per grant as the number of grants grows: `benches/run growth`.
//!
//! Every store and every number of grants is measured in a new process that begins empty, because
//! freed memory does not leave a process. Grants are issued through the layer, then random ones are
//! rotated, 32 at once.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Parser;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use support::{
    Endpoint, Line, Panel, Process, RedisServer, Work, directory, draw, field, grouped, log_in,
    redis_store, refresh, resident, send, slice,
};
use tower::Layer as _;
use tower_oauth_refresh::{MemoryStore, RedbStore, Refresh, RefreshLayer, Store, TieredStore};

const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
const IN_FLIGHT: usize = 32;
const MEASURED: Duration = Duration::from_secs(4);
/// For this long, every rotation leaves a kilobyte behind.
const RETRY_WINDOW: Duration = Duration::from_secs(1);

#[derive(Parser)]
struct Args {
    /// Passed by cargo.
    #[arg(long)]
    bench: bool,
    /// The maximum number of grants.
    #[arg(long, default_value_t = 1_000_000)]
    grants: usize,
    /// Measures only this store, with `--grants` grants. This is what one of the child processes
    /// does.
    #[arg(long)]
    store: Option<Kind>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Kind {
    Memory,
    Redb,
    Redis,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Memory, Self::Redb, Self::Redis];

    const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redb => "redb",
            Self::Redis => "Redis, tiered",
        }
    }

    const fn option(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redb => "redb",
            Self::Redis => "redis",
        }
    }
}

fn main() -> ExitCode {
    if !support::wanted() {
        return ExitCode::SUCCESS;
    }
    let args = Args::parse();
    match args.store {
        Some(kind) => {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            println!("{}", runtime.block_on(measure(kind, args.grants)).to_line());
        }
        None => print_all(args.grants),
    }
    ExitCode::SUCCESS
}

/// The measured cost.
#[derive(Clone, Copy)]
struct Cost {
    /// Microseconds of processor time per rotation, in the process and in Redis.
    rotation: f64,
    rotation_in_redis: f64,
    /// Bytes per grant, in the process and in Redis or the file.
    memory: f64,
    stored: f64,
    /// Seconds until all grants were issued.
    issued: f64,
}

impl Cost {
    fn to_line(self) -> String {
        [
            self.rotation,
            self.rotation_in_redis,
            self.memory,
            self.stored,
            self.issued,
        ]
        .map(|n| n.to_string())
        .join(" ")
    }

    fn from_line(line: &str) -> Option<Self> {
        let numbers: Vec<_> = line
            .split(' ')
            .filter_map(|number| number.trim().parse().ok())
            .collect();
        let [rotation, rotation_in_redis, memory, stored, issued] = numbers[..] else {
            return None;
        };
        Some(Self {
            rotation,
            rotation_in_redis,
            memory,
            stored,
            issued,
        })
    }
}

fn print_all(most: usize) {
    println!("### As grants grow\n");
    println!(
        "Random grants are rotated, {IN_FLIGHT} at once. Each store and each number of grants has its own process."
    );
    println!(
        "Memory is measured after the grants were issued. The first thousand reuse much memory that the process has freed"
    );
    println!("before, and the caches of redb and of the tier take at most 64 MiB each.\n");
    println!(
        "| store | grants | processor time per rotation | of it in Redis | process memory per grant | in Redis or the file |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    let (mut rotations, mut memory) = (Vec::new(), Vec::new());
    for kind in Kind::ALL {
        let (mut time, mut bytes) = (Vec::new(), Vec::new());
        for size in SIZES.into_iter().filter(|size| *size <= most) {
            let cost = in_a_process(kind, size);
            let total = cost.rotation + cost.rotation_in_redis;
            let redis = if matches!(kind, Kind::Redis) {
                format!("{:.0} µs", cost.rotation_in_redis)
            } else {
                "".into()
            };
            let stored = if matches!(kind, Kind::Memory) {
                String::new()
            } else {
                grouped(cost.stored as u64)
            };
            let (name, grants, held) = (
                kind.name(),
                grouped(size as u64),
                grouped(cost.memory.max(0.0) as u64),
            );
            println!("| {name} | {grants} | {total:.0} µs | {redis} | {held} bytes | {stored} |");
            time.push((size as f64, total));
            bytes.push((size as f64, cost.memory.max(0.0) + cost.stored));
            eprintln!("{name}: {grants} grants issued in {:.0} s", cost.issued);
        }
        rotations.push(Line {
            name: kind.name().into(),
            points: time,
        });
        memory.push(Line {
            name: kind.name().into(),
            points: bytes,
        });
    }
    println!(
        "\n![Processor time of a rotation and bytes of a grant by the number of grants](docs/growth.svg)\n"
    );
    let x = "grants";
    draw(
        "growth.svg",
        &[
            Panel {
                title: "Processor time",
                x,
                y: "µs per rotation, Redis included",
                lines: rotations,
            },
            Panel {
                title: "Memory and file",
                x,
                y: "bytes per grant, Redis included",
                lines: memory,
            },
        ],
    );
}

fn in_a_process(kind: Kind, grants: usize) -> Cost {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.args([
        "--bench",
        "--store",
        kind.option(),
        "--grants",
        &grants.to_string(),
    ]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("a process");
    let mut line = String::new();
    child
        .stdout
        .take()
        .expect("a pipe")
        .read_to_string(&mut line)
        .expect("text");
    assert!(
        child.wait().expect("it ends").success(),
        "{}: {grants} grants",
        kind.name()
    );
    Cost::from_line(&line).unwrap_or_else(|| panic!("no figures: {line}"))
}

async fn measure(kind: Kind, grants: usize) -> Cost {
    match kind {
        Kind::Memory => grow(MemoryStore::new(), grants, None, None).await,
        Kind::Redb => {
            let files = directory(env!("CARGO_TARGET_TMPDIR"));
            let path = files.path().join("grants.redb");
            let store = RedbStore::builder(&path)
                .timeout(Duration::from_secs(60))
                .open()
                .expect("a file");
            grow(store, grants, None, Some(&path)).await
        }
        Kind::Redis => {
            let redis = RedisServer::start().await;
            let store = redis_store(&redis).await;
            grow(TieredStore::new(store), grants, Some(&redis), None).await
        }
    }
}

async fn grow<St: Store>(
    store: St,
    grants: usize,
    redis: Option<&RedisServer>,
    file: Option<&Path>,
) -> Cost {
    let layer = RefreshLayer::builder(store)
        .retry_window(RETRY_WINDOW)
        .build()
        .expect("settings");
    let service = layer.layer(Endpoint::default());
    let stored = async || match (redis, file) {
        (Some(redis), _) => redis.info("memory").await["used_memory"]
            .parse()
            .expect("a number"),
        (None, Some(file)) => std::fs::metadata(file).expect("a file").len(),
        (None, None) => 0,
    };
    // First allocate what every process needs once, including the memory of the tokens that clients
    // hold.
    let share = grants.div_ceil(IN_FLIGHT);
    let mut warm: Vec<_> = (0..IN_FLIGHT).map(|_| Holder::new(&service, 8)).collect();
    let mut holders: Vec<_> = (0..IN_FLIGHT)
        .map(|n| Holder::new(&service, share.min(grants - (n * share).min(grants))))
        .filter(|holder| !holder.tokens.is_empty())
        .collect();
    warm = log_all_in(warm).await;
    slice(warm, RETRY_WINDOW).await;

    let (memory_before, stored_before, started) = (resident(), stored().await, Instant::now());
    holders = log_all_in(holders).await;
    let issued = started.elapsed().as_secs_f64();
    let memory = resident().saturating_sub(memory_before) as f64 / grants as f64;
    let in_store = stored().await.saturating_sub(stored_before) as f64 / grants as f64;

    (holders, _) = slice(holders, RETRY_WINDOW).await;
    let used = || {
        (
            Process::this(),
            redis
                .map(|redis| Process::of(redis.pid()))
                .unwrap_or_default(),
        )
    };
    let (this_before, redis_before) = used();
    let (_, done) = slice(holders, MEASURED).await;
    let (this, of_redis) = used();
    let each = |process: Process| process.total().as_secs_f64() * 1e6 / done.latencies.len() as f64;
    Cost {
        rotation: each(this.since(this_before)),
        rotation_in_redis: each(of_redis.since(redis_before)),
        memory,
        stored: in_store,
        issued,
    }
}

/// A share of the clients, which holds its tokens in as little memory as possible.
struct Holder<St: Store> {
    service: Refresh<Endpoint, St>,
    tokens: Vec<[u8; 54]>,
    random: StdRng,
}

const PREFIX: &str = "rt_";

impl<St: Store> Holder<St> {
    fn new(service: &Refresh<Endpoint, St>, count: usize) -> Self {
        // Zeros would not take up memory yet.
        Self {
            service: service.clone(),
            tokens: vec![[1; 54]; count],
            random: StdRng::seed_from_u64(count as u64),
        }
    }

    async fn send(&mut self, at: usize, form: String) {
        let answer = send(&self.service, form).await;
        let token = field(&answer, "refresh_token")
            .strip_prefix(PREFIX)
            .expect("a token of the layer");
        let len = URL_SAFE_NO_PAD
            .decode_slice(token, &mut self.tokens[at])
            .expect("base64");
        assert_eq!(len, self.tokens[at].len());
    }
}

async fn log_all_in<St: Store>(holders: Vec<Holder<St>>) -> Vec<Holder<St>> {
    let tasks = holders.into_iter().map(|mut holder| {
        tokio::spawn(async move {
            for at in 0..holder.tokens.len() {
                holder.send(at, log_in()).await;
            }
            holder
        })
    });
    let mut back = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        back.push(task.await.expect("a task that ends"));
    }
    back
}

impl<St: Store> Work for Holder<St> {
    async fn once(&mut self) {
        let at = self.random.random_range(..self.tokens.len());
        let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(self.tokens[at]));
        self.send(at, refresh(&token)).await;
    }
}
