//! Limits how often one network can call the endpoints that write records or check secrets.
//!
//! A network is one IPv4 address, or one /64 of IPv6. A site gets at least a /64, from which it can
//! use any address. A larger IPv4 network has unrelated customers of a provider in it.
//!
//! Each instance counts for itself.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{HeaderValue, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use server_common::forwarded;
use server_common::listener::Throttle;

use crate::app::App;
use crate::authorize::too_many_requests;
use crate::error::OauthError;

/// The number of networks that each limit remembers. Beyond it, the network that has been silent
/// longest is forgotten.
const MOST_NETWORKS: u64 = 65_536;

/// The flags for the limits.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct RateFlags {
    /// Most registrations of clients per minute from one IPv4 address or one /64 of IPv6; beyond
    /// it, clients get 429; 0: no limit
    ///
    /// Behind a reverse proxy, set --trust-forwarded. Otherwise all clients count as one. This
    /// holds for the following limits, too.
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    limit_registrations: u32,

    /// Most authorization requests per minute from one such network; each may fetch one document of
    /// a client; 0: no limit
    #[arg(long, value_name = "COUNT", default_value_t = 120)]
    limit_authorizations: u32,

    /// Most failed token requests per minute from one such network; beyond it, all its token
    /// requests get 429; 0: no limit
    #[arg(long, value_name = "COUNT", default_value_t = 120)]
    limit_token_failures: u32,
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
        let limit = |count| NonZeroU32::new(count).map(|count| Limit::new(count, MonotonicClock));
        Self {
            registrations: limit(flags.limit_registrations),
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

/// The addresses that count as one client: the first of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Network(IpAddr);

impl Network {
    fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => {
                Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
            }
        })
    }

    /// Returns the network of the client, as far as trusted reverse proxies name it.
    fn of_client(app: &App, peer: SocketAddr, headers: &HeaderMap) -> Self {
        let client = forwarded::Client::new(Arc::clone(&app.edge), peer);
        let address = client.real_ip(headers);
        let address = address.to_str().ok().and_then(|text| text.parse().ok());
        Self::of(address.unwrap_or(peer.ip()))
    }
}

/// The most recent networks, in bounded memory.
#[derive(Clone, Debug)]
struct Networks(Cache<Network, Arc<InMemoryState>>);

impl StateStore for Networks {
    type Key = Network;

    fn measure_and_replace<T, F, E>(&self, key: &Network, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let state = self.0.get_with(*key, Arc::default);
        state.measure_and_replace(&NotKeyed::NonKey, f)
    }
}

/// The same networks. Nothing is counted.
#[derive(Clone, Debug)]
struct ReadOnly(Networks);

impl StateStore for ReadOnly {
    type Key = Network;

    fn measure_and_replace<T, F, E>(&self, key: &Network, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let Some(state) = self.0.0.get(key) else {
            return f(None).map(|(outcome, _)| outcome);
        };
        // An error leaves the state as it is.
        let outcome = |at| Err::<((), Nanos), _>(f(at).map(|(outcome, _)| outcome));
        match state.measure_and_replace(&NotKeyed::NonKey, outcome) {
            Err(outcome) => outcome,
            Ok(()) => f(None).map(|(outcome, _)| outcome),
        }
    }
}

/// A number of requests per minute for each network.
#[derive(Debug)]
struct Limit<C: Clock = MonotonicClock> {
    #[cfg(test)]
    networks: Networks,
    counted: RateLimiter<Network, Networks, C, NoOpMiddleware<C::Instant>>,
    seen: RateLimiter<Network, ReadOnly, C, NoOpMiddleware<C::Instant>>,
    clock: C,
}

impl<C: Clock + Clone> Limit<C> {
    fn new(count: NonZeroU32, clock: C) -> Self {
        let networks = Cache::builder()
            .max_capacity(MOST_NETWORKS)
            .eviction_policy(EvictionPolicy::lru())
            .build();
        let networks = Networks(networks);
        let quota = Quota::per_minute(count);
        Self {
            #[cfg(test)]
            networks: networks.clone(),
            counted: RateLimiter::new(quota, networks.clone(), clock.clone()),
            seen: RateLimiter::new(quota, ReadOnly(networks), clock.clone()),
            clock,
        }
    }

    /// Counts a request. Returns the time to wait if there are too many.
    fn count(&self, network: Network) -> Result<(), Duration> {
        let result = self.counted.check_key(&network);
        result.map_err(|until| until.wait_time_from(self.clock.now()))
    }

    /// Returns the time to wait if another request would be too many.
    fn check(&self, network: Network) -> Result<(), Duration> {
        let result = self.seen.check_key(&network);
        result.map_err(|until| until.wait_time_from(self.clock.now()))
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
    request: Request,
    next: Next,
) -> Response {
    if let Some(limit) = &app.rate_limits.authorizations {
        let network = Network::of_client(&app, peer, request.headers());
        if let Err(wait) = limit.count(network) {
            let flag = "--limit-authorizations";
            let wait = app.rate_limits.refuse(flag, network, wait);
            return retry_after(wait, too_many_requests());
        }
    }
    next.run(request).await
}

/// Limits failures at `/token`.
pub(crate) async fn token_failures(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let Some(limit) = &app.rate_limits.token_failures else {
        return next.run(request).await;
    };
    let network = Network::of_client(&app, peer, request.headers());
    if let Err(wait) = limit.check(network) {
        return refused(&app, "--limit-token-failures", network, wait);
    }
    let response = next.run(request).await;
    if response.status().is_client_error() {
        // The next request is refused if this was one too many.
        let _ = limit.count(network);
    }
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

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn network(address: &str) -> Network {
        Network::of(address.parse().unwrap())
    }

    fn limit(count: u32) -> (Limit<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let count = NonZeroU32::new(count).unwrap();
        (Limit::new(count, clock.clone()), clock)
    }

    #[test]
    fn a_network_is_an_ipv4_address_or_a_64() {
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8::1", "2001:db8::ffff:0:0:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
        ] {
            assert_eq!(network(one) == network(other), same, "{one} {other}");
        }
    }

    #[test]
    fn each_network_has_its_own_number_of_requests() {
        let (limit, clock) = limit(2);
        let (one, other) = (network("192.0.2.1"), network("192.0.2.2"));
        assert_eq!([limit.count(one), limit.count(one)], [Ok(()), Ok(())]);
        let wait = limit.count(one).unwrap_err();
        assert!(wait <= Duration::from_secs(30), "{wait:?}");
        assert_eq!(limit.count(other), Ok(()));
        clock.advance(wait);
        assert_eq!(limit.count(one), Ok(()));
        assert!(limit.count(one).is_err());
    }

    #[test]
    fn a_check_counts_nothing() {
        let (limit, clock) = limit(1);
        let one = network("2001:db8::1");
        for _ in 0..3 {
            assert_eq!(limit.check(one), Ok(()));
        }
        assert_eq!(limit.count(one), Ok(()));
        for _ in 0..3 {
            assert!(limit.check(one).is_err());
        }
        clock.advance(Duration::from_secs(60));
        assert_eq!(limit.check(one), Ok(()));
    }

    #[test]
    fn memory_is_bounded() {
        let (limit, _) = limit(1);
        for address in 0..2 * MOST_NETWORKS {
            let address = Ipv6Addr::from_bits(u128::from(address) << 64);
            let _ = limit.count(Network::of(address.into()));
        }
        let networks = &limit.networks.0;
        networks.run_pending_tasks();
        assert!(networks.entry_count() <= MOST_NETWORKS);
    }
}
