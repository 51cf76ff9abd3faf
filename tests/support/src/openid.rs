//! An OpenID provider: issues tokens, publishes its keys, and signs logout tokens.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::KeyPair;
use serde_json::{Map, Value, json};

use super::http::serve;

/// The ID of the key for RS256.
pub const RSA: &str = "rsa";

/// The ID of the key for ES256.
pub const EC: &str = "ec";

/// A key that only tests use, and its modulus.
pub const RSA_KEY: &[u8] = include_bytes!("openid.der");
pub const RSA_MODULUS: &str = "rz32tD2ZKPK9_lmjrKuKFISj0HsbtauyicE9Ue3evVXRn--uIiL768Lbuz7lquH5Ity0fefHKGg_Za5LDFXu5ZnPTWx7YnlrDJs-56yviblXBVesvHJ_FXNBJMrvHuPvEmmtEQV6ll0kldD48Iyp24v3b6lEIW0vw7gS1rTe0o6v74IzOOpxxTxifgadeg37vqLL6xjAQ3pWuMS6PAmXUvTvcXfQKGle-rB17HTZLt5dAstfP0-LH43yeqYlJ7T0dIKBc75zTIT6nmO3Niqtewltm-bgbPxqMfH88IMDNdbNuKfz12X60TfsA7472QcUiZSO3wpKChBbT6ugilm7ZQ";

/// The event that makes a JWT a logout token.
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// The provider. Clones are the same provider.
#[derive(Clone, Debug)]
pub struct OpenId {
    pub addr: SocketAddr,
    state: Arc<Mutex<Keys>>,
}

#[derive(Debug)]
struct Keys {
    pair: KeyPair,
    kid: String,
    issued: usize,
    fetched: usize,
    issuer: Option<String>,
    /// The path of the discovery document.
    path: String,
    fail: bool,
    /// The keys that are published instead of the current ones.
    frozen: Option<Value>,
}

impl Keys {
    /// Returns the key set.
    fn document(&self) -> Value {
        let point = self.pair.public_key_raw();
        let (x, y) = point[1..].split_at(32);
        json!({ "keys": [
            { "kty": "RSA", "kid": "encryption", "use": "enc", "alg": "RSA-OAEP-384", "n": "AQAB", "e": "AQAB" },
            { "kty": "RSA", "kid": RSA, "use": "sig", "alg": "RS256", "n": RSA_MODULUS, "e": "AQAB" },
            {
                "kty": "EC",
                "kid": self.kid,
                "crv": "P-256",
                "x": URL_SAFE_NO_PAD.encode(x),
                "y": URL_SAFE_NO_PAD.encode(y),
            },
        ] })
    }
}

type Shared = State<Arc<Mutex<Keys>>>;

impl OpenId {
    pub async fn start() -> Self {
        let state = Arc::new(Mutex::new(Keys {
            pair: KeyPair::generate().unwrap(),
            kid: EC.into(),
            issued: 0,
            fetched: 0,
            issuer: None,
            path: "/.well-known/openid-configuration".into(),
            fail: false,
            frozen: None,
        }));
        let router = Router::new()
            .route("/token", post(token))
            .route("/jwks", get(jwks))
            .fallback(get(discovery))
            .with_state(Arc::clone(&state));
        let addr = serve(router).await;
        let provider = Self { addr, state };
        let issuer = provider.issuer();
        provider.state.lock().unwrap().issuer = Some(issuer);
        provider
    }

    pub fn issuer(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Returns how often the keys were fetched.
    pub fn fetched(&self) -> usize {
        self.state.lock().unwrap().fetched
    }

    /// Replaces the key for ES256 with a new one, with another ID.
    pub fn rotate(&self, kid: &str) {
        let mut keys = self.state.lock().unwrap();
        keys.pair = KeyPair::generate().unwrap();
        keys.kid = kid.into();
    }

    /// Publishes the current keys from now on, also after they were replaced, or no longer.
    pub fn freeze_keys(&self, freeze: bool) {
        let mut keys = self.state.lock().unwrap();
        keys.frozen = freeze.then(|| keys.document());
    }

    /// Publishes this issuer in the discovery document.
    pub fn pretend(&self, issuer: &str) {
        self.state.lock().unwrap().issuer = Some(issuer.into());
    }

    /// Publishes the discovery document at this path only.
    pub fn publish_at(&self, path: &str) {
        self.state.lock().unwrap().path = path.into();
    }

    /// Answers with status 500 from now on, or no longer.
    pub fn fail(&self, fail: bool) {
        self.state.lock().unwrap().fail = fail;
    }

    /// Returns the claims of a valid logout token for the client `app`.
    pub fn logout(&self, sub: &str) -> Map<String, Value> {
        let now = now();
        let mut id = [0; 16];
        getrandom::fill(&mut id).unwrap();
        let claims = json!({
            "iss": self.issuer(),
            "aud": "app",
            "sub": sub,
            "iat": now,
            "exp": now + 120,
            "jti": URL_SAFE_NO_PAD.encode(id),
            "events": { EVENT: {} },
        });
        let Value::Object(claims) = claims else {
            unreachable!()
        };
        claims
    }

    /// Signs claims with the key for ES256, as a logout token.
    pub fn sign(&self, claims: &Map<String, Value>) -> String {
        self.sign_as("logout+jwt", claims)
    }

    /// Signs claims with the key for ES256. `typ` is the type of the token, if it has one.
    pub fn sign_as<'a>(
        &self,
        typ: impl Into<Option<&'a str>>,
        claims: &Map<String, Value>,
    ) -> String {
        let kid = self.state.lock().unwrap().kid.clone();
        self.sign_with(typ.into(), Some(kid), claims)
    }

    /// Signs claims with the key for ES256, as a logout token that does not name its key.
    pub fn sign_unnamed(&self, claims: &Map<String, Value>) -> String {
        self.sign_with(Some("logout+jwt"), None, claims)
    }

    fn sign_with(
        &self,
        typ: Option<&str>,
        kid: Option<String>,
        claims: &Map<String, Value>,
    ) -> String {
        let keys = self.state.lock().unwrap();
        let key = EncodingKey::from_ec_der(&keys.pair.serialize_der());
        let header = Header {
            typ: typ.map(str::to_owned),
            kid,
            ..Header::new(Algorithm::ES256)
        };
        encode(&header, claims, &key).unwrap()
    }

    /// Returns a logout token for the client `app`.
    pub fn logout_token(&self, sub: &str) -> String {
        self.sign(&self.logout(sub))
    }

    /// Returns an `id_token` for the client `app`, without a valid signature: it comes straight
    /// from the provider. The user `ada/1` is `ada`, in the session `1`.
    pub fn id_token(&self, user: &str) -> String {
        self.id_token_for("app", user)
    }

    /// Returns the same for another client.
    pub fn id_token_for(&self, client: &str, user: &str) -> String {
        let (sub, sid) = match user.split_once('/') {
            Some((sub, sid)) => (sub, Some(sid)),
            None => (user, None),
        };
        let mut claims = json!({ "iss": self.issuer(), "aud": client, "sub": sub, "exp": now() + 60, "iat": now() });
        if let Some(sid) = sid {
            claims["sid"] = sid.into();
        }
        let encoded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({ "alg": "ES256", "kid": EC });
        format!("{}.{}.c2lnbmF0dXJl", encoded(&header), encoded(&claims))
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// Returns the header of a logout token.
pub fn header(algorithm: Algorithm, kid: &str) -> Header {
    Header {
        typ: Some("logout+jwt".into()),
        kid: Some(kid.into()),
        ..Header::new(algorithm)
    }
}

/// Signs claims with the RSA key of every provider.
pub fn sign_rsa(algorithm: Algorithm, claims: &Map<String, Value>) -> String {
    let key = EncodingKey::from_rsa_der(RSA_KEY);
    encode(&header(algorithm, RSA), claims, &key).unwrap()
}

/// Signs claims with a secret that an attacker can know: the public RSA key.
pub fn sign_hmac(claims: &Map<String, Value>) -> String {
    let key = EncodingKey::from_secret(RSA_MODULUS.as_bytes());
    encode(&header(Algorithm::HS256, RSA), claims, &key).unwrap()
}

/// The code is the user. Refreshes always succeed.
async fn token(State(keys): Shared, Form(form): Form<Vec<(String, String)>>) -> Response {
    let one = |name: &str| form.iter().find(|(key, _)| key == name);
    let (number, issuer) = {
        let mut keys = keys.lock().unwrap();
        keys.issued += 1;
        (keys.issued, keys.issuer.clone().unwrap())
    };
    let mut answer = json!({
        "access_token": format!("openid-access-{number}"),
        "token_type": "Bearer",
        "expires_in": 3600,
        "refresh_token": format!("openid-refresh-{number}"),
        "scope": "openid read",
    });
    if let Some((_, code)) = one("code") {
        let addr = issuer.trim_start_matches("http://").parse().unwrap();
        answer["id_token"] = OpenId { addr, state: keys }.id_token(code).into();
    }
    Json(answer).into_response()
}

async fn discovery(State(keys): Shared, uri: Uri, headers: HeaderMap) -> Response {
    let keys = keys.lock().unwrap();
    if uri.path() != keys.path {
        return StatusCode::NOT_FOUND.into_response();
    }
    if keys.fail {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let issuer = keys.issuer.clone().unwrap();
    let jwks = format!("http://{}/jwks", headers["host"].to_str().unwrap());
    Json(json!({ "issuer": issuer, "jwks_uri": jwks })).into_response()
}

async fn jwks(State(keys): Shared) -> Response {
    let mut keys = keys.lock().unwrap();
    keys.fetched += 1;
    let document = keys.frozen.clone();
    Json(document.unwrap_or_else(|| keys.document())).into_response()
}
