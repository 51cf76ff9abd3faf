//! An identity provider for tests of the example `mcp`. It is as strict as real ones: a refresh
//! token is valid once, and its reuse ends the session. It counts requests and can be told to fail.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use test_support::http::serve;
use url::Url;

use super::mcp::{PROVIDER_CLIENT, PROVIDER_SECRET, Pairs, one};

/// The properties of its token responses.
#[derive(Clone, Debug)]
pub(crate) struct Manners {
    pub(crate) rotates: bool,
    /// Whether refresh tokens are issued.
    pub(crate) refresh_tokens: bool,
    pub(crate) expires_in: Option<Value>,
    /// The lifetimes of the refresh token and of the authorization, beside each refresh token.
    pub(crate) lifetimes: &'static [(&'static str, u64)],
    /// Whether responses to refreshes contain the scope.
    pub(crate) repeats_scope: bool,
    /// The scope that responses name instead of the requested one.
    pub(crate) scope: Option<&'static str>,
    pub(crate) token_type: &'static str,
    pub(crate) client_secret_post: bool,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            rotates: true,
            refresh_tokens: true,
            expires_in: Some(json!(3600)),
            lifetimes: &[],
            repeats_scope: true,
            scope: None,
            token_type: "Bearer",
            client_secret_post: false,
        }
    }
}

/// The number of requests by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) exchanged: usize,
    pub(crate) refreshed: usize,
    pub(crate) revoked: usize,
    /// Sessions that ended because a refresh token was reused.
    pub(crate) reused: usize,
}

#[derive(Debug, Default)]
struct Inner {
    manners: Manners,
    counts: Counts,
    minted: usize,
    codes: HashMap<String, Pairs>,
    /// The session and the scope of each refresh token.
    refresh: HashMap<String, (usize, String)>,
    spent: HashMap<String, usize>,
    /// The session and the scope of each access token.
    access: HashMap<String, (usize, String)>,
    ended: HashSet<usize>,
    /// Responses by path that replace the correct ones.
    instead: HashMap<&'static str, (StatusCode, String)>,
    /// All secrets that were issued.
    secrets: Vec<String>,
    /// The forms of the token and revocation requests.
    forms: Vec<Pairs>,
}

#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) addr: SocketAddr,
    inner: Arc<Mutex<Inner>>,
}

impl Identity {
    pub(crate) async fn start() -> Self {
        Self::with(Manners::default()).await
    }

    pub(crate) async fn with(manners: Manners) -> Self {
        let inner = Arc::new(Mutex::new(Inner {
            manners,
            ..Inner::default()
        }));
        let router = Router::new()
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .route("/revoke", post(revoke))
            .route("/userinfo", get(userinfo))
            .with_state(Arc::clone(&inner));
        Self {
            addr: serve(router).await,
            inner,
        }
    }

    /// Returns the flags that configure this provider.
    pub(crate) fn flags(&self) -> Vec<String> {
        let at = |path: &str| format!("http://{}{path}", self.addr);
        let post = self.lock().manners.client_secret_post;
        let flags = [
            ("--authorization-endpoint", at("/authorize")),
            ("--token-endpoint", at("/token")),
            ("--revocation-endpoint", at("/revoke")),
            ("--userinfo-endpoint", at("/userinfo")),
            ("--client-id", PROVIDER_CLIENT.into()),
            ("--client-secret", PROVIDER_SECRET.into()),
            (
                "--client-auth",
                if post {
                    "client_secret_post"
                } else {
                    "client_secret_basic"
                }
                .into(),
            ),
        ];
        flags
            .into_iter()
            .flat_map(|(flag, value)| [flag.to_owned(), value])
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Returns all issued secrets, which only the server may see.
    pub(crate) fn secrets(&self) -> Vec<String> {
        self.lock().secrets.clone()
    }

    /// Returns the last form that the token or the revocation endpoint received.
    pub(crate) fn last_form(&self) -> Pairs {
        self.lock().forms.last().expect("a request").clone()
    }

    /// Changes the properties of further token responses.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.lock().manners);
    }

    /// Sets the response for `path`.
    pub(crate) fn answer(&self, path: &'static str, status: u16, body: impl Into<String>) {
        self.lock()
            .instead
            .insert(path, (StatusCode::from_u16(status).unwrap(), body.into()));
    }

    /// Removes all responses set by [`Self::answer`].
    pub(crate) fn behave(&self) {
        self.lock().instead.clear();
    }

    /// Ends all sessions.
    pub(crate) fn log_everybody_out(&self) {
        let mut inner = self.lock();
        let sessions: Vec<_> = inner.access.values().map(|(session, _)| *session).collect();
        inner.ended.extend(sessions);
    }
}

type Shared = State<Arc<Mutex<Inner>>>;

impl Inner {
    fn secret(&mut self, kind: &str) -> String {
        self.minted += 1;
        let secret = format!(
            "identity-{kind}-{}",
            URL_SAFE_NO_PAD.encode(Sha256::digest(self.minted.to_be_bytes()))
        );
        self.secrets.push(secret.clone());
        secret
    }

    fn tokens(
        &mut self,
        session: usize,
        granted: &str,
        scope: &str,
        first: bool,
        old: Option<String>,
    ) -> Response {
        let access = self.secret("access");
        self.access
            .insert(access.clone(), (session, scope.to_owned()));
        let manners = self.manners.clone();
        let mut answer = json!({ "access_token": access, "token_type": manners.token_type });
        if let Some(expires_in) = manners.expires_in {
            answer["expires_in"] = expires_in;
        }
        if first || manners.repeats_scope {
            answer["scope"] = manners.scope.unwrap_or(scope).into();
        }
        if manners.refresh_tokens && (first || manners.rotates) {
            let refresh = self.secret("refresh");
            self.refresh
                .insert(refresh.clone(), (session, granted.to_owned()));
            if let Some(old) = old {
                self.refresh.remove(&old);
                self.spent.insert(old, session);
            }
            answer["refresh_token"] = refresh.into();
            for (name, seconds) in manners.lifetimes {
                answer[name] = (*seconds).into();
            }
        }
        answer.to_string().into_response()
    }

    /// Returns an error unless the request comes from the only client.
    fn refuse(&self, headers: &HeaderMap, form: &Pairs) -> Option<Response> {
        let encoded =
            |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let pair = format!("{}:{}", encoded(PROVIDER_CLIENT), encoded(PROVIDER_SECRET));
        let basic = format!("Basic {}", STANDARD.encode(pair));
        let right = if self.manners.client_secret_post {
            !headers.contains_key("authorization")
                && one(form, "client_id") == Some(PROVIDER_CLIENT)
                && one(form, "client_secret") == Some(PROVIDER_SECRET)
        } else {
            headers
                .get("authorization")
                .is_some_and(|value| value == basic.as_str())
                && one(form, "client_id").is_none()
                && one(form, "client_secret").is_none()
        };
        (!right).then(|| error(StatusCode::UNAUTHORIZED, "invalid_client"))
    }
}

fn error(status: StatusCode, code: &str) -> Response {
    (
        status,
        json!({ "error": code, "error_description": "a secret of the provider" }).to_string(),
    )
        .into_response()
}

async fn authorize(State(inner): Shared, RawQuery(query): RawQuery) -> Redirect {
    let request: Pairs = url::form_urlencoded::parse(query.unwrap().as_bytes())
        .into_owned()
        .collect();
    let mut url = Url::parse(one(&request, "redirect_uri").unwrap()).unwrap();
    let mut inner = inner.lock().unwrap();
    let code = inner.secret("code");
    url.query_pairs_mut()
        .append_pair("code", &code)
        .append_pair("state", one(&request, "state").unwrap());
    inner.codes.insert(code, request);
    Redirect::to(url.as_str())
}

async fn token(State(inner): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let form: Pairs = url::form_urlencoded::parse(&body).into_owned().collect();
    let mut inner = inner.lock().unwrap();
    inner.forms.push(form.clone());
    if let Some(response) = inner.refuse(&headers, &form) {
        return response;
    }
    match one(&form, "grant_type") {
        Some("authorization_code") => {
            inner.counts.exchanged += 1;
            let request = one(&form, "code")
                .and_then(|code| inner.codes.remove(code))
                .unwrap_or_default();
            let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(
                one(&form, "code_verifier").unwrap_or_default(),
            ));
            if one(&request, "code_challenge") != Some(&challenge)
                || one(&request, "redirect_uri") != one(&form, "redirect_uri")
            {
                return error(StatusCode::BAD_REQUEST, "invalid_grant");
            }
            let (session, scope) = (
                inner.counts.exchanged,
                one(&request, "scope").unwrap_or_default(),
            );
            inner.tokens(session, scope, scope, true, None)
        }
        Some("refresh_token") => {
            inner.counts.refreshed += 1;
            if let Some((status, body)) = inner.instead.get("/token") {
                return (*status, body.clone()).into_response();
            }
            let presented = one(&form, "refresh_token").unwrap_or_default().to_owned();
            if let Some(session) = inner.spent.get(&presented).copied() {
                inner.counts.reused += 1;
                inner.ended.insert(session);
            }
            let Some((session, granted)) = inner.refresh.get(&presented).cloned() else {
                return error(StatusCode::BAD_REQUEST, "invalid_grant");
            };
            if inner.ended.contains(&session) {
                return error(StatusCode::BAD_REQUEST, "invalid_grant");
            }
            let scope = one(&form, "scope").unwrap_or(&granted).to_owned();
            if !scope
                .split(' ')
                .all(|token| granted.split(' ').any(|other| other == token))
            {
                return error(StatusCode::BAD_REQUEST, "invalid_scope");
            }
            inner.tokens(session, &granted, &scope, false, Some(presented))
        }
        _ => error(StatusCode::BAD_REQUEST, "unsupported_grant_type"),
    }
}

async fn revoke(State(inner): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let form: Pairs = url::form_urlencoded::parse(&body).into_owned().collect();
    let mut inner = inner.lock().unwrap();
    inner.forms.push(form.clone());
    if let Some(response) = inner.refuse(&headers, &form) {
        return response;
    }
    inner.counts.revoked += 1;
    if let Some((status, body)) = inner.instead.get("/revoke") {
        return (*status, body.clone()).into_response();
    }
    let token = one(&form, "token").unwrap_or_default().to_owned();
    if let Some((session, _)) = inner.refresh.remove(&token) {
        inner.ended.insert(session);
    }
    inner.access.remove(&token);
    StatusCode::OK.into_response()
}

async fn userinfo(State(inner): Shared, headers: HeaderMap) -> Response {
    let inner = inner.lock().unwrap();
    if let Some((status, body)) = inner.instead.get("/userinfo") {
        return (*status, body.clone()).into_response();
    }
    let token = headers
        .get("authorization")
        .and_then(|value| value.to_str().unwrap().strip_prefix("Bearer "));
    match token
        .and_then(|token| inner.access.get(token))
        .filter(|(session, _)| !inner.ended.contains(session))
    {
        Some((session, scope)) => json!({ "sub": format!("person-{session}"), "scope": scope })
            .to_string()
            .into_response(),
        None => StatusCode::UNAUTHORIZED.into_response(),
    }
}
