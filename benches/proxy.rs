//! Processor time of the example proxy for a rotation over each store, and for forwarding the same
//! request unchanged.
//!
//! `benches/run proxy`, which builds the proxy first.
//!
//! The proxy is a separate process on a processor of its own, if `taskset` is available; clients
//! and upstream are this process, which shares another processor with Redis. The measured time is
//! what the kernel reports for the proxy, so that a busy machine only prolongs the measurement. The
//! two kinds of request take turns, so that disturbances affect both alike.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use support::{Process, RedisServer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;

const CLIENTS: usize = 32;
/// The number of grants of each connection, so that each is refreshed every few seconds and not
/// every millisecond.
const GRANTS: usize = 500;
const TOKEN: &str = "/token";
const UNGUARDED: &str = "/other";
/// Longer than the retry window, so that memory no longer grows.
const WARM_UP: Duration = Duration::from_secs(6);
/// In seconds. For this long, every rotation leaves a kilobyte behind.
const RETRY_WINDOW: &str = "5";
const ROUNDS: usize = 10;
/// The duration for each kind in each round.
const MEASURED: Duration = Duration::from_secs(1);
/// The pause between the kinds, until the requests in progress are of the next kind.
const SETTLE: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    if !support::wanted() {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(measure());
    ExitCode::SUCCESS
}

async fn measure() {
    // Redis is a child of this process, and inherits its processor.
    let pinned = pin();
    let redis = RedisServer::start().await;
    let upstream = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = upstream.local_addr().expect("an address");
    tokio::spawn(serve(upstream));
    println!("### The example proxy\n");
    println!(
        "Processor time of the proxy as the kernel reports it, for one process on one processor, with the connections on both sides.\n"
    );
    println!("| processor time, {CLIENTS} in flight | user | system | total | ratio |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    let url = redis.url();
    for (name, store) in [("MemoryStore", "memory"), ("RedisStore", &url)] {
        let proxy = Proxy::start(address, store, pinned);
        let [forwarding, rotation] = measure_proxy(&proxy).await;
        let ratio = rotation.per_request(Cost::total) / forwarding.per_request(Cost::total);
        forwarding.print("the same `POST`, forwarded unchanged", 1.0);
        rotation.print(&format!("a rotation over `{name}`"), ratio);
    }
    println!();
}

/// Returns the costs of forwarding and of a rotation.
async fn measure_proxy(proxy: &Proxy) -> [Cost; 2] {
    let load = Arc::new(Load::default());
    let warm = Arc::new(Barrier::new(CLIENTS + 1));
    for _ in 0..CLIENTS {
        tokio::spawn(rotate(proxy.address, Arc::clone(&warm), Arc::clone(&load)));
    }
    warm.wait().await;
    tokio::time::sleep(WARM_UP).await;
    let (mut forwarding, mut rotation) = (Cost::default(), Cost::default());
    for _ in 0..ROUNDS {
        for (forward, cost) in [(true, &mut forwarding), (false, &mut rotation)] {
            load.forward.store(forward, Ordering::Relaxed);
            tokio::time::sleep(SETTLE).await;
            let (before, count) = (Process::of(proxy.child.id()), load.answered());
            tokio::time::sleep(MEASURED).await;
            let used = Process::of(proxy.child.id()).since(before);
            cost.count += load.answered() - count;
            cost.user += used.user;
            cost.system += used.system;
        }
    }
    [forwarding, rotation]
}

/// Restricts this process to the second processor. Returns whether it could.
fn pin() -> bool {
    let id = std::process::id().to_string();
    Command::new("taskset")
        .args(["-acp", "1", &id])
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The work of the clients, and how often they have done it.
#[derive(Default)]
struct Load {
    /// Whether clients send their forms to a path that the layer does not intercept.
    forward: AtomicBool,
    answered: AtomicU64,
}

impl Load {
    fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

/// The cost of requests of one kind.
#[derive(Default)]
struct Cost {
    count: u64,
    user: Duration,
    system: Duration,
}

impl Cost {
    fn total(&self) -> Duration {
        self.user + self.system
    }

    /// Returns the time per request in microseconds.
    fn per_request(&self, time: impl Fn(&Self) -> Duration) -> f64 {
        time(self).as_secs_f64() * 1e6 / self.count as f64
    }

    fn print(&self, name: &str, ratio: f64) {
        let user = self.per_request(|cost| cost.user);
        let system = self.per_request(|cost| cost.system);
        let total = self.per_request(Self::total);
        println!("| {name} | {user:.1} µs | {system:.1} µs | {total:.1} µs | {ratio:.2} |");
    }
}

/// Logs clients in on one connection, then sends their refresh tokens in turn without end.
async fn rotate(proxy: SocketAddr, warm: Arc<Barrier>, load: Arc<Load>) {
    let mut stream = TcpStream::connect(proxy).await.expect("the proxy");
    stream.set_nodelay(true).expect("an option");
    let mut buffer = Vec::with_capacity(8192);
    let mut tokens = Vec::with_capacity(GRANTS);
    for _ in 0..GRANTS {
        let form = "grant_type=authorization_code&client_id=bench&code=x";
        tokens.push(
            request_token(&mut stream, &mut buffer, TOKEN, form)
                .await
                .expect("an answer"),
        );
    }
    // Once for each token: the first rotation needs new memory, and every later one reuses it.
    for token in &mut tokens {
        *token = request_token(&mut stream, &mut buffer, TOKEN, &refresh(token))
            .await
            .expect("an answer");
    }
    warm.wait().await;
    for turn in (0..GRANTS).cycle() {
        let form = refresh(&tokens[turn]);
        let forward = load.forward.load(Ordering::Relaxed);
        let path = if forward { UNGUARDED } else { TOKEN };
        // The proxy is stopped when the measurement is over.
        let Some(token) = request_token(&mut stream, &mut buffer, path, &form).await else {
            return;
        };
        if !forward {
            tokens[turn] = token;
        }
        load.answered.fetch_add(1, Ordering::Relaxed);
    }
}

fn refresh(token: &str) -> String {
    format!("grant_type=refresh_token&client_id=bench&refresh_token={token}")
}

/// Sends a form, and returns the refresh token of the response.
async fn request_token(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    path: &str,
    form: &str,
) -> Option<String> {
    let head =
        "HTTP/1.1\r\nHost: login.example.com\r\nContent-Type: application/x-www-form-urlencoded";
    let request = format!(
        "POST {path} {head}\r\nAccept: application/json\r\nContent-Length: {}\r\n\r\n{form}",
        form.len()
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let answer = message(stream, buffer).await?;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let token = answer
        .split_once(r#""refresh_token":""#)
        .and_then(|(_, rest)| rest.split_once('"'));
    Some(token.expect("a refresh token").0.to_owned())
}

/// Serves an authorization server that grants every request, with 1 KB.
async fn serve(listener: TcpListener) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    while let Ok((mut stream, _)) = listener.accept().await {
        stream.set_nodelay(true).expect("an option");
        tokio::spawn(async move {
            let mut buffer = Vec::with_capacity(8192);
            while message(&mut stream, &mut buffer).await.is_some() {
                let next = NEXT.fetch_add(1, Ordering::Relaxed);
                let access = "a".repeat(800);
                let body = format!(
                    r#"{{"access_token":"{access}","token_type":"Bearer","expires_in":300,"refresh_token":"{next:064}","scope":"profile"}}"#
                );
                let head =
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-store";
                let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// Returns the next message with its body, which must have a known length.
async fn message(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    buffer.clear();
    loop {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
        let text = std::str::from_utf8(buffer).ok()?;
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| {
            line.split_once(": ")
                .filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        });
        if body.len() >= length.map_or(0, |(_, length)| length.parse().unwrap_or(0)) {
            return Some(text.to_owned());
        }
    }
}

struct Proxy {
    child: Child,
    address: SocketAddr,
}

impl Proxy {
    fn start(upstream: SocketAddr, store: &str, pinned: bool) -> Self {
        let mut path = std::env::current_exe().expect("this program");
        path.pop();
        path.set_file_name("oauth-refresh-proxy");
        assert!(
            path.exists(),
            "{} does not exist: build it first",
            path.display()
        );
        let mut command = if pinned {
            Command::new("taskset")
        } else {
            Command::new(&path)
        };
        if pinned {
            command.args(["-c", "0"]).arg(&path);
        }
        let upstream = format!("http://{upstream}");
        command
            .args(["--listen", "127.0.0.1:0", "--upstream", &upstream])
            .args(["--store", store, "--retry-window", RETRY_WINDOW])
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the proxy");
        let mut log = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let line = log.find_map(|line| {
            line.ok()?
                .split_once("listening on http://")
                .map(|(_, rest)| rest.to_owned())
        });
        let line = line.expect("the proxy listens");
        let address = line
            .split(' ')
            .next()
            .and_then(|address| address.parse().ok())
            .expect("an address");
        std::thread::spawn(move || log.for_each(drop));
        Self { child, address }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
