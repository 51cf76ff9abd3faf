//! The keys that verify tokens, cached.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use url::Url;

use super::fetch::{KeySource, Provider};
use super::issuer::Issuer;
use super::key_set::KeySet;

/// The age from which keys are fetched again before they are used, so that a key that its owner has
/// withdrawn ends here, too.
const STALE: Duration = Duration::from_secs(3600);

/// The age from which keys are not used even if they cannot be fetched.
const EXPIRED: Duration = Duration::from_secs(24 * 3600);

/// The least time between a fetch for an unknown key and the next fetch. Anyone can send a token
/// with an unknown key ID.
const INTERVAL: Duration = Duration::from_secs(30);

/// The least time between a failed fetch and the next one.
const RETRY: Duration = Duration::from_secs(5);

/// The most requests that wait for a fetch. Anyone can make a request wait.
const MOST_WAITING: usize = 64;

/// The keys that verify the tokens of one signer.
#[derive(Debug)]
pub struct Keys(Inner);

#[derive(Debug)]
enum Inner {
    Inline(KeySet),
    Fetched(Arc<Fetched>, Box<dyn KeySource>),
}

/// A cache of fetched keys. Clones share it. A request that needs keys fetches them.
#[derive(Clone, Debug, Default)]
pub struct SharedKeys(Arc<Fetched>);

impl SharedKeys {
    /// Returns the cache with the source from which this request fetches: not within 30 seconds
    /// after a fetch for an unknown key, or 5 seconds after a failure.
    pub fn fetched_from(&self, source: impl KeySource) -> Keys {
        Keys(Inner::Fetched(Arc::clone(&self.0), Box::new(source)))
    }
}

#[derive(Debug)]
struct Fetched {
    cached: Mutex<Option<Cached>>,
    /// The time of the next fetch. One request fetches, the others wait for it.
    next_fetch: tokio::sync::Mutex<Option<Instant>>,
    waiting: Semaphore,
}

impl Default for Fetched {
    fn default() -> Self {
        Self {
            cached: Mutex::default(),
            next_fetch: tokio::sync::Mutex::default(),
            waiting: Semaphore::new(MOST_WAITING),
        }
    }
}

#[derive(Clone, Debug)]
struct Cached {
    keys: KeySet,
    /// The time at which the fetch began. A key that is newer may be missing.
    fetched: Instant,
}

/// The keys that may have made a signature.
pub(super) struct Candidates {
    pub(super) keys: Vec<DecodingKey>,
    /// The time at which they were fetched; `None` if they never change.
    fetched: Option<Instant>,
}

/// The result of a search for keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoKey {
    /// The signer has no such key: its keys were fetched for this search.
    Unknown,
    /// The keys could not be fetched, or not again so soon. The same search may succeed later.
    Unavailable,
}

impl Keys {
    /// Returns the keys at the `jwks_uri` in the discovery document of `issuer`.
    ///
    /// # Errors
    ///
    /// If the root certificates of the platform cannot be loaded.
    pub fn discovered(issuer: Issuer) -> io::Result<Self> {
        Provider::discovered(issuer).map(Self::from_source)
    }

    /// Returns the keys at a `jwks_uri` that the operator configured. Strangers must not be able to
    /// choose the URL: it may lead to any address.
    ///
    /// # Errors
    ///
    /// If the root certificates of the platform cannot be loaded.
    pub fn at(jwks_uri: Url) -> io::Result<Self> {
        Provider::at(jwks_uri).map(Self::from_source)
    }

    /// Returns keys that `source` fetches: not within 30 seconds after a fetch for an unknown key,
    /// or 5 seconds after a failure.
    pub fn from_source(source: impl KeySource) -> Self {
        SharedKeys::default().fetched_from(source)
    }

    /// Returns the keys that may have made a signature with this algorithm and key ID.
    pub(super) async fn find(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Candidates, NoKey> {
        match &self.0 {
            Inner::Inline(set) => {
                let keys = non_empty(set.find(kid, algorithm)).ok_or(NoKey::Unknown)?;
                let fetched = None;
                Ok(Candidates { keys, fetched })
            }
            Inner::Fetched(fetched, source) => fetched.find(&**source, kid, algorithm, None).await,
        }
    }

    /// Returns keys that were fetched after `tried`, for a signature without a key ID that no key
    /// in `tried` verifies: the signer may have replaced its keys.
    pub(super) async fn find_newer(
        &self,
        tried: &Candidates,
        algorithm: Algorithm,
    ) -> Result<Candidates, NoKey> {
        match &self.0 {
            Inner::Inline(_) => Err(NoKey::Unknown),
            Inner::Fetched(fetched, source) => {
                let found = fetched.find(&**source, None, algorithm, tried.fetched);
                found.await
            }
        }
    }
}

/// Keys that never change: the value of `jwks` in client metadata (RFC 7591 §2).
impl From<KeySet> for Keys {
    fn from(keys: KeySet) -> Self {
        Self(Inner::Inline(keys))
    }
}

impl Fetched {
    /// Returns the matching keys. With `tried`, only keys that were fetched later.
    async fn find(
        &self,
        source: &dyn KeySource,
        kid: Option<&str>,
        algorithm: Algorithm,
        tried: Option<Instant>,
    ) -> Result<Candidates, NoKey> {
        let began = Instant::now();
        let is_new = |found: &Candidates| tried.is_none() || found.fetched > tried;
        let cached = |age| self.cached(kid, algorithm, age).filter(is_new);
        if let Some(found) = cached(STALE) {
            return Ok(found);
        }
        let Ok(_waiting) = self.waiting.try_acquire() else {
            return Err(NoKey::Unavailable);
        };
        let mut next_fetch = self.next_fetch.lock().await;
        // Another request may have fetched them while this one waited.
        if let Some(found) = cached(STALE) {
            return Ok(found);
        }
        if next_fetch.is_none_or(|next| next <= Instant::now()) && source.may_fetch() {
            let is_search = self.fetched().is_some_and(|at| at.elapsed() < STALE);
            let fetched = Instant::now();
            let pause = match source.fetch().await {
                Some(keys) => {
                    *self.lock() = Some(Cached { keys, fetched });
                    // The signer may replace its keys right after a fetch that had to be made
                    // anyway.
                    is_search.then_some(INTERVAL)
                }
                None => Some(RETRY),
            };
            *next_fetch = pause.map(|pause| Instant::now() + pause);
        }
        drop(next_fetch);
        // Keys from before this search do not say that the signer has no such key.
        let none = if self.fetched() >= Some(began) {
            NoKey::Unknown
        } else {
            NoKey::Unavailable
        };
        cached(EXPIRED).ok_or(none)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Cached>> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the time at which the cached keys were fetched.
    fn fetched(&self) -> Option<Instant> {
        self.lock().as_ref().map(|set| set.fetched)
    }

    /// Returns the cached keys that match, if there are any and they are younger than `age`.
    fn cached(&self, kid: Option<&str>, algorithm: Algorithm, age: Duration) -> Option<Candidates> {
        let set = self.lock().clone()?;
        if set.fetched.elapsed() >= age {
            return None;
        }
        let keys = non_empty(set.keys.find(kid, algorithm))?;
        let fetched = Some(set.fetched);
        Some(Candidates { keys, fetched })
    }
}

fn non_empty(keys: Vec<DecodingKey>) -> Option<Vec<DecodingKey>> {
    (!keys.is_empty()).then_some(keys)
}

#[cfg(test)]
mod tests;
