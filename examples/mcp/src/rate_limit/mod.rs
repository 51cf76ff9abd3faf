//! Limits how often one network can call the endpoints that write records or check secrets.
//!
//! A network is one IPv4 address, or one /64 of IPv6. A site gets at least a /64, from which it can
//! use any address. A larger IPv4 network has unrelated customers of a provider in it. A /48 of
//! IPv6, which a site may have, can send 16 times as many requests as a network.
//!
//! Each instance counts for itself.

mod limit;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{HeaderValue, RETRY_AFTER};
use axum::http::{Extensions, HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use governor::clock::MonotonicClock;
use server_common::forwarded;
use server_common::listener::Throttle;

pub(crate) use self::limit::{Limit, Network};
use crate::app::App;
use crate::authorize::too_many_requests;
use crate::error::OauthError;

/// The flags for the limits.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct RateFlags {
    /// Most registrations of clients per minute from one IPv4 address or one /64 of IPv6; beyond
    /// it, clients get 429; 0: no limit
    ///
    /// Behind a reverse proxy, set --trust-forwarded. Otherwise all clients count as one, for this
    /// limit and the other ones.
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    limit_registrations: u32,

    /// Most authorization requests per minute from one network, as for --limit-registrations; each
    /// may fetch one document of a client; 0: no limit
    #[arg(long, value_name = "COUNT", default_value_t = 120)]
    limit_authorizations: u32,

    /// Most failed token requests, and revocations of unknown tokens, per minute from one network;
    /// beyond it, all its token and revocation requests get 429; 0: no limit
    ///
    /// A request in progress counts until it succeeds.
    #[arg(long, value_name = "COUNT", default_value_t = 120)]
    limit_token_failures: u32,

    /// Most fetches of client documents and key sets per minute that requests from one network
    /// cause; beyond it, they get cached documents and keys only; 0: no limit [default: 30]
    ///
    /// All networks together have a limit of 600 fetches per minute.
    #[arg(long, value_name = "COUNT")]
    pub(crate) limit_document_fetches: Option<u32>,
}

impl RateFlags {
    /// Returns the limit on what the requests of one network make this server fetch.
    pub(crate) fn document_fetches(&self) -> Option<Limit> {
        limit(self.limit_document_fetches.unwrap_or(30))
    }
}

/// Returns a limit of `count` requests per minute; `None` if that is 0.
fn limit(count: u32) -> Option<Limit> {
    NonZeroU32::new(count).map(|count| Limit::new(count, MonotonicClock))
}

/// The limits of the endpoints.
#[derive(Debug)]
pub(crate) struct RateLimits {
    registrations: Option<Limit>,
    authorizations: Option<Limit>,
    token_failures: Option<Limit>,
    /// Limits the log lines about refused requests.
    log: Throttle,
}

impl RateLimits {
    pub(crate) fn new(flags: &RateFlags) -> Self {
        Self {
            registrations: NonZeroU32::new(flags.limit_registrations)
                .map(|count| Limit::new(count, MonotonicClock).with_all(count)),
            authorizations: limit(flags.limit_authorizations),
            token_failures: limit(flags.limit_token_failures),
            log: Throttle::default(),
        }
    }

    /// Logs that a network is refused. Returns the time to wait, in seconds.
    fn refuse(&self, flag: &str, network: Network, wait: Duration) -> u64 {
        if let Some(suppressed) = self.log.line() {
            tracing::warn!(
                network = %network.0,
                flag,
                suppressed,
                "a client sends too many requests and gets 429; if this is the address of a reverse proxy, set --trust-forwarded"
            );
        }
        wait.as_secs() + 1
    }
}

impl Network {
    /// Returns the network from which a request to `/authorize`, `/token` or `/revoke` comes.
    pub(crate) fn of_request(extensions: &Extensions) -> Self {
        // The requests of unknown networks count together.
        let unknown = Self::of(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        extensions.get().copied().unwrap_or(unknown)
    }

    /// Returns the network of the client, as far as trusted reverse proxies name it.
    fn of_client(app: &App, peer: SocketAddr, headers: &HeaderMap) -> Self {
        let client = forwarded::Client::new(Arc::clone(&app.edge), peer);
        let address = client.real_ip(headers);
        let address = address.to_str().ok().and_then(|text| text.parse().ok());
        Self::of(address.unwrap_or(peer.ip()))
    }
}

/// A mark in the extensions of requests to `/token` and `/revoke`. A marked request counts as
/// failed even if its response is a success.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wasted(Arc<AtomicBool>);

impl Wasted {
    /// Marks a request to one of these endpoints.
    pub(crate) fn mark(extensions: &Extensions) {
        if let Some(Self(wasted)) = extensions.get() {
            wasted.store(true, Ordering::Relaxed);
        }
    }
}

/// Limits `/register`.
pub(crate) async fn registrations(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    if let Some(limit) = &app.rate_limits.registrations {
        let network = Network::of_client(&app, peer, request.headers());
        if let Err(wait) = limit.count(network) {
            return refused(&app, "--limit-registrations", network, wait);
        }
    }
    next.run(request).await
}

/// Limits `/authorize`, whose answer is a page.
pub(crate) async fn authorizations(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let network = Network::of_client(&app, peer, request.headers());
    if let Some(limit) = &app.rate_limits.authorizations
        && let Err(wait) = limit.count(network)
    {
        let flag = "--limit-authorizations";
        let wait = app.rate_limits.refuse(flag, network, wait);
        return retry_after(wait, too_many_requests());
    }
    request.extensions_mut().insert(network);
    next.run(request).await
}

/// Limits failures at `/token` and `/revoke`.
pub(crate) async fn token_failures(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let network = Network::of_client(&app, peer, request.headers());
    request.extensions_mut().insert(network);
    let Some(limit) = &app.rate_limits.token_failures else {
        return next.run(request).await;
    };
    let mut attempt = match limit.begin(network) {
        Ok(attempt) => attempt,
        Err(wait) => return refused(&app, "--limit-token-failures", network, wait),
    };
    let wasted = Wasted::default();
    request.extensions_mut().insert(wasted.clone());
    let response = next.run(request).await;
    attempt.failed = response.status().is_client_error() || wasted.0.load(Ordering::Relaxed);
    response
}

fn refused(app: &App, flag: &str, network: Network, wait: Duration) -> Response {
    let wait = app.rate_limits.refuse(flag, network, wait);
    let error = OauthError::unavailable("too many requests: try again later");
    let error = error.with_status(StatusCode::TOO_MANY_REQUESTS);
    retry_after(wait, error.into_response())
}

fn retry_after(wait: u64, mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from(wait));
    response
}
