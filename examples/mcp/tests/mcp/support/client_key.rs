//! Keys of clients that sign assertions, and a server for such clients. The JWTs are written here
//! with `ring` alone, and not with the library with which the server reads them.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::{Value, json};
use test_support::http::{Answer, post};
use test_support::openid::{RSA_KEY, RSA_MODULUS};
use test_support::process::Example;

use super::documents::{DocumentHost, answer};
use super::identity::Identity;
use super::mcp::{self, Browser, VERIFIER, one, query, register};
use super::mcp_client::{REDIRECT, assert_error};

pub(crate) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A key for signatures, with its ID.
pub(crate) struct ClientKey {
    kid: &'static str,
    pair: Pair,
}

enum Pair {
    Ec(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl ClientKey {
    /// Generates a key for ES256.
    pub(crate) fn ec(kid: &'static str) -> Self {
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
        let pair = Pair::Ec(pair);
        Self { kid, pair }
    }

    /// Returns the key for RS256 that all tests share.
    pub(crate) fn rsa(kid: &'static str) -> Self {
        let pair = Pair::Rsa(RsaKeyPair::from_der(RSA_KEY).unwrap());
        Self { kid, pair }
    }

    const fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Ec(_) => "ES256",
            Pair::Rsa(_) => "RS256",
        }
    }

    /// Returns the public key.
    pub(crate) fn jwk(&self) -> Value {
        match &self.pair {
            Pair::Ec(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                let [x, y] = [x, y].map(|part| URL_SAFE_NO_PAD.encode(part));
                json!({ "kty": "EC", "kid": self.kid, "use": "sig", "crv": "P-256", "x": x, "y": y })
            }
            Pair::Rsa(_) => {
                json!({ "kty": "RSA", "kid": self.kid, "alg": "RS256", "n": RSA_MODULUS, "e": "AQAB" })
            }
        }
    }

    /// Returns a key set with this key only.
    pub(crate) fn jwks(&self) -> Value {
        json!({ "keys": [self.jwk()] })
    }

    /// Signs claims, with changes of the header.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let mut all = json!({ "alg": self.algorithm(), "kid": self.kid, "typ": "JWT" });
        merge(&mut all, header);
        let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", encoded(&all), encoded(claims));
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Ec(pair) => pair
                .sign(&random, message.as_bytes())
                .unwrap()
                .as_ref()
                .to_vec(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(
                    &RSA_PKCS1_SHA256,
                    &random,
                    message.as_bytes(),
                    &mut signature,
                )
                .unwrap();
                signature
            }
        };
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Returns a valid assertion with these changes of its claims.
    pub(crate) fn assertion(&self, server: &str, client_id: &str, changes: &Value) -> String {
        self.sign(&json!({}), &claims(server, client_id, changes))
    }
}

/// Changes members of an object; `null` removes them.
fn merge(object: &mut Value, changes: &Value) {
    let object = object.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        object.insert(name.clone(), value.clone());
    }
    object.retain(|_, value| !value.is_null());
}

/// Returns the claims of a valid assertion for a server, with changes; `null` removes a claim.
pub(crate) fn claims(server: &str, client_id: &str, changes: &Value) -> Value {
    let mut id = [0; 16];
    getrandom::fill(&mut id).unwrap();
    let mut claims = json!({
        "iss": client_id,
        "sub": client_id,
        "aud": server,
        "iat": now(),
        "exp": now() + 300,
        "jti": URL_SAFE_NO_PAD.encode(id),
    });
    merge(&mut claims, changes);
    claims
}

pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap().as_secs()
}

/// Sends a form with an assertion to an endpoint.
pub(crate) async fn post_signed(
    server: &Example,
    path: &str,
    assertion: &str,
    form: &[(&str, &str)],
) -> Answer {
    let credential = [
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", assertion),
    ];
    let form: Vec<_> = credential.into_iter().chain(form.iter().copied()).collect();
    post(&server.url(path), &form).await
}

/// Exchanges a code with an assertion.
pub(crate) async fn exchange(server: &Example, assertion: &str, code: &str) -> Answer {
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("code_verifier", VERIFIER),
    ];
    post_signed(server, "/token", assertion, &form).await
}

/// Refreshes with an assertion.
pub(crate) async fn refresh(server: &Example, assertion: &str, token: &str) -> Answer {
    let form = [("grant_type", "refresh_token"), ("refresh_token", token)];
    post_signed(server, "/token", assertion, &form).await
}

/// A server that trusts a host of documents, and an identity provider.
pub(crate) struct Site {
    pub(crate) host: DocumentHost,
    pub(crate) server: Example,
}

impl Site {
    pub(crate) async fn start() -> Self {
        let host = DocumentHost::start().await;
        let identity = Identity::start().await;
        let flags = identity.flags();
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        let server = host.mcp(&flags).await;
        Self { host, server }
    }

    /// Serves a document of a client with these keys at a `jwks_uri`. Returns its URL.
    pub(crate) fn document(&self, jwks: &Value, changes: &Value) -> String {
        let jwks = jwks.to_string();
        let headers = &[("content-type", "application/jwk-set+json")];
        let uri = self
            .host
            .serve("/jwks", move || answer(headers, jwks.clone()));
        let mut metadata = json!({
            "redirect_uris": [REDIRECT],
            "token_endpoint_auth_method": "private_key_jwt",
            "jwks_uri": uri,
        });
        for (name, value) in changes.as_object().unwrap() {
            metadata[name] = value.clone();
        }
        self.host.document("/client", &metadata, &[])
    }

    pub(crate) async fn code(&self, client_id: &str) -> String {
        code(&self.server, client_id).await
    }
}

pub(crate) async fn code(server: &Example, client_id: &str) -> String {
    let request = mcp::request(server, client_id, REDIRECT, &[]);
    let answer = query(&Browser::default().log_in(&request, REDIRECT).await);
    one(&answer, "code").unwrap().to_owned()
}

/// Registers a client with these keys. Returns its ID.
pub(crate) async fn register_with(server: &Example, jwks: &Value) -> String {
    let metadata = json!({
        "redirect_uris": [REDIRECT],
        "token_endpoint_auth_method": "private_key_jwt",
        "jwks": jwks,
    });
    let registered = register(server, &metadata).await;
    assert_eq!(registered["token_endpoint_auth_method"], "private_key_jwt");
    assert_eq!(registered["jwks"], *jwks);
    assert_eq!(registered.get("client_secret"), None);
    registered["client_id"].as_str().unwrap().to_owned()
}

/// Asserts that an assertion is refused with these words.
pub(crate) fn assert_refused(answer: &Answer, words: &str) {
    assert_error(answer, 401, "invalid_client", words);
    let description = answer.string("error_description");
    assert!(description.contains(words), "{words}: {description}");
}
