//! An identity provider with a table of behaviours: it does what the documentation of a provider
//! says. `identity` is for what all of them have in common.

mod behaviour;
mod endpoints;
mod userinfo;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use test_support::http::serve;
use test_support::openid::{OpenId, sign_hmac};

pub(crate) use self::behaviour::{Behaviour, Refresh, Revocation, Signature};
use self::endpoints::{authorize, discovery, revoke, token};
use self::userinfo::{emails, has_scope, userinfo};
use super::mcp::{Pairs, one};

pub(crate) const CLIENT: &str = "the server";
pub(crate) const SECRET: &str = "the secret of the server";

/// A request that the provider has received: its form or query, and its headers.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) form: Pairs,
    pub(crate) headers: HeaderMap,
}

#[derive(Debug)]
struct Inner {
    behaviour: Behaviour,
    openid: OpenId,
    issuer: String,
    /// Whether every request gets status 503.
    is_down: bool,
    /// The error of refreshes, with its status.
    refuse_refreshes: Option<(u16, Value)>,
    minted: usize,
    codes: HashMap<String, Pairs>,
    /// The authorization requests by refresh token.
    refresh: HashMap<String, Pairs>,
    /// The scopes by access token.
    access: HashMap<String, String>,
    received: Vec<Received>,
}

#[derive(Clone, Debug)]
pub(crate) struct Idp {
    addr: SocketAddr,
    inner: Arc<Mutex<Inner>>,
}

type Shared = State<Arc<Mutex<Inner>>>;

impl Idp {
    pub(crate) async fn start() -> Self {
        Self::with(Behaviour::default()).await
    }

    pub(crate) async fn with(behaviour: Behaviour) -> Self {
        let inner = Arc::new(Mutex::new(Inner {
            behaviour,
            openid: OpenId::start().await,
            issuer: String::new(),
            is_down: false,
            refuse_refreshes: None,
            minted: 0,
            codes: HashMap::new(),
            refresh: HashMap::new(),
            access: HashMap::new(),
            received: Vec::new(),
        }));
        let router = Router::new()
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .route("/revoke", post(revoke))
            .route("/userinfo", get(userinfo))
            .route("/userinfo/emails", get(emails))
            .fallback(get(discovery))
            .with_state(Arc::clone(&inner));
        let addr = serve(router).await;
        let idp = Self { addr, inner };
        let path = idp.lock().behaviour.path;
        idp.lock().issuer = format!("http://{addr}{path}");
        idp
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub(crate) fn issuer(&self) -> String {
        self.lock().issuer.clone()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Returns the flags of a server that reads the discovery document.
    pub(crate) fn flags(&self) -> Vec<String> {
        vec![
            format!("--issuer={}", self.issuer()),
            format!("--client-id={CLIENT}"),
            format!("--client-secret={SECRET}"),
        ]
    }

    /// Returns the flags of a server with a preset: if there is no discovery document, the
    /// endpoints replace those of the preset.
    pub(crate) fn preset_flags(&self) -> Vec<String> {
        if self.lock().behaviour.document.is_some() {
            return self.flags();
        }
        let mut endpoints = vec![
            ("authorization", "/authorize"),
            ("token", "/token"),
            ("userinfo", "/userinfo"),
        ];
        if self.lock().behaviour.revocation != Revocation::None {
            endpoints.push(("revocation", "/revoke"));
        }
        let endpoints = endpoints.iter();
        let mut flags: Vec<_> = endpoints
            .map(|(name, path)| format!("--{name}-endpoint={}", self.url(path)))
            .collect();
        flags.extend(self.flags().into_iter().skip(1));
        flags
    }

    /// Changes the behaviour.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.lock().behaviour);
    }

    /// Answers every request with status 503 from now on, or no longer.
    pub(crate) fn is_down(&self, is_down: bool) {
        self.lock().is_down = is_down;
    }

    /// Answers refreshes with this error from now on.
    pub(crate) fn refuse_refreshes(&self, status: u16, error: Value) {
        self.lock().refuse_refreshes = Some((status, error));
    }

    /// Signs with a new key from now on.
    pub(crate) fn rotate_key(&self, kid: &str) {
        self.lock().openid.rotate(kid);
    }

    /// Returns a logout token for a user.
    pub(crate) fn logout_token(&self, sub: &str) -> String {
        let inner = self.lock();
        let mut claims = inner.openid.logout(sub);
        claims.insert("iss".into(), inner.issuer.as_str().into());
        claims.insert("aud".into(), CLIENT.into());
        claims.insert("sid".into(), "a session".into());
        inner.openid.sign(&claims)
    }

    /// Returns the number of refresh tokens that are valid.
    pub(crate) fn authorizations(&self) -> usize {
        self.lock().refresh.len()
    }

    /// Returns the requests to a path so far.
    pub(crate) fn received(&self, path: &str) -> Vec<Received> {
        let all = &self.lock().received;
        let all = all.iter().filter(|received| received.path == path);
        all.cloned().collect()
    }

    /// Returns the last request to a path.
    pub(crate) fn last(&self, path: &str) -> Received {
        self.received(path).pop().expect("a request")
    }
}

impl Inner {
    /// Records a request. Returns the response if the provider is down.
    fn receive(&mut self, path: &str, text: &[u8], headers: &HeaderMap) -> Option<Response> {
        self.received.push(Received {
            path: path.to_owned(),
            form: url::form_urlencoded::parse(text).into_owned().collect(),
            headers: headers.clone(),
        });
        self.is_down
            .then(|| StatusCode::SERVICE_UNAVAILABLE.into_response())
    }

    fn mint(&mut self, kind: &str) -> String {
        self.minted += 1;
        format!("idp-{kind}-{}", self.minted)
    }

    fn answer(&self, headers: &HeaderMap, status: u16, answer: &Value) -> Response {
        let accepts_json = headers
            .get("accept")
            .is_some_and(|accept| accept.to_str().unwrap().contains("json"));
        if self.behaviour.forms && !accepts_json {
            return (StatusCode::OK, "access_token=x&token_type=bearer").into_response();
        }
        let status = if self.behaviour.errors_with_200 {
            200
        } else {
            status
        };
        let status = StatusCode::from_u16(status).unwrap();
        (status, answer.to_string()).into_response()
    }

    /// Returns a token response. `old` is the refresh token of the request, and `scope` its scope.
    fn tokens(&mut self, request: &Pairs, scope: Option<&str>, old: Option<&str>) -> Value {
        let behaviour = self.behaviour.clone();
        let first = old.is_none();
        let asked = scope.or(one(request, "scope")).unwrap_or_default();
        let access = self.mint("access");
        self.access.insert(access.clone(), asked.to_owned());
        let mut answer = json!({ "access_token": &access, "token_type": "bearer" });
        if let Some(scope) = (behaviour.scope)(asked) {
            answer["scope"] = scope.into();
        }
        if let Some(expires_in) = behaviour.expires_in {
            answer["expires_in"] = expires_in.into();
        }
        let has = |name, value| one(request, name) == Some(value);
        let refreshes = match behaviour.refresh {
            Refresh::Always => true,
            Refresh::Never => false,
            Refresh::OfflineAccess => asked.split(' ').any(|scope| scope == "offline_access"),
            Refresh::OfflineConsent => has("access_type", "offline") && has("prompt", "consent"),
        };
        if refreshes && (first || behaviour.rotates) {
            let refresh = self.mint("refresh");
            if let Some(old) = old {
                self.refresh.remove(old);
            }
            self.refresh.insert(refresh.clone(), request.clone());
            answer["refresh_token"] = refresh.into();
        }
        if let Some(expires_in) = behaviour.refresh_expires_in {
            answer["refresh_expires_in"] = expires_in.into();
        }
        let openid = has_scope(asked, "openid");
        if let Some(Value::Object(more)) = behaviour.id_token.filter(|_| openid) {
            let more = self.allowed(more, asked);
            let nonce = one(request, "nonce").filter(|_| first);
            answer["id_token"] = self.id_token(more, nonce, &access).into();
        }
        answer
    }

    /// Returns an ID token with these claims, which replace the usual ones. A claim that is `null`
    /// is left out.
    fn id_token(&self, more: Map<String, Value>, nonce: Option<&str>, access: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = now.as_secs();
        // The keys are of the kind ES256.
        let at_hash = URL_SAFE_NO_PAD.encode(&Sha256::digest(access)[..16]);
        let usual = json!({
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": "ada",
            "iat": now,
            "exp": now + 300,
            "nonce": nonce,
            "at_hash": at_hash,
        });
        let Value::Object(mut claims) = usual else {
            unreachable!()
        };
        claims.extend(more);
        claims.retain(|_, value| !value.is_null());
        let openid = &self.openid;
        match self.behaviour.signature {
            Signature::Valid => openid.sign_as("JWT", &claims),
            Signature::Forged => {
                let token = openid.sign_as("JWT", &claims);
                let (signed, signature) = token.rsplit_once('.').unwrap();
                format!("{signed}.{}", "A".repeat(signature.len()))
            }
            Signature::Missing => {
                let [header, claims] = [json!({ "alg": "none" }), Value::Object(claims)]
                    .map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
                format!("{header}.{claims}.")
            }
            Signature::Secret => sign_hmac(&claims),
            Signature::OfAccessToken => openid.sign_as("at+jwt", &claims),
        }
    }
}
