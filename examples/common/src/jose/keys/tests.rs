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
