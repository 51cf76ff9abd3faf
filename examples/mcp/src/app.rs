//! Builds the server from its parts and runs it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State as Extract};
use axum::http::StatusCode;
use axum::middleware::map_request;
use axum::response::Response;
use axum::routing::any;
use server_common::causes::causes;
use server_common::flags::{About, AdminFlags, config_error};
use server_common::forwarded::Edge;
use server_common::listener::{Listener, limit_body_time};
use server_common::metrics::Metrics;
use server_common::program::{Failure, bind, shut_down};
use server_common::receivers::Receivers;
use server_common::shutdown::Signals;
use server_common::store::{OpenStore, StoreChoice};
use tower::service_fn;
use tower_oauth_refresh::store::BoxStore;
use tower_oauth_refresh::{AccessLayer, ClientCredentials, MemoryStore, RefreshLayer};
use url::Url;

use crate::brand::Brand;
use crate::cli::{Cli, TokenUse};
use crate::clients::{Clients, ProviderClient};
use crate::cors::with_cors;
use crate::error::OauthError;
use crate::issuer::Issuer;
use crate::next_steps::next_steps;
use crate::provider::{Provider, ProviderConfig};
use crate::rate_limit::RateLimits;
use crate::records::Records;
use crate::scopes::Scopes;
use crate::token::TrustedIssuers;
use crate::{authorize, demo, discovery, error, hardening, landing, mcp, register, server, token};

/// The maximum size of a request body, except at the MCP endpoint.
const MOST_BYTES: usize = 64 << 10;

/// The time limit for a request body, except at the MCP endpoint. It equals the limit of the
/// refresh layer, because the handlers in front of the layer read bodies, too.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The state that all handlers share.
#[derive(Clone, Debug)]
pub(crate) struct App(Arc<State>);

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) issuer: Issuer,
    /// The scopes that clients may request. A request without scopes gets the scopes that its
    /// client registered, or else all of these.
    pub(crate) scopes: Scopes,
    /// The texts that the consent page shows instead of scopes.
    pub(crate) scope_descriptions: BTreeMap<String, String>,
    pub(crate) brand: Brand,
    pub(crate) rate_limits: RateLimits,
    pub(crate) trusted_issuers: TrustedIssuers,
    pub(crate) records: Records,
    pub(crate) clients: Clients,
    pub(crate) provider: Provider,
    /// The properties of users that the guarded MCP server receives.
    pub(crate) identity: mcp::Identity,
    pub(crate) refresh: RefreshLayer<BoxStore>,
    /// The endpoints at which other servers end sessions.
    pub(crate) receivers: Receivers,
    /// The position of this server behind reverse proxies, for the addresses of users.
    pub(crate) edge: Arc<Edge>,
    /// The time in which a repeated exchange of an authorization code gets the same response.
    pub(crate) code_window: Duration,
    /// The types of expiration that token responses state.
    pub(crate) expiration_types: &'static [&'static str],
}

impl Deref for App {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

/// Serves until a signal arrives, then shuts down gracefully.
pub(crate) async fn serve(
    cli: &Cli,
    opened: OpenStore,
    choice: &StoreChoice,
) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let mut admin = cli.admin().map_err(Failure::Usage)?;
    let (metrics, exporter) = admin.record(None)?;
    let store = opened.store.clone();
    let scrape = exporter.map(|exporter| exporter.over(opened));
    let limits = cli.shared.limits.limits(mcp::MOST_BYTES);
    let listener = bind("--listen", cli.listen).await?;
    let listen = listener.local_addr()?;
    let issuer = issuer(cli, listen)?;
    let (config, demo) = match cli.provider().map_err(Failure::Usage)? {
        Some(config) => (config, None),
        None => {
            let listener = bind("--demo-listen", cli.demo.listen()).await?;
            let demo = demo::start(&cli.demo, listener, &issuer)?;
            let config = demo_provider(cli, &demo)?;
            admin.set_default_issuer(config.issuer.clone(), Some(config.client_id.clone()));
            (config, Some(demo))
        }
    };
    let provider = Provider::new(config, issuer.resource(), metrics.clone())?;
    let config = provider.config();
    if config.is_public() && config.rules.are_empty() {
        tracing::warn!(
            "every account at the identity provider can log in, and accounts there are open to the public: set --allow-user, --allow-email-domain or --allow-group"
        );
    }
    provider.discover().await.map_err(Failure::Usage)?;
    let (app, access) = build(cli, store, issuer, provider, &admin, &metrics)?;
    let refresh = app.refresh.clone();
    let about = About {
        server: env!("CARGO_PKG_NAME"),
        store: choice.to_string(),
    };
    admin
        .serve(scrape, metrics.clone(), &refresh, about)
        .await?;
    let endpoint = mcp::endpoint(&cli.endpoint, &app)?;
    let allowed = mcp::Allowed::new(&app.issuer, listen, &cli.endpoint.allowed_origin);
    let router = router(
        &app,
        mcp::guarded(endpoint.router.clone().layer(access), allowed, &app),
    );
    // An error means that standard output is closed, and the text is not needed.
    let _ = writeln!(
        std::io::stdout(),
        "{}",
        next_steps(&app.issuer, &app.brand, demo.as_ref())
    );
    tracing::info!(issuer = %app.issuer, store = %choice, "listening on http://{listen}");

    let connections = server::run(router, Listener::new(listener, limits), signals.next()).await;
    endpoint.end();
    let timeout = cli.shared.sessions.rotation_timeout;
    let limit = cli.shared.limits.shutdown_timeout;
    shut_down(signals, connections, limit, refresh.drain(), timeout).await
}

/// Checks the configuration without opening the store and without listening.
pub(crate) fn check(cli: &Cli) -> Vec<Result<(), String>> {
    let memory = BoxStore::new(MemoryStore::new());
    let records = Records::new(memory.clone());
    let any = Url::parse("http://127.0.0.1");
    let config = match (cli.provider(), &any) {
        (Ok(None), Ok(here)) => demo_provider(cli, here).ok(),
        (config, _) => config.ok().flatten(),
    };
    // An error of the provider's flags is reported once.
    let unknown = ProviderClient {
        id: "provider",
        secret: Some("unknown"),
    };
    let provider = config.as_ref().map_or(unknown, ProviderConfig::as_client);
    let clients = Clients::new(
        &records,
        &cli.clients,
        None,
        cli.supported_scopes(),
        provider,
    );
    let whole = || {
        let issuer = issuer(cli, cli.listen)?;
        let config = match cli.provider().map_err(Failure::Usage)? {
            Some(config) => config,
            None => demo_provider(cli, &any?)?,
        };
        let admin = cli.admin().map_err(Failure::Usage)?;
        let metrics = Metrics::default();
        let provider = Provider::new(config, issuer.resource(), metrics.clone())?;
        let (app, _) = build(cli, memory, issuer, provider, &admin, &metrics)?;
        mcp::endpoint(&cli.endpoint, &app).map(drop)
    };
    let whole: Result<(), Failure> = whole();
    let mut results = vec![
        cli.store()
            .and_then(|choice| cli.shared.store.check(&choice)),
        cli.provider().map(drop),
        cli.admin().map(drop),
        cli.scope_descriptions().map(drop),
        cli.brand.brand().map(drop),
        cli.check_trusted_issuers(),
        cli.endpoint.check(&cli.scopes()),
        cli.shared.revocation.key().map(drop),
        cli.shared.sessions.check(),
        clients.map(drop).map_err(|error| causes(&error)),
        whole.map_err(Failure::message),
    ];
    results.extend(cli.without_effect().map(Err));
    results
}

/// Returns the settings with which this server uses a demo provider at this URL.
fn demo_provider(cli: &Cli, here: &Url) -> Result<ProviderConfig, Failure> {
    let rules = cli.rules().map_err(Failure::Usage)?;
    let config = demo::config(here, cli.scopes(), rules).map_err(Failure::Usage)?;
    Ok(ProviderConfig {
        forwards_users: cli.identity.forwards_users(),
        groups_claim: cli.groups_claim(),
        ..config
    })
}

/// Returns the public URL of this server.
fn issuer(cli: &Cli, listen: SocketAddr) -> Result<Issuer, Failure> {
    match &cli.public_url {
        Some(url) => Ok(url.clone()),
        None => Ok(format!("http://{listen}").parse()?),
    }
}

/// Builds the state of all handlers and the layer of the MCP endpoint.
fn build(
    cli: &Cli,
    store: BoxStore,
    issuer: Issuer,
    provider: Provider,
    admin: &AdminFlags,
    metrics: &Metrics,
) -> Result<(App, AccessLayer<BoxStore>), Failure> {
    if let Some(problem) = cli.without_effect().next() {
        return Err(Failure::Usage(problem));
    }
    cli.shared.sessions.check().map_err(Failure::Usage)?;
    cli.endpoint.check(&cli.scopes()).map_err(Failure::Usage)?;
    cli.check_trusted_issuers().map_err(Failure::Usage)?;
    let layered = metrics.store(store.clone());
    let by_session = admin.backchannel_logout_issuer.is_some();
    let (refresh, access) = layers(cli, layered, &issuer, &provider, metrics, by_session)?;
    let receivers = admin.receivers(&refresh, store.clone())?;
    let has_upstream = cli.endpoint.mcp_upstream.is_some();
    cli.identity.check(has_upstream).map_err(Failure::Usage)?;
    let groups_claim = provider.config().groups_claim();
    let identity = mcp::Identity::new(&cli.identity, &issuer, groups_claim);
    let identity = identity.map_err(Failure::Usage)?;
    let records = Records::new(store);
    let clients = Clients::new(
        &records,
        &cli.clients,
        cli.rates.document_fetches(),
        cli.supported_scopes(),
        provider.config().as_client(),
    );
    let app = App(Arc::new(State {
        issuer,
        scopes: cli.supported_scopes(),
        scope_descriptions: cli.scope_descriptions().map_err(Failure::Usage)?,
        rate_limits: RateLimits::new(&cli.rates),
        trusted_issuers: TrustedIssuers::new(&cli.trusted_issuer).map_err(Failure::Usage)?,
        brand: cli.brand.brand().map_err(Failure::Usage)?,
        clients: clients.map_err(|error| Failure::Usage(causes(&error)))?,
        records,
        identity,
        provider,
        refresh,
        receivers,
        edge: Arc::new(Edge::new(None, &cli.endpoint.trust_forwarded)),
        code_window: cli.code_window(),
        expiration_types: cli.shared.sessions.expiration_types(),
    }));
    Ok((app, access))
}

/// Builds the layer for the token routes and the layer for the MCP endpoint.
fn layers(
    cli: &Cli,
    store: BoxStore,
    issuer: &Issuer,
    provider: &Provider,
    metrics: &Metrics,
    by_session: bool,
) -> Result<(RefreshLayer<BoxStore>, AccessLayer<BoxStore>), Failure> {
    let invalid = |error| config_error(&error, "--require-scope");
    let refresh = RefreshLayer::builder(store)
        .reference_access_tokens(true)
        .match_normalized_paths(true)
        .subject_claim(provider.config().claim_names().id)
        .claims(["email", "email_verified", provider.config().groups_claim()]);
    // The middleware in front of the layer checks the requested resource and replaces it with this
    // one.
    let refresh = refresh.allowed_resources([issuer.resource()]);
    // A logout token need not name a user.
    let mut refresh = cli.configure(refresh).provider_sessions(by_session);
    if let Some(key) = cli.shared.revocation.key().map_err(Failure::Usage)? {
        let settings = provider.settings();
        if settings.is_ok_and(|settings| settings.revocation_endpoint.is_none()) {
            let message = "--upstream-revocation needs --revocation-endpoint, or one in the discovery document of --issuer";
            return Err(Failure::Usage(message.into()));
        }
        let provider = provider.clone();
        let service = service_fn(move |request| token::revoke_ended(provider.clone(), request));
        refresh = refresh
            .revocation_key(key)
            .upstream_revocation(service, ClientCredentials::added_by_service());
    }
    let metrics = metrics.clone();
    let refresh = refresh.on_event(move |event| metrics.event(event));
    let refresh = refresh.build().map_err(invalid)?;
    let strip = cli.endpoint.token_use() == Some(TokenUse::Strip);
    let mut access = cli
        .shared
        .configure_access(refresh.access())
        .strip(strip)
        .realm("mcp")
        .resource(issuer.resource())
        .resource_metadata(issuer.well_known("oauth-protected-resource", "/mcp"));
    if cli.upstream_refresh {
        let provider = provider.clone();
        let service = service_fn(move |request| token::renew(provider.clone(), request));
        access = access.upstream_refresh(service, ClientCredentials::added_by_service());
    }
    for scope in &cli.endpoint.require_scope {
        access = access.require_scope(scope);
    }
    Ok((refresh, access.build().map_err(invalid)?))
}

/// Builds the router. All routes are below the path of the issuer, except the well-known documents,
/// which are at the root of the host.
fn router(app: &App, mcp: Router<App>) -> Router {
    let receivers = app.receivers.paths().fold(Router::new(), |router, path| {
        router.route(path, any(receive))
    });
    let endpoints = Router::new()
        .merge(authorize::routes(app))
        .merge(register::routes(app))
        .merge(with_cors(token::routes(app)))
        .layer(DefaultBodyLimit::max(MOST_BYTES))
        .layer(map_request(async |request| {
            limit_body_time(request, BODY_TIMEOUT)
        }))
        .merge(with_cors(mcp))
        .merge(receivers);
    let router = discovery::routes(app).merge(landing::routes(app));
    let router = match app.issuer.path() {
        "" => router.merge(endpoints),
        path => router.nest(path, endpoints),
    };
    router
        .fallback(async || {
            OauthError::new("not_found", "no such endpoint").with_status(StatusCode::NOT_FOUND)
        })
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(hardening::layer(&app.issuer))
        .with_state(app.clone())
}

/// Answers a request of another server that ends sessions.
async fn receive(Extract(app): Extract<App>, request: Request) -> Response {
    app.receivers.answer(request).await.map(Body::new)
}
