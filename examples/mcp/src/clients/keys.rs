//! The keys with which clients sign their assertions.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use moka::sync::Cache;
use serde::Deserialize as _;
use server_common::causes::causes;
use server_common::jose::{KeySet, KeySource, Keys, SharedKeys};
use url::Url;

use super::client::KeyLocation;
use super::document::{Fetcher, Seen};
use crate::rate_limit::Network;

/// The maximum size of a key set, in bytes.
const LARGEST: usize = 32 * 1024;

/// The maximum number of cached key sets. Anyone can name a URL; the cache prefers URLs that are
/// used often.
const MOST: u64 = 500;

/// The keys of clients. Those from a `jwks_uri` are fetched as documents are, and cached.
#[derive(Clone, Debug)]
pub(super) struct KeyCache {
    /// `None` if this server does not fetch what clients name.
    fetcher: Option<Fetcher>,
    cached: Cache<Url, Cached>,
}

#[derive(Clone, Debug, Default)]
struct Cached {
    keys: SharedKeys,
    was_valid: Arc<AtomicBool>,
}

impl KeyCache {
    pub(super) fn new(fetcher: Option<Fetcher>) -> Self {
        Self {
            fetcher,
            cached: Cache::new(MOST),
        }
    }

    /// Returns whether keys are fetched.
    pub(super) const fn fetches(&self) -> bool {
        self.fetcher.is_some()
    }

    /// Returns the keys at this location; `None` if it is not valid under the current flags. A
    /// fetch counts against the limit of `network`.
    pub(super) fn find(&self, location: &KeyLocation, network: Network) -> Option<Arc<Keys>> {
        let url = match location {
            KeyLocation::Jwks(jwks) => {
                return KeySet::deserialize(jwks)
                    .ok()
                    .map(|keys| Arc::new(keys.into()));
            }
            KeyLocation::JwksUri(uri) => Url::parse(uri).ok()?,
        };
        let fetcher = self.fetcher.clone()?;
        let cached = self.cached.get_with(url.clone(), Cached::default);
        let source = Source {
            url,
            fetcher,
            network,
            was_valid: cached.was_valid,
        };
        Some(Arc::new(cached.keys.fetched_from(source)))
    }
}

#[derive(Debug)]
struct Source {
    url: Url,
    fetcher: Fetcher,
    network: Network,
    was_valid: Arc<AtomicBool>,
}

impl Source {
    fn log_failure(&self, error: &dyn std::error::Error) {
        tracing::info!(
            jwks_uri = %self.url,
            error = causes(error),
            "could not fetch the keys of a client: its assertions are refused unless an earlier key verifies them"
        );
    }
}

impl KeySource for Source {
    fn may_fetch(&self) -> bool {
        let admitted = self.fetcher.admit(self.network);
        admitted
            .inspect_err(|error| self.log_failure(error))
            .is_ok()
    }

    fn fetch(&self) -> Pin<Box<dyn Future<Output = Option<KeySet>> + Send + '_>> {
        Box::pin(async {
            let seen = if self.was_valid.load(Ordering::Relaxed) {
                Seen::Valid
            } else {
                Seen::Never
            };
            match self.fetcher.fetch(&self.url, seen, LARGEST).await {
                Ok(fetched) => serde_json::from_slice(&fetched.body)
                    .inspect(|_| self.was_valid.store(true, Ordering::Relaxed))
                    .inspect_err(|error| self.log_failure(error))
                    .ok(),
                Err(error) => {
                    self.log_failure(&error);
                    None
                }
            }
        })
    }
}
