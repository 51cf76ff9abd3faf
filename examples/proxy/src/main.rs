//! A reverse proxy for any authorization server. It guards the token, revocation and introspection
//! endpoints with [`tower_oauth_refresh::RefreshLayer`] and, if configured, resources with
//! [`tower_oauth_refresh::AccessLayer`]. It forwards all other requests.
//!
//! ```sh
//! cargo run -p oauth-refresh-proxy                                      # with a demo server
//! cargo run -p oauth-refresh-proxy -- --upstream http://127.0.0.1:9000  # in front of your server
//! cargo run -p oauth-refresh-proxy -- --help
//! ```

mod answer;
mod cli;
mod demo;
mod discovery;
mod resources;
mod server;

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use bytes::Bytes;
use http_body_util::Full;
use mimalloc::MiMalloc;
use server_common::flags::{self, About, Parsed, SharedFlags, config_error};
use server_common::forward::{self, Forward};
use server_common::forwarded::Edge;
use server_common::listener::Listener;
use server_common::metrics::{Metrics, Scrape};
use server_common::program::{Failure, bind, exit, report, shut_down};
use server_common::receivers::Receivers;
use server_common::shutdown::Signals;
use server_common::store::StoreChoice;
use server_common::upstream::{PublicUrl, Upstream};
use tokio::runtime;
use tower_oauth_refresh::store::BoxStore;
use tower_oauth_refresh::{AccessLayer, ConfigError, MemoryStore, RefreshLayer, Store};

use crate::cli::Cli;
use crate::discovery::Discovery;
use crate::server::Server;

/// Rotations make many small, short-lived allocations, for which mimalloc is faster than the
/// system's allocator.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The layer's default limit for the request bodies that it buffers, in bytes.
const MAX_BUFFERED_BODY: usize = 64 << 10;

fn main() -> ExitCode {
    let Parsed { cli, warning } = flags::parse("PROXY_");
    exit(start(cli, warning))
}

fn start(mut cli: Cli, warning: Option<String>) -> Result<(), Failure> {
    if cli.shared.config.check_config {
        return check(&cli);
    }
    let choice = cli.shared.store.choice();
    let choice = choice
        .and_then(|choice| cli.check().map(|()| choice))
        .map_err(Failure::Usage)?
        .unwrap_or(StoreChoice::Memory);
    cli.shared.log.init(env!("CARGO_CRATE_NAME"))?;
    cli.shared.limits.fit_descriptors();
    if let Some(warning) = warning {
        tracing::warn!("{warning}");
    }
    if let Some(public_url) = &cli.public_url {
        flags::warn_without_tls(public_url.as_url());
    }
    let (metrics, exporter) = cli.shared.admin.record(Some("proxy_requests_in_flight"))?;
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        let opened = cli.shared.store.open(&choice).await?;
        let scrape = exporter.map(|exporter| exporter.over(opened.clone()));
        let layer = layer(&cli, opened.store.clone(), &metrics)?;
        let receivers = cli.shared.admin.receivers(&layer, opened.store)?;
        serve(&cli, layer, receivers, &choice, metrics, scrape).await
    });
    // Does not wait for blocking tasks: name resolution may hang.
    runtime.shutdown_background();
    result
}

/// Prints all problems of the configuration that can be found without opening the store and without
/// listening.
fn check(cli: &Cli) -> Result<(), Failure> {
    let SharedFlags { store, .. } = &cli.shared;
    let choice = store.choice();
    let choice = choice.map(|choice| choice.unwrap_or(StoreChoice::Memory));
    let store = choice.and_then(|choice| store.check(&choice));
    let runtime = runtime()?;
    let _entered = runtime.enter();
    let layers = || {
        let memory = BoxStore::new(MemoryStore::new());
        let metrics = Metrics::default();
        let layer = layer(cli, memory.clone(), &metrics)?;
        cli.shared.admin.receivers(&layer, memory)?;
        access(cli, &layer, &metrics).map(drop)
    };
    let layers = layers().map_err(Failure::message);
    report([store, layers].into_iter().chain(cli.checks()))
}

fn layer(cli: &Cli, store: BoxStore, metrics: &Metrics) -> Result<RefreshLayer<BoxStore>, Failure> {
    let builder = RefreshLayer::builder(metrics.store(store));
    let mut builder = cli.configure(builder);
    let key = cli.shared.revocation.key().map_err(Failure::Usage)?;
    if let (Some(key), Some(upstream)) = (key, &cli.upstream) {
        let service = own_requests(cli, upstream, metrics)?;
        builder = builder
            .revocation_key(key)
            .upstream_revocation(service, cli.upstream_client.credentials());
    }
    let metrics = metrics.clone();
    let builder = builder.on_event(move |event| metrics.event(event));
    builder.build().map_err(invalid)
}

fn forward_settings(
    cli: &Cli,
    upstream: &Upstream,
    public: Option<&PublicUrl>,
    metrics: &Metrics,
) -> forward::Settings {
    forward::Settings {
        upstream: upstream.clone(),
        preserve_host: cli.preserve_host,
        edge: Edge::new(public.map(PublicUrl::as_url), &cli.trust_forwarded),
        timeout: cli.upstream_timeout,
        unlimited: cli.guarded_paths().map(str::to_owned).collect(),
        refuse_front_channel: cli.reference_access_tokens,
        metrics: metrics.clone(),
    }
}

/// Returns the service for the requests that the layer itself sends.
fn own_requests(
    cli: &Cli,
    upstream: &Upstream,
    metrics: &Metrics,
) -> Result<Forward<Full<Bytes>>, Failure> {
    let settings = forward_settings(cli, upstream, cli.public_url.as_ref(), metrics);
    let forward = Forward::new(settings).map_err(|error| no_client(upstream, &error))?;
    Ok(forward.without_client())
}

/// Names the flag in an error of the client for the upstream: no root certificates are found.
fn no_client(upstream: &Upstream, error: &std::io::Error) -> Failure {
    format!("--upstream {upstream}: {error}").into()
}

fn access<S: Store>(
    cli: &Cli,
    layer: &RefreshLayer<S>,
    metrics: &Metrics,
) -> Result<AccessLayer<S>, Failure> {
    let builder = cli.configure_access(layer.access());
    let mut builder = builder.map_err(Failure::Usage)?;
    if let (true, Some(upstream)) = (cli.upstream_refresh, &cli.upstream) {
        let service = own_requests(cli, upstream, metrics)?;
        builder = builder.upstream_refresh(service, cli.upstream_client.credentials());
    }
    builder.build().map_err(invalid)
}

fn invalid(error: ConfigError) -> Failure {
    config_error(&error, "--resource-scope")
}

/// Creates the runtime. It has a single thread on a machine with one processor, because waking
/// other threads has a cost.
fn runtime() -> std::io::Result<runtime::Runtime> {
    let single = std::thread::available_parallelism().is_ok_and(|processors| processors.get() == 1);
    let mut builder = if single {
        runtime::Builder::new_current_thread()
    } else {
        runtime::Builder::new_multi_thread()
    };
    builder.enable_all().build()
}

async fn serve<S: Store>(
    cli: &Cli,
    layer: RefreshLayer<S>,
    receivers: Receivers,
    store: &StoreChoice,
    metrics: Metrics,
    scrape: Option<Scrape>,
) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let limits = cli.shared.limits.limits(MAX_BUFFERED_BODY);
    let access = access(cli, &layer, &metrics)?;
    let about = About {
        server: env!("CARGO_PKG_NAME"),
        store: store.to_string(),
    };
    let admin = &cli.shared.admin;
    admin.serve(scrape, metrics.clone(), &layer, about).await?;
    let listener = bind("--listen", cli.listen).await?;
    let listen = listener.local_addr()?;
    let (upstream, public) = match &cli.upstream {
        Some(upstream) => (upstream.clone(), cli.public_url.clone()),
        None => start_demo(cli, listen).await?,
    };
    let settings = forward_settings(cli, &upstream, public.as_ref(), &metrics);
    let forward = Forward::new(settings).map_err(|error| no_client(&upstream, &error))?;
    let inner = Discovery::new(
        forward.clone(),
        &upstream,
        public.as_ref(),
        cli.token_path(),
        cli.shared.sessions.expiration_types(),
    );
    tracing::info!(%upstream, %store, "listening on http://{listen}");
    let expected = discovery::Expected {
        upstream,
        public,
        listen,
        token_path: cli.token_path().to_owned(),
        revocation_path: cli.revocation_path().to_owned(),
        introspection_path: cli.introspection_path.clone(),
    };
    tokio::spawn(discovery::warn_of_detours(forward, expected));

    let server = Server {
        layer: layer.clone(),
        access,
        inner,
        receivers,
        metrics,
    };
    let connections = server
        .run(Listener::new(listener, limits), signals.next())
        .await;
    let timeout = cli.shared.sessions.rotation_timeout;
    let limit = cli.shared.limits.shutdown_timeout;
    shut_down(signals, connections, limit, layer.drain(), timeout).await
}

/// Starts the demo server and prints its session. Returns the URLs of the demo server and of this
/// proxy.
async fn start_demo(
    cli: &Cli,
    listen: SocketAddr,
) -> Result<(Upstream, Option<PublicUrl>), Failure> {
    let here = format!("http://{listen}");
    let upstream = demo::start().await?;
    // An error means that standard output is closed, and the session is not needed.
    let _ = writeln!(
        std::io::stdout(),
        "{}",
        demo::session(&here, upstream, cli.demo_windows())
    );
    let upstream = format!("http://{upstream}").parse()?;
    Ok((
        upstream,
        cli.public_url.clone().or_else(|| here.parse().ok()),
    ))
}
