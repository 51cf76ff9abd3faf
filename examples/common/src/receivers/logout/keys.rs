//! The keys of the provider.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use url::Url;

use super::fetch::{FetchError, Fetcher};
use super::issuer::Issuer;
use crate::causes::causes;

/// The age from which keys are fetched again before they are used, so that a key that the provider
/// has withdrawn ends here, too.
const STALE: Duration = Duration::from_secs(3600);

/// The age from which keys are not used even if the provider cannot be reached.
const EXPIRED: Duration = Duration::from_secs(24 * 3600);

/// The least time between two fetches. Anyone can send a token with an unknown key ID.
const INTERVAL: Duration = Duration::from_secs(30);

/// The least time between a failed fetch and the next one.
const RETRY: Duration = Duration::from_secs(5);

/// The time limit for a fetch.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The most requests that wait for a fetch. Anyone can make a request wait.
const MOST_WAITING: usize = 64;

/// The most keys that are used.
const MOST_KEYS: usize = 64;

/// The provider's keys, cached.
#[derive(Debug)]
pub(super) struct Keys {
    issuer: Issuer,
    fetcher: Fetcher,
    cached: Mutex<Option<KeySet>>,
    /// The time of the next fetch. One request fetches, the others wait for it.
    next_fetch: tokio::sync::Mutex<Option<Instant>>,
    waiting: Semaphore,
}

#[derive(Clone, Debug)]
struct KeySet {
    keys: Arc<[Jwk]>,
    fetched: Instant,
}

/// The result of a search for keys.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// The provider has no such key.
    Unknown,
    /// The keys could not be fetched.
    Unavailable,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: Url,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl Keys {
    pub(super) fn new(issuer: Issuer) -> io::Result<Self> {
        Ok(Self {
            fetcher: Fetcher::new(issuer.is_https())?,
            issuer,
            cached: Mutex::default(),
            next_fetch: tokio::sync::Mutex::default(),
            waiting: Semaphore::new(MOST_WAITING),
        })
    }

    /// Returns the keys that may have made a signature with this algorithm and key ID.
    pub(super) async fn find(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Vec<DecodingKey>, NoKey> {
        if let Some(keys) = self.cached(kid, algorithm, STALE) {
            return Ok(keys);
        }
        let Ok(_waiting) = self.waiting.try_acquire() else {
            return Err(NoKey::Unavailable);
        };
        let mut next_fetch = self.next_fetch.lock().await;
        if next_fetch.is_none_or(|next| next <= Instant::now()) {
            let fetched = timeout(TIMEOUT, self.fetch()).await;
            let wait = match fetched.unwrap_or_else(|elapsed| Err(elapsed.into())) {
                Ok(keys) => {
                    *self.lock() = Some(KeySet {
                        keys,
                        fetched: Instant::now(),
                    });
                    INTERVAL
                }
                Err(error) => {
                    tracing::warn!(
                        issuer = %self.issuer,
                        error = causes(&error),
                        "cannot fetch the keys of the identity provider: logout tokens are refused unless an earlier key verifies them"
                    );
                    RETRY
                }
            };
            *next_fetch = Some(Instant::now() + wait);
        }
        drop(next_fetch);
        let is_fresh = |set: &KeySet| set.fetched.elapsed() < STALE;
        let none = if self.lock().as_ref().is_some_and(is_fresh) {
            NoKey::Unknown
        } else {
            NoKey::Unavailable
        };
        self.cached(kid, algorithm, EXPIRED).ok_or(none)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<KeySet>> {
        self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the cached keys that match, if there are any and they are younger than `age`.
    fn cached(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
        age: Duration,
    ) -> Option<Vec<DecodingKey>> {
        let set = self.lock().clone()?;
        if set.fetched.elapsed() >= age {
            return None;
        }
        let keys = set.keys.iter().filter(|key| is_for(key, kid, algorithm));
        let keys: Vec<_> = keys
            .filter_map(|key| DecodingKey::from_jwk(key).ok())
            .collect();
        (!keys.is_empty()).then_some(keys)
    }

    async fn fetch(&self) -> Result<Arc<[Jwk]>, FetchError> {
        let document = self.issuer.discovery_document();
        let discovery: Discovery = self.fetcher.get(&document).await?;
        if discovery.issuer != self.issuer.as_str() {
            return Err(FetchError::OtherIssuer);
        }
        if !self.issuer.trusts(&discovery.jwks_uri) {
            return Err(FetchError::KeysUrl);
        }
        let document: Document = self.fetcher.get(discovery.jwks_uri.as_str()).await?;
        // A key of an unknown type does not concern the others.
        let keys = document.keys.into_iter().take(MOST_KEYS);
        Ok(keys
            .filter_map(|key| serde_json::from_value(key).ok())
            .collect())
    }
}

/// Returns whether `key` may have made a signature with this algorithm and key ID. The key decides
/// what it is for: a key of another type never verifies a signature.
fn is_for(key: &Jwk, kid: Option<&str>, algorithm: Algorithm) -> bool {
    let common = &key.common;
    let fits = match (&key.algorithm, algorithm) {
        (
            AlgorithmParameters::RSA(_),
            Algorithm::RS256
            | Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS256
            | Algorithm::PS384
            | Algorithm::PS512,
        ) => true,
        (AlgorithmParameters::EllipticCurve(key), Algorithm::ES256) => {
            key.curve == EllipticCurve::P256
        }
        (AlgorithmParameters::EllipticCurve(key), Algorithm::ES384) => {
            key.curve == EllipticCurve::P384
        }
        (AlgorithmParameters::OctetKeyPair(key), Algorithm::EdDSA) => {
            key.curve == EllipticCurve::Ed25519
        }
        _ => false,
    };
    let named = common.key_algorithm.map(|name| name.to_string());
    fits && kid.is_none_or(|kid| common.key_id.as_deref() == Some(kid))
        && named.is_none_or(|name| name == format!("{algorithm:?}"))
        && !matches!(common.public_key_use, Some(PublicKeyUse::Encryption))
}

#[cfg(test)]
mod tests {
    use test_support::openid::{EC, OpenId};
    use tokio::time::{advance, pause, resume};

    use super::*;

    async fn provider() -> (OpenId, Keys) {
        let provider = OpenId::start().await;
        let keys = Keys::new(provider.issuer().parse().unwrap()).unwrap();
        (provider, keys)
    }

    /// Lets time pass while nothing waits for the network.
    async fn pass(time: Duration) {
        pause();
        advance(time).await;
        resume();
    }

    impl Keys {
        async fn count(&self, kid: &str) -> Result<usize, NoKey> {
            let keys = self.find(Some(kid), Algorithm::ES256).await;
            keys.map(|keys| keys.len())
        }
    }

    #[tokio::test]
    async fn unknown_keys_do_not_make_the_server_fetch_without_a_limit() {
        let (provider, keys) = provider().await;
        assert_eq!(keys.count(EC).await, Ok(1));
        provider.rotate("new");
        for _ in 0..10 {
            assert_eq!(keys.count("new").await, Err(NoKey::Unknown));
        }
        assert_eq!(provider.fetched(), 1);
        pass(INTERVAL).await;
        assert_eq!(keys.count("new").await, Ok(1));
        assert_eq!(keys.count(EC).await, Err(NoKey::Unknown));
        assert_eq!(provider.fetched(), 2);
    }

    #[tokio::test]
    async fn a_withdrawn_key_is_not_used_for_longer_than_an_hour() {
        let (provider, keys) = provider().await;
        assert_eq!(keys.count(EC).await, Ok(1));
        provider.rotate("new");
        pass(STALE / 2).await;
        assert_eq!(keys.count(EC).await, Ok(1));
        pass(STALE).await;
        assert_eq!(keys.count(EC).await, Err(NoKey::Unknown));
    }

    #[tokio::test]
    async fn keys_are_used_for_a_day_while_the_provider_is_unavailable() {
        let (provider, keys) = provider().await;
        assert_eq!(keys.count(EC).await, Ok(1));
        provider.fail(true);
        pass(EXPIRED / 2).await;
        assert_eq!(keys.count(EC).await, Ok(1));
        assert_eq!(keys.count("new").await, Err(NoKey::Unavailable));
        pass(EXPIRED).await;
        assert_eq!(keys.count(EC).await, Err(NoKey::Unavailable));
        provider.fail(false);
        pass(RETRY).await;
        assert_eq!(keys.count(EC).await, Ok(1));
    }

    #[tokio::test]
    async fn a_key_is_for_its_own_algorithm_only() {
        let (_provider, keys) = provider().await;
        for (kid, algorithm, found) in [
            (Some("ec"), Algorithm::ES256, true),
            (None, Algorithm::ES256, true),
            (Some("rsa"), Algorithm::RS256, true),
            (Some("rsa"), Algorithm::PS256, false),
            (Some("rsa"), Algorithm::ES256, false),
            (Some("ec"), Algorithm::ES384, false),
            (Some("ec"), Algorithm::HS256, false),
            (Some("encryption"), Algorithm::RS256, false),
            (Some("ec"), Algorithm::EdDSA, false),
        ] {
            let keys = keys.find(kid, algorithm).await;
            assert_eq!(keys.is_ok(), found, "{kid:?} {algorithm:?}");
        }
    }
}
