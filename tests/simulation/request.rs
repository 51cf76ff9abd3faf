//! A request from a client to an instance, and what the client learns from it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use tokio::time::sleep;
use tower::ServiceExt as _;

use super::access::Pass;
use super::broken;
use super::check::Ticket;
use super::client::Held;
use super::cluster::Instance;
use super::plan::Guard;
use super::token::{Token, read_access};
use super::upstream::{MARK, PASS};
use super::world::World;

/// The requested operation.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    LogIn,
    Refresh(Token),
    Revoke(Token),
}

/// The sender of a request and its credentials.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// A name for the trace.
    pub(crate) name: &'static str,
    pub(crate) client: Option<String>,
    pub(crate) secret: Option<String>,
    /// Whether it signs an assertion with its secret.
    pub(crate) asserts: bool,
    /// Whether client and secret are those of the token.
    pub(crate) entitled: bool,
    /// Whether the client id is that of the token.
    pub(crate) named: bool,
    /// The person who logs in, if the authorization server names persons.
    pub(crate) person: Option<usize>,
}

/// The result of a request, as its client sees it.
#[derive(Clone, Debug)]
pub(crate) enum Learned {
    /// Nothing: it hung up, the connection broke, or the response was lost.
    Nothing,
    /// The next token.
    Token(Held),
    /// A success without a token.
    Done,
    /// An error.
    Refused(StatusCode, String),
}

/// The type of a client assertion (RFC 7523 §2.2).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Sends a request to a random instance.
pub(crate) async fn send(world: &Arc<World>, caller: &Caller, ask: &Ask) -> Learned {
    world.pause(0, 15).await;
    let instances = world.cluster.instances();
    let Some(instance) = world.pick(&instances) else {
        world.pause(50, 500).await;
        return Learned::Nothing;
    };
    let ticket = match ask {
        Ask::Refresh(token) if token.is_foreign() => {
            if caller.entitled {
                world.ledger().present_foreign(token, world.elapsed());
            }
            None
        }
        Ask::Refresh(token) if caller.named => {
            let now = world.elapsed();
            Some(world.ledger().present(token, caller.entitled, now))
        }
        Ask::Refresh(_) | Ask::Revoke(_) | Ask::LogIn => None,
    };
    world.note(|| format!("{} asks i{}: {ask:?}", caller.name, instance.life.instance));
    let answer = answer(world, instance, request(world, caller, ask)).await;
    world.note(|| {
        format!(
            "{} of i{} is answered {answer:?}",
            caller.name, instance.life.instance
        )
    });
    let learned = judge(world, caller, ask, ticket, answer);
    if world.strikes(world.plan.client_faults / 2) {
        Learned::Nothing
    } else {
        learned
    }
}

fn request(world: &World, caller: &Caller, ask: &Ask) -> Request<Full<Bytes>> {
    let code = caller
        .person
        .map_or_else(|| "c".into(), |person| person.to_string());
    let (path, mut form) = match ask {
        Ask::LogIn => (
            "/token",
            vec![
                ("grant_type", "authorization_code"),
                ("code", code.as_str()),
            ],
        ),
        Ask::Refresh(token) => (
            "/token",
            vec![
                ("grant_type", "refresh_token"),
                ("refresh_token", token.text.as_str()),
            ],
        ),
        Ask::Revoke(token) => ("/revoke", vec![("token", token.text.as_str())]),
    };
    form.extend(
        caller
            .client
            .iter()
            .map(|client| ("client_id", client.as_str())),
    );
    let assertion;
    match &caller.secret {
        Some(secret) if caller.asserts => {
            let client = caller.client.as_deref().unwrap_or_default();
            let id = world.below(u32::MAX);
            let claims = format!(r#"{{"sub":"{client}","jti":"{id}"}}"#);
            let unsigned = test_support::requests::assertion(&claims);
            let (unsigned, _) = unsigned.rsplit_once('.').unwrap();
            assertion = format!("{unsigned}.{secret}");
            form.extend([
                ("client_assertion_type", ASSERTION_TYPE),
                ("client_assertion", assertion.as_str()),
            ]);
        }
        Some(secret) => form.push(("client_secret", secret)),
        None => {}
    }
    // Log-ins and adoptions keep the secret: the layer must know that the client authenticates.
    let hidden = match ask {
        Ask::Refresh(token) if !token.is_foreign() => broken::outside(world.breakage, &mut form),
        Ask::Refresh(_) | Ask::LogIn | Ask::Revoke(_) => None,
    };
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish();
    let mut request = Request::post(path)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::from(body))
        .unwrap();
    if let Some(hidden) = hidden {
        request.extensions_mut().insert(hidden);
    }
    request
}

/// Returns the response; `None` if the instance crashes or the client hangs up.
async fn answer(
    world: &World,
    instance: &Instance,
    request: Request<Full<Bytes>>,
) -> Option<(StatusCode, String)> {
    let patience = if world.strikes(world.plan.client_faults) {
        let most = if world.one_in(2, 1) { 40 } else { 8000 };
        world.millis(0, most)
    } else {
        Duration::from_secs(600)
    };
    let crashed = instance.crashed.notified();
    let mut exchange = Box::pin(instance.service.clone().oneshot(request));
    let response = tokio::select! {
        biased;
        response = &mut exchange => Some(response),
        () = crashed => None,
        () = sleep(patience) => None,
    };
    let Some(response) = response else {
        broken::hang_up(world.breakage, exchange);
        return None;
    };
    if !world.cluster.is_alive(instance.life) {
        return None;
    }
    // The inner service failed. A server would close the connection or respond with 502.
    let response = response.ok()?;
    let head = response.headers().clone();
    let status = response.status();
    let body = response.into_body().collect().await.ok()?.to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    let in_head = |mark: &str| {
        head.values()
            .any(|value| String::from_utf8_lossy(value.as_bytes()).contains(mark))
    };
    let forbidden = |mark: &str| body.contains(mark) || in_head(mark);
    if forbidden(MARK) || (world.plan.access != Guard::None && forbidden(PASS)) {
        world
            .ledger()
            .violation(format!("an upstream token was in a response: {body}"));
    }
    Some((status, body))
}

/// Reports a response to the ledger. Returns what the client learns from it.
fn judge(
    world: &World,
    caller: &Caller,
    ask: &Ask,
    ticket: Option<Ticket>,
    answer: Option<(StatusCode, String)>,
) -> Learned {
    let now = world.elapsed();
    let mut ledger = world.ledger();
    let Some((status, body)) = answer else {
        if let Some(ticket) = &ticket {
            ledger.gave_up(ticket, now);
        }
        return Learned::Nothing;
    };
    let body: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
    let text = |member: &str| body[member].as_str().unwrap_or_default();
    let next = Token::parse(text("refresh_token"));
    let session = body["session"]
        .as_u64()
        .and_then(|number| usize::try_from(number).ok());
    let pass = session
        .zip(read_access(text("access_token")))
        .zip(next.as_ref());
    let pass = pass.map(|((session, (key, grant, generation)), next)| {
        let left = Duration::from_secs(body["expires_in"].as_u64().unwrap_or_default());
        Pass {
            text: text("access_token").to_owned(),
            key,
            grant,
            generation,
            session,
            with: next.tag,
            upstream_until: now + world.plan.renewed_after.unwrap_or(left),
            until: now + left,
        }
    });
    if let Some(pass) = &pass {
        ledger.issued(pass.clone());
    }
    if session.is_some() && !caller.entitled {
        ledger.violation(format!(
            "a request without the client's credentials got a response for session {session:?}"
        ));
    }
    match (&ticket, &next) {
        (Some(ticket), Some(next)) => ledger.granted(ticket, next, session, now),
        (Some(ticket), None) if text("error") == "invalid_grant" => {
            ledger.refused(ticket, caller.entitled, world.is_calm(), now);
        }
        (Some(ticket), None) => {
            ledger.gave_up(ticket, now);
            if status.is_success() {
                ledger.violation("the response to a refresh had no refresh token");
            }
        }
        (None, Some(next)) => {
            if let Ask::Refresh(presented) = ask {
                ledger.adopted(presented, session);
            }
            if let Some(session) = session {
                ledger.logged_in(session, next);
            }
        }
        (None, None) => {}
    }
    if status == StatusCode::INTERNAL_SERVER_ERROR {
        ledger.violation(format!("the layer could not read what it stored: {body}"));
    }
    match (next, session) {
        (Some(token), Some(session)) => Learned::Token(Held {
            token,
            session,
            pass: pass.map(Box::new),
        }),
        _ if status.is_success() => Learned::Done,
        _ => Learned::Refused(status, text("error").to_owned()),
    }
}
