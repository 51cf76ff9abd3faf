//! An authorization server as strict as real ones: refresh tokens are valid once, and a second use
//! ends the session.

mod responses;

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use tokio::sync::Notify;
use tower::{BoxError, Service};

use self::responses::{answer, authenticate, invalid_client, invalid_grant, json, read, tokens};

/// The headers of draft-ietf-oauth-attestation-based-client-auth.
pub const ATTESTATION: &str = "oauth-client-attestation";
pub const ATTESTATION_POP: &str = "oauth-client-attestation-pop";

/// The attestation that the server accepts.
pub const ATTESTED: &str = "e30.e30.c2lnbmF0dXJl";

/// The reaction of the server to one request instead of serving it.
#[derive(Clone, Debug)]
pub enum Act {
    /// Responds with this without looking at the request.
    Answer(u16, &'static str, &'static str),
    /// Serves the request once the gate is open.
    Wait(Arc<Notify>),
    /// Serves the request, but the response has no refresh token, and the old one stays valid.
    KeepToken,
    /// Serves the request, but adds or overrides these members of the response.
    With(&'static str),
    /// Serves the request, and adds these extensions to the response.
    Extended(http::Extensions),
    /// Breaks the connection without having seen the request.
    Break,
    /// Serves the request, but never responds.
    Hang,
    /// Panics.
    Panic,
}

/// A request that the server received.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    pub form: Vec<(String, String)>,
    pub raw: Bytes,
}

impl Seen {
    pub fn param(&self, name: &str) -> Option<&str> {
        self.form
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn is_of(&self, client: &str) -> bool {
        self.param("client_id")
            .is_some_and(|name| name.starts_with(client))
    }
}

#[derive(Debug, Default)]
struct State {
    /// The number of refreshes of each session, and whether it is alive, by session number.
    sessions: HashMap<u32, (u32, bool)>,
    seen: Vec<Seen>,
    acts: VecDeque<Act>,
    reuses: u32,
    forgiving: bool,
    /// The assertions and proofs of possession that were used up.
    used: HashSet<String>,
    time: Duration,
}

/// The server. Clones are the same server.
#[derive(Clone, Debug, Default)]
pub struct Upstream(Arc<Mutex<State>>);

impl Upstream {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an act for the next request that has none yet.
    pub fn then(&self, act: Act) {
        self.0.lock().unwrap().acts.push_back(act);
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.0.lock().unwrap().seen.clone()
    }

    /// Returns how many refreshes it has received.
    pub fn refreshes(&self) -> usize {
        self.seen()
            .iter()
            .filter(|seen| seen.param("grant_type") == Some("refresh_token"))
            .count()
    }

    /// Returns how many refreshes it has granted.
    pub fn rotations(&self) -> usize {
        self.0
            .lock()
            .unwrap()
            .sessions
            .values()
            .map(|(count, _)| *count as usize)
            .sum()
    }

    /// Makes every response take this long from now on.
    pub fn slow_down(&self, time: Duration) {
        self.0.lock().unwrap().time = time;
    }

    /// From now on, the previous token of a session may be presented again, and gets the lost
    /// response.
    pub fn forgive(&self) {
        self.0.lock().unwrap().forgiving = true;
    }

    /// Revives the sessions that have ended, as if a request had arrived before their end.
    pub fn revive(&self) {
        for (_, alive) in self.0.lock().unwrap().sessions.values_mut() {
            *alive = true;
        }
    }

    /// Returns how often a refresh token was presented a second time.
    pub fn reuses(&self) -> u32 {
        self.0.lock().unwrap().reuses
    }

    /// Returns how many sessions are alive.
    pub fn alive(&self) -> usize {
        self.0
            .lock()
            .unwrap()
            .sessions
            .values()
            .filter(|(_, alive)| *alive)
            .count()
    }

    fn take(&self, seen: Seen) -> Option<Act> {
        let mut state = self.0.lock().unwrap();
        state.seen.push(seen);
        state.acts.pop_front()
    }

    fn serve(&self, seen: &Seen) -> Response<Full<Bytes>> {
        if let Some(refused) = authenticate(seen) {
            return refused;
        }
        if !self.accepts_assertion(seen) || !self.accepts_attestation(seen) {
            return invalid_client();
        }
        match (seen.path.as_str(), seen.param("grant_type")) {
            ("/revoke", _) => self.revoke(seen.param("token").unwrap_or_default()),
            ("/introspect", _) => self.introspect(seen.param("token").unwrap_or_default()),
            ("/token", Some("refresh_token")) => {
                self.refresh(seen.param("refresh_token").unwrap_or_default())
            }
            ("/token", Some("client_credentials")) => json(
                200,
                r#"{"access_token":"at-cc","token_type":"Bearer","expires_in":60}"#.into(),
            ),
            ("/token", Some(_)) => {
                let mut state = self.0.lock().unwrap();
                let number = u32::try_from(state.sessions.len()).unwrap();
                state.sessions.insert(number, (0, true));
                json(200, tokens(number, 0))
            }
            _ => json(400, r#"{"error":"unsupported_grant_type"}"#.into()),
        }
    }

    /// Clients whose name begins with `signed` have assertions: the signature must be `signature`,
    /// and each is accepted once.
    fn accepts_assertion(&self, seen: &Seen) -> bool {
        let assertion = seen.param("client_assertion").unwrap_or_default();
        !seen.is_of("signed") || assertion.ends_with(".c2lnbmF0dXJl") && self.uses_up(assertion)
    }

    /// Clients whose name begins with `attested` have an attestation. Each proof of possession is
    /// accepted once.
    fn accepts_attestation(&self, seen: &Seen) -> bool {
        let proof = seen.header(ATTESTATION_POP).unwrap_or_default();
        !seen.is_of("attested")
            || seen.header(ATTESTATION) == Some(ATTESTED)
                && !proof.is_empty()
                && self.uses_up(proof)
    }

    fn uses_up(&self, proof: &str) -> bool {
        self.0.lock().unwrap().used.insert(proof.to_owned())
    }

    fn refresh(&self, token: &str) -> Response<Full<Bytes>> {
        let mut state = self.0.lock().unwrap();
        let forgiving = state.forgiving;
        let Some((number, count)) = read(token) else {
            return invalid_grant();
        };
        let Some(session) = state.sessions.get_mut(&number).filter(|session| session.1) else {
            return invalid_grant();
        };
        if forgiving && session.0 == count + 1 {
            return json(200, tokens(number, session.0));
        }
        if session.0 != count {
            session.1 = false;
            state.reuses += 1;
            return invalid_grant();
        }
        session.0 += 1;
        json(200, tokens(number, count + 1))
    }

    fn keep(token: &str) -> Response<Full<Bytes>> {
        let (number, count) = read(token).unwrap();
        json(
            200,
            format!(
                r#"{{"access_token":"at-{number}-{count}-kept","token_type":"Bearer","expires_in":3600}}"#
            ),
        )
    }

    /// Introspects its own tokens of either kind, with members of its own.
    fn introspect(&self, token: &str) -> Response<Full<Bytes>> {
        let own = token
            .strip_prefix("at-")
            .map(|numbers| format!("upstream-{numbers}"));
        let state = self.0.lock().unwrap();
        let alive = read(own.as_deref().unwrap_or(token)).is_some_and(|(number, _)| {
            state.sessions.get(&number).is_some_and(|(_, alive)| *alive)
        });
        if !alive {
            return json(200, r#"{"active":false,"hint":"of upstream"}"#.into());
        }
        json(
            200,
            format!(
                r#"{{"active":true,"sub":"user-7","client_id":"of upstream","scope":"all of it","exp":1,"iat":2,"token_type":"upstream","jti":"{token}","aud":["x","{token}"],"act":{{"n":1.0}}}}"#
            ),
        )
    }

    fn revoke(&self, token: &str) -> Response<Full<Bytes>> {
        if let Some((number, _)) = read(token)
            && let Some(session) = self.0.lock().unwrap().sessions.get_mut(&number)
        {
            session.1 = false;
        }
        Response::new(Full::default())
    }
}

impl<B> Service<Request<B>> for Upstream
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: std::fmt::Debug,
{
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let upstream = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let raw = match body.collect().await {
                Ok(collected) => collected.to_bytes(),
                Err(error) => panic!("{error:?}"),
            };
            let seen = Seen {
                method: head.method,
                path: head.uri.path().to_owned(),
                headers: head.headers,
                form: form_urlencoded::parse(&raw).into_owned().collect(),
                raw,
            };
            let time = upstream.0.lock().unwrap().time;
            if !time.is_zero() {
                tokio::time::sleep(time).await;
            }
            match upstream.take(seen.clone()) {
                None => Ok(upstream.serve(&seen)),
                Some(Act::Answer(status, content_type, body)) => {
                    Ok(answer(status, content_type, body.into()))
                }
                Some(Act::Wait(gate)) => {
                    gate.notified().await;
                    Ok(upstream.serve(&seen))
                }
                Some(Act::KeepToken) => Ok(Upstream::keep(seen.param("refresh_token").unwrap())),
                Some(Act::With(members)) => {
                    let served = upstream
                        .serve(&seen)
                        .into_body()
                        .collect()
                        .await
                        .unwrap()
                        .to_bytes();
                    let mut value: serde_json::Value = serde_json::from_slice(&served).unwrap();
                    let members: serde_json::Value = serde_json::from_str(members).unwrap();
                    for (name, member) in members.as_object().unwrap() {
                        value[name] = member.clone();
                    }
                    Ok(json(200, value.to_string()))
                }
                Some(Act::Extended(extensions)) => {
                    let mut response = upstream.serve(&seen);
                    response.extensions_mut().extend(extensions);
                    Ok(response)
                }
                Some(Act::Break) => Err("the connection broke".into()),
                Some(Act::Hang) => {
                    let _ = upstream.serve(&seen);
                    std::future::pending().await
                }
                Some(Act::Panic) => panic!("the inner service panics"),
            }
        })
    }
}
