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
mod tests {
    use serde_json::json;
    use test_support::openid::{EC, OpenId};
    use tokio::task::JoinSet;
    use tokio::time::{advance, pause, resume};

    use super::*;
    use crate::jose::{Jwt, JwtError};

    /// The modulus of an RSA key of 1024 bits, and a token with its signature.
    const SHORT_MODULUS: &str = "zi20hhqsDVkeLbeOfYYRckl8XVhimcHebyck3ZGp8_id27Bap6pz8Yogrj1lvOrwoNthxjBvKjTCApNzHMjzbEYoWuWr4Qvs4Uqnxd943Qp9DDFX1XTmoo6uEpFHcS_MUHIwNj22DAGy0fkkep4qzGRnctz3gisjwWoiDmpdU9M";
    const SIGNED_BY_SHORT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhZGEifQ.mGmuZnfsA-rZ60rHbkiM5bAbv3dKFS2oR3j8oMmPJt-y651mXrvQnBjnOdZ8gDcttkdojrOPF4Zd0OlovN7iWPqr27XczjI5c6yPI4tbWohganpIuh5dgy-UzUQkMT01sfgbDN5sULsQlk4onJ5-2iGCJa_9QVhr4MIos5xtJD8";

    async fn provider() -> (OpenId, Keys) {
        let provider = OpenId::start().await;
        let keys = Keys::discovered(provider.issuer().parse().unwrap()).unwrap();
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
            keys.map(|found| found.keys.len())
        }
    }

    #[tokio::test]
    async fn the_document_may_be_that_of_an_authorization_server() {
        let provider = OpenId::start().await;
        provider.publish_at("/.well-known/oauth-authorization-server");
        let keys = Keys::discovered(provider.issuer().parse().unwrap()).unwrap();
        assert_eq!(keys.count(EC).await, Ok(1));
    }

    #[tokio::test]
    async fn unknown_keys_do_not_make_the_server_fetch_without_a_limit() {
        let (provider, keys) = provider().await;
        assert_eq!(keys.count(EC).await, Ok(1));
        // Right after the fetch.
        provider.rotate("new");
        assert_eq!(keys.count("new").await, Ok(1));
        assert_eq!(provider.fetched(), 2);
        for _ in 0..10 {
            assert_eq!(keys.count("unknown").await, Err(NoKey::Unavailable));
        }
        assert_eq!(keys.count("new").await, Ok(1));
        assert_eq!(provider.fetched(), 2);
        pass(INTERVAL).await;
        assert_eq!(keys.count("unknown").await, Err(NoKey::Unknown));
        assert_eq!(keys.count(EC).await, Err(NoKey::Unavailable));
        assert_eq!(provider.fetched(), 3);
    }

    #[tokio::test]
    async fn requests_at_the_same_time_share_one_fetch() {
        let (provider, keys) = provider().await;
        let keys = Arc::new(keys);
        let mut searches = JoinSet::new();
        for _ in 0..20 {
            let keys = Arc::clone(&keys);
            searches.spawn(async move { keys.count(EC).await });
        }
        assert_eq!(searches.join_all().await, vec![Ok(1); 20]);
        assert_eq!(provider.fetched(), 1);
    }

    #[tokio::test]
    async fn an_unknown_key_is_not_refused_for_good_while_keys_cannot_be_fetched() {
        let (provider, keys) = provider().await;
        assert_eq!(keys.count(EC).await, Ok(1));
        provider.fail(true);
        assert_eq!(keys.count("new").await, Err(NoKey::Unavailable));
        provider.fail(false);
        provider.rotate("new");
        pass(RETRY).await;
        assert_eq!(keys.count("new").await, Ok(1));
    }

    #[tokio::test]
    async fn a_failed_signature_without_a_key_id_causes_a_fetch_after_the_pause() {
        let (provider, keys) = provider().await;
        let verifies = async |token: &str| Jwt::parse(token).unwrap().verify(&keys).await;
        let sign = |provider: &OpenId| provider.sign_unnamed(&provider.logout("ada"));
        let stranger = sign(&OpenId::start().await);
        let old = sign(&provider);
        assert!(verifies(&old).await.is_ok());
        provider.rotate("new");
        let new = sign(&provider);
        assert!(verifies(&new).await.is_ok());
        for token in [&old, &stranger] {
            assert_eq!(verifies(token).await, Err(JwtError::KeysUnavailable));
        }
        assert_eq!(provider.fetched(), 2);
        pass(INTERVAL).await;
        assert_eq!(verifies(&stranger).await, Err(JwtError::Signature));
        assert!(verifies(&new).await.is_ok());
        assert_eq!(provider.fetched(), 3);
        // With a known key ID, a wrong signature causes no fetch.
        pass(INTERVAL).await;
        let mut forged = provider.sign(&provider.logout("ada"));
        let signature = forged.rfind('.').unwrap();
        forged.replace_range(signature.., &stranger[stranger.rfind('.').unwrap()..]);
        assert_eq!(verifies(&forged).await, Err(JwtError::Signature));
        assert_eq!(provider.fetched(), 3);
        provider.fail(true);
        assert_eq!(verifies(&stranger).await, Err(JwtError::KeysUnavailable));
        assert!(verifies(&new).await.is_ok());
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

    #[tokio::test]
    async fn a_signature_is_tried_with_few_keys() {
        let provider = OpenId::start().await;
        let document = test_support::http::get(&format!("{}/jwks", provider.issuer())).await;
        let document = document.json();
        let keys = document["keys"].as_array().unwrap();
        let key = keys.iter().find(|key| key["kid"] == EC).unwrap();
        let set = json!({ "keys": vec![key; 50] });
        let keys = Keys::from(serde_json::from_value::<KeySet>(set).unwrap());
        let found = keys.find(None, Algorithm::ES256).await.unwrap();
        assert_eq!(found.keys.len(), 8);
    }

    #[tokio::test]
    async fn a_key_may_be_published_twice_and_beside_unknown_ones() {
        let provider = OpenId::start().await;
        let document = test_support::http::get(&format!("{}/jwks", provider.issuer())).await;
        let document = document.json();
        let keys = document["keys"].as_array().unwrap();
        let key = keys.iter().find(|key| key["kid"] == EC).unwrap();
        let set = json!({ "keys": [
            null,
            { "kty": "AKP", "kid": EC, "alg": "ML-DSA-44", "pub": "AQAB" },
            { "kty": "EC", "kid": EC, "crv": "P-256", "x": "AQAB", "y": "AQAB" },
            key,
            key,
        ] });
        let keys = Keys::from(serde_json::from_value::<KeySet>(set).unwrap());
        let claims = provider.logout("ada");
        for token in [provider.sign(&claims), provider.sign_unnamed(&claims)] {
            let verified = Jwt::parse(&token).unwrap().verify(&keys).await;
            assert_eq!(verified, Ok(claims.clone()));
        }
    }

    #[tokio::test]
    async fn an_rsa_key_of_less_than_2048_bits_verifies_nothing() {
        let key = json!({ "kty": "RSA", "alg": "RS256", "n": SHORT_MODULUS, "e": "AQAB" });
        let set = serde_json::from_value::<KeySet>(json!({ "keys": [key] })).unwrap();
        let verified = Jwt::parse(SIGNED_BY_SHORT).unwrap();
        let verified = verified.verify(&Keys::from(set)).await;
        assert_eq!(verified, Err(JwtError::Signature));
    }

    #[tokio::test]
    async fn keys_come_from_a_url_or_from_a_document() {
        let provider = OpenId::start().await;
        let url: Url = format!("{}/jwks", provider.issuer()).parse().unwrap();
        let keys = Keys::at(url.clone()).unwrap();
        assert_eq!(keys.count(EC).await, Ok(1));
        let document = test_support::http::get(url.as_str()).await.body;
        let inline = Keys::from(serde_json::from_slice::<KeySet>(&document).unwrap());
        assert_eq!(inline.count(EC).await, Ok(1));
        assert_eq!(inline.count("new").await, Err(NoKey::Unknown));
        assert_eq!(provider.fetched(), 2);
    }
}
