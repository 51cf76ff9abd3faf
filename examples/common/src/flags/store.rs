//! The flags that choose the store, and set its replicas and caches.

use std::time::Duration;

use super::seconds;
use crate::program::Failure;
use crate::store::{OpenStore, Settings, StoreChoice};

/// The flags for the store.
#[derive(Clone, Debug, clap::Args)]
pub struct StoreFlags {
    /// Store of this server: `memory` (lost when this process ends), `redb:PATH` (a file that only
    /// this process can use), or the URL of a Redis or PostgreSQL that any number of servers can
    /// share [default: memory; for mcp-oauth-proxy with a provider, a file in its state directory]
    ///
    /// URLs: redis://[USER:PASSWORD@]HOST[:PORT][/DB], redis-cluster://HOST:PORT,HOST:PORT or
    /// redis-sentinel://HOST:PORT,HOST:PORT/SERVICE; rediss…:// uses TLS. With the feature
    /// `postgres`: postgres://USER:PASSWORD@HOST[:PORT],…/DB?sslmode=verify-full.
    #[arg(long, value_name = "STORE", hide_env_values = true)]
    store: Option<String>,

    /// Number of Redis replicas that must acknowledge each write; 0 does not wait for replicas
    ///
    /// With 1 or more, a failover to a replica that has acknowledged a write does not lose it. The
    /// risk: while fewer replicas are connected, refreshes get 503, and log-ins fail or get no
    /// refresh token.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    wait_for_replicas: u32,

    /// Memory, in bytes, for the cache in front of a shared store, and the same again for the cache
    /// of access tokens; 0 disables both caches [default: 67108864]
    #[arg(long, value_name = "BYTES")]
    cache_size: Option<u64>,

    /// Time in seconds for which the cache in front of a shared store and the cache of access
    /// tokens keep an entry; 0 disables both caches [default: 10]
    ///
    /// The risk: if the store cannot notify this server that a grant ended, access tokens of the
    /// grant are accepted for up to this time. At most 86400 if access tokens are checked.
    #[arg(long, value_name = "SECS", value_parser = seconds, allow_negative_numbers = true)]
    cache_ttl: Option<Duration>,
}

impl StoreFlags {
    /// Parses `--store`. clap must not do this, because its error message would repeat the password
    /// in a URL. `None` if the flag is not set.
    pub fn choice(&self) -> Result<Option<StoreChoice>, String> {
        let choice = self.store.as_deref().map(str::parse).transpose();
        choice.map_err(|error| format!("--store: {error}"))
    }

    /// Checks what can be checked without opening the store.
    pub fn check(&self, choice: &StoreChoice) -> Result<(), String> {
        choice.check(self.settings())
    }

    /// Opens the store. Must be called within a Tokio runtime.
    pub async fn open(&self, choice: &StoreChoice) -> Result<OpenStore, Failure> {
        choice.open(self.settings()).await
    }

    /// Returns the first flag of the caches that is set.
    pub fn first_of_caches(&self) -> Option<&'static str> {
        if self.cache_size.is_some() {
            Some("--cache-size")
        } else {
            self.cache_ttl.map(|_| "--cache-ttl")
        }
    }

    /// Returns the memory of each cache, in bytes.
    pub(super) fn cache_size(&self) -> u64 {
        self.cache_size.unwrap_or(64 << 20)
    }

    pub(super) fn cache_ttl(&self) -> Duration {
        self.cache_ttl.unwrap_or(Duration::from_secs(10))
    }

    fn settings(&self) -> Settings {
        Settings {
            cache_bytes: self.cache_size(),
            cache_ttl: self.cache_ttl(),
            replicas: self.wait_for_replicas,
        }
    }
}
