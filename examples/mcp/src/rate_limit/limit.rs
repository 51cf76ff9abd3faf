//! A number of requests per minute for each network, and a larger one for each site.
//!
//! A site of IPv6 has up to 65,536 networks, as many as are remembered. Without a limit of its own,
//! it could make this server forget the requests of all of them.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

/// The number of networks that each limit remembers. Beyond it, the network that has been silent
/// longest is forgotten.
const MOST_NETWORKS: u64 = 65_536;

/// The number of requests of a site, in those of a network.
const OF_SITE: NonZeroU32 = NonZeroU32::new(16).unwrap();

/// The number of requests of all networks together, in those of a network.
const OF_ALL: NonZeroU32 = NonZeroU32::new(64).unwrap();

/// The addresses that count as one client: the first of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Network(pub(super) IpAddr);

impl Network {
    pub(crate) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => {
                Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
            }
        })
    }

    /// Returns the /48 of IPv6 that a site may have. For IPv4, a larger network has other clients.
    fn site(self) -> Option<Self> {
        match self.0 {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => {
                let site = address.to_bits() & !(u128::MAX >> 48);
                Some(Self(Ipv6Addr::from_bits(site).into()))
            }
        }
    }
}

/// The requests of a network.
#[derive(Debug, Default)]
struct Requests {
    counted: InMemoryState,
    in_flight: AtomicU32,
}

/// The most recent networks, in bounded memory.
#[derive(Clone, Debug)]
struct Networks(Cache<Network, Arc<Requests>>);

impl Networks {
    fn get(&self, network: Network) -> Arc<Requests> {
        self.0.get_with(network, Arc::default)
    }
}

impl StateStore for Networks {
    type Key = Network;

    fn measure_and_replace<T, F, E>(&self, key: &Network, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let requests = self.get(*key);
        requests.counted.measure_and_replace(&NotKeyed::NonKey, f)
    }
}

/// A view of the networks that counts nothing.
#[derive(Clone, Debug)]
struct ReadOnly(Networks);

impl StateStore for ReadOnly {
    type Key = Network;

    fn measure_and_replace<T, F, E>(&self, key: &Network, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        // An error leaves the state as it is.
        let outcome = |at| Err::<((), Nanos), _>(f(at).map(|(outcome, _)| outcome));
        match self.0.measure_and_replace(key, outcome) {
            Err(outcome) => outcome,
            Ok(()) => f(None).map(|(outcome, _)| outcome),
        }
    }
}

/// A number of requests per minute for each network of one size.
#[derive(Debug)]
struct Counters<C: Clock> {
    networks: Networks,
    counted: RateLimiter<Network, Networks, C, NoOpMiddleware<C::Instant>>,
    seen: RateLimiter<Network, ReadOnly, C, NoOpMiddleware<C::Instant>>,
    clock: C,
}

impl<C: Clock + Clone> Counters<C> {
    fn new(count: NonZeroU32, clock: C) -> Self {
        let networks = Cache::builder()
            .max_capacity(MOST_NETWORKS)
            .eviction_policy(EvictionPolicy::lru())
            .build();
        let networks = Networks(networks);
        let quota = Quota::per_minute(count);
        Self {
            counted: RateLimiter::new(quota, networks.clone(), clock.clone()),
            seen: RateLimiter::new(quota, ReadOnly(networks.clone()), clock.clone()),
            networks,
            clock,
        }
    }
}

impl<C: Clock> Counters<C> {
    /// Counts a request. Returns the time to wait if there are too many.
    fn count(&self, network: Network) -> Result<(), Duration> {
        let result = self.counted.check_key(&network);
        result.map_err(|until| until.wait_time_from(self.clock.now()))
    }

    /// Returns the time to wait if this number of requests would be too many.
    fn check(&self, network: Network, number: NonZeroU32) -> Result<(), Duration> {
        match self.seen.check_key_n(&network, number) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(until)) => Err(until.wait_time_from(self.clock.now())),
            Err(_) => Err(Duration::ZERO),
        }
    }
}

/// A number of requests per minute for each network and each site, and if wanted for all of them
/// together.
#[derive(Debug)]
pub(crate) struct Limit<C: Clock = MonotonicClock> {
    networks: Counters<C>,
    sites: Counters<C>,
    all: Option<RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>>,
    clock: C,
}

impl<C: Clock + Clone> Limit<C> {
    pub(crate) fn new(count: NonZeroU32, clock: C) -> Self {
        Self {
            networks: Counters::new(count, clock.clone()),
            sites: Counters::new(count.saturating_mul(OF_SITE), clock.clone()),
            all: None,
            clock,
        }
    }

    /// Also limits the requests of all networks together. Use it for requests that fill the store:
    /// a flood of them refuses those of other clients, too.
    pub(super) fn with_all(self, count: NonZeroU32) -> Self {
        let quota = Quota::per_minute(count.saturating_mul(OF_ALL));
        let all = RateLimiter::direct_with_clock(quota, self.clock.clone());
        Self {
            all: Some(all),
            ..self
        }
    }
}

impl<C: Clock> Limit<C> {
    /// Counts a request. Returns the time to wait if there are too many.
    pub(crate) fn count(&self, network: Network) -> Result<(), Duration> {
        self.networks.count(network)?;
        if let Some(site) = network.site() {
            self.sites.count(site)?;
        }
        let all = self.all.as_ref().map_or(Ok(()), RateLimiter::check);
        all.map_err(|until| until.wait_time_from(self.clock.now()))
    }

    /// Begins a request that is counted when it has failed. Returns the time to wait if there would
    /// be too many, should all requests in flight fail.
    pub(super) fn begin(&self, network: Network) -> Result<Attempt<'_, C>, Duration> {
        let requests = self.networks.networks.get(network);
        let before = requests.in_flight.fetch_add(1, Ordering::Relaxed);
        let mut attempt = Attempt {
            limit: self,
            network,
            requests,
            failed: false,
        };
        let all = NonZeroU32::MIN.saturating_add(before);
        self.networks.check(network, all)?;
        if let Some(site) = network.site() {
            self.sites.check(site, NonZeroU32::MIN)?;
        }
        // A client that hangs up does not get around the limit.
        attempt.failed = true;
        Ok(attempt)
    }
}

/// A request in flight. When it is dropped, it is counted if it failed.
#[derive(Debug)]
pub(super) struct Attempt<'a, C: Clock = MonotonicClock> {
    limit: &'a Limit<C>,
    network: Network,
    requests: Arc<Requests>,
    pub(super) failed: bool,
}

impl<C: Clock> Drop for Attempt<'_, C> {
    fn drop(&mut self) {
        if self.failed {
            let _ = self.limit.count(self.network);
        }
        self.requests.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
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
    fn only_failures_count_when_they_end() {
        let (limit, clock) = limit(2);
        let one = network("2001:db8::1");
        for _ in 0..5 {
            limit.begin(one).unwrap().failed = false;
        }
        drop((limit.begin(one).unwrap(), limit.begin(one).unwrap()));
        let wait = limit.begin(one).unwrap_err();
        assert!(wait <= Duration::from_secs(30), "{wait:?}");
        assert!(limit.begin(network("2001:db8:0:1::1")).is_ok());
        clock.advance(wait);
        assert!(limit.begin(one).is_ok());
        assert!(limit.begin(one).is_err());
    }

    #[test]
    fn requests_in_flight_count_until_they_succeed() {
        let (limit, _) = limit(2);
        let one = network("192.0.2.1");
        let mut held = [limit.begin(one).unwrap(), limit.begin(one).unwrap()];
        for _ in 0..5 {
            assert!(limit.begin(one).is_err());
        }
        held[0].failed = false;
        drop(held);
        let last = limit.begin(one).unwrap();
        assert!(limit.begin(one).is_err());
        drop(last);
        assert!(limit.begin(one).is_err());
    }

    #[test]
    fn a_site_does_not_get_a_new_number_with_each_of_its_networks() {
        let of_site = |number: u32| network(&format!("2001:db8:0:{number:x}::1"));
        let (limit, clock) = limit(2);
        for number in 0..32 {
            assert_eq!(limit.count(of_site(number)), Ok(()), "{number}");
        }
        for number in 32..40 {
            assert!(limit.count(of_site(number)).is_err(), "{number}");
            assert!(limit.begin(of_site(number)).is_err(), "{number}");
        }
        assert_eq!(limit.count(network("2001:db8:1::1")), Ok(()));
        assert_eq!(limit.count(network("192.0.2.1")), Ok(()));
        clock.advance(Duration::from_secs(60));
        assert_eq!(limit.count(of_site(40)), Ok(()));
    }

    #[test]
    fn all_networks_together_have_a_limit() {
        let (limit, clock) = limit(1);
        let limit = limit.with_all(NonZeroU32::MIN);
        let site = |number: u32| network(&format!("2001:db8:{number:x}::1"));
        for number in 0..64 {
            assert_eq!(limit.count(site(number)), Ok(()), "{number}");
        }
        assert!(limit.count(site(64)).is_err());
        assert!(limit.count(network("192.0.2.1")).is_err());
        clock.advance(Duration::from_secs(1));
        assert_eq!(limit.count(site(65)), Ok(()));
    }

    #[test]
    fn memory_is_bounded() {
        let (limit, _) = limit(1);
        for address in 0..2 * MOST_NETWORKS {
            let address = Ipv6Addr::from_bits(u128::from(address) << 64);
            let _ = limit.count(Network::of(address.into()));
        }
        let networks = &limit.networks.networks.0;
        networks.run_pending_tasks();
        assert!(networks.entry_count() <= MOST_NETWORKS);
    }
}
