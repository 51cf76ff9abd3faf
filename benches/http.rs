//! A token endpoint over HTTP, with and without the layer: `benches/run http`.
//!
//! A hyper server and hyper clients run in one process on all processors, next to `redis-server`: a
//! request takes processor time on both sides. The endpoint is that of an app: it reads the form
//! and responds with 1 KB of JSON. Further variants also sign their access tokens, with ES256 or
//! with RS256, and also keep their refresh tokens in the same Redis, as apps with several instances
//! do. The servers take turns in short slices and share everything else, so that disturbances on
//! the machine affect all of them alike.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use support::{
    App, RedisServer, Slice, Work, field, grouped, log_in, median, percentile, redis_store,
    refresh, rounded, short, slice,
};
use tokio::net::{TcpListener, TcpStream};
use tower::{Layer as _, Service};
use tower_oauth_refresh::{MemoryStore, RefreshLayer, TieredStore};

/// As in the proxy: a rotation makes many small, short-lived allocations.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const IN_FLIGHT: [usize; 4] = [1, 32, 256, 1024];
const ROUNDS: usize = 15;
/// The duration for each server in each round.
const SLICE: Duration = Duration::from_millis(300);
/// For this long, every rotation leaves a kilobyte behind.
const RETRY_WINDOW: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    if !support::wanted() {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(measure());
    ExitCode::SUCCESS
}

async fn measure() {
    println!("### HTTP end to end\n");
    println!(
        "A token endpoint with and without the layer, with hyper on both sides: requests per second"
    );
    println!(
        "and their latency. The endpoint reads the form and responds with 1 KB. Variants also sign access tokens (RS256 is the"
    );
    println!(
        "algorithm that every OpenID provider must support) and also keep their own refresh tokens in the same Redis. The"
    );
    println!(
        "clients rotate their grants without a pause, so each rotation stores a link to the current token. The rows \"no"
    );
    println!(
        "links\" have no `shared_token_window`: the cost for a grant that is rotated less often than its window.\n"
    );
    println!(
        "| endpoint | store | in flight | requests/s without | with the layer | ratio | p50 | ratio | p99 | ratio |"
    );
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let redis = RedisServer::start().await;
    let plain = App::default();
    let signing = App::default().signing_es256();
    let keeping = signing.clone().keeping_tokens(&redis).await;
    let endpoints = [
        ("reads the form", plain, &IN_FLIGHT[..]),
        ("and signs, ES256", signing, &[32]),
        ("and signs, RS256", App::default().signing_rs256(), &[32]),
        (
            "signs, ES256, and keeps its refresh tokens in Redis",
            keeping,
            &IN_FLIGHT,
        ),
    ];
    for (name, endpoint, in_flight) in endpoints {
        let over_memory = RefreshLayer::builder(MemoryStore::new())
            .retry_window(RETRY_WINDOW)
            .build();
        let over_redis = RefreshLayer::builder(TieredStore::new(redis_store(&redis).await))
            .retry_window(RETRY_WINDOW)
            .build();
        let without_links = RefreshLayer::builder(TieredStore::new(redis_store(&redis).await))
            .retry_window(RETRY_WINDOW)
            .shared_token_window(Duration::ZERO)
            .build();
        let servers = [
            serve(endpoint.clone()).await,
            serve(over_memory.expect("settings").layer(endpoint.clone())).await,
            serve(over_redis.expect("settings").layer(endpoint.clone())).await,
            serve(without_links.expect("settings").layer(endpoint)).await,
        ];
        for in_flight in in_flight {
            let [without, memory, redis, without_links] = compare(servers, *in_flight).await;
            for (store, with) in [
                ("memory", memory),
                ("Redis", redis),
                ("Redis, no links", without_links),
            ] {
                print(name, store, *in_flight, &without, &with);
            }
        }
    }
    println!();
}

/// The results of a server in all rounds.
#[derive(Default)]
struct Measured {
    rates: Vec<f64>,
    latencies: Vec<Duration>,
}

impl Measured {
    fn percentile(&self, per_cent: usize) -> Duration {
        percentile(&mut self.latencies.clone(), per_cent)
    }
}

async fn compare(servers: [SocketAddr; 4], in_flight: usize) -> [Measured; 4] {
    let mut clients = [const { Vec::new() }; 4];
    for (clients, server) in clients.iter_mut().zip(servers) {
        for _ in 0..in_flight {
            clients.push(Client::connect(server).await);
        }
        (*clients, _) = slice(std::mem::take(clients), SLICE).await;
    }
    let mut measured: [Measured; 4] = Default::default();
    for _ in 0..ROUNDS {
        for (clients, measured) in clients.iter_mut().zip(&mut measured) {
            let done: Slice;
            (*clients, done) = slice(std::mem::take(clients), SLICE).await;
            measured.rates.push(done.rate);
            measured.latencies.extend(done.latencies);
        }
    }
    measured
}

fn print(endpoint: &str, store: &str, in_flight: usize, without: &Measured, with: &Measured) {
    let ratio = median(
        with.rates
            .iter()
            .zip(&without.rates)
            .map(|(with, without)| with / without)
            .collect(),
    );
    let [rate, rate_with] =
        [without, with].map(|measured| grouped(rounded(median(measured.rates.clone()))));
    let [p50, p99] = [50, 99].map(|per_cent| {
        let [without, with] = [without, with].map(|measured| measured.percentile(per_cent));
        let ratio = with.as_secs_f64() / without.as_secs_f64();
        format!("{} → {} | {ratio:.1}", short(without), short(with))
    });
    let in_flight = grouped(in_flight as u64);
    println!(
        "| {endpoint} | {store} | {in_flight} | {rate} | {rate_with} | {:.0} % | {p50} | {p99} |",
        ratio * 100.0
    );
}

/// Serves any number of connections for as long as the program runs.
async fn serve<S, R>(service: S) -> SocketAddr
where
    S: Service<Request<Incoming>, Response = Response<R>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let service = TowerToHyperService::new(service);
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).expect("an option");
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http.serve_connection(TokioIo::new(stream), service.clone()));
        }
    });
    address
}

/// A client that is logged in, on its own connection.
struct Client {
    connection: SendRequest<Full<Bytes>>,
    token: String,
}

impl Client {
    async fn connect(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).await.expect("the server");
        stream.set_nodelay(true).expect("an option");
        let (connection, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .expect("HTTP");
        tokio::spawn(driver);
        let mut client = Self {
            connection,
            token: String::new(),
        };
        client.send(log_in()).await;
        client
    }

    /// Sends a form and keeps the refresh token of the response.
    async fn send(&mut self, form: String) {
        let request = Request::post("/token")
            .header(HOST, "login.example.com")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::from(form))
            .expect("a request");
        self.connection
            .ready()
            .await
            .expect("a connection that stays");
        let response = self
            .connection
            .send_request(request)
            .await
            .expect("an answer");
        let body = response
            .into_body()
            .collect()
            .await
            .expect("an answer")
            .to_bytes();
        let answer = std::str::from_utf8(&body).expect("text");
        self.token.replace_range(.., field(answer, "refresh_token"));
    }
}

impl Work for Client {
    async fn once(&mut self) {
        self.send(refresh(&self.token)).await;
    }
}
