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
use super::cluster::{Instance, Life};
use super::plan::Guard;
use super::token::{Token, read_access};
use super::upstream::{MARK, PASS, Shown};
use super::world::World;

/// The requested operation.
#[derive(Clone, Debug)]
pub(crate) enum Action {
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
pub(crate) async fn send(world: &Arc<World>, caller: &Caller, action: &Action) -> Learned {
    world.pause(0, 15).await;
    let instances = world.cluster.instances();
    let Some(instance) = world.pick(&instances) else {
        world.pause(50, 500).await;
        return Learned::Nothing;
    };
    let ticket = match action {
        Action::Refresh(token) if token.is_foreign() => {
            if caller.entitled {
                let now = world.elapsed();
                world.ledger().present_foreign(token, instance.life, now);
            }
            None
        }
        Action::Refresh(token) if caller.named => {
            let now = world.elapsed();
            Some(world.ledger().present(token, caller.entitled, now))
        }
        Action::Refresh(_) | Action::Revoke(_) | Action::LogIn => None,
    };
    world.note(|| {
        format!(
            "{} asks i{}: {action:?}",
            caller.name, instance.life.instance
        )
    });
    let answer = answer(world, instance, request(world, caller, action)).await;
    if let Some((status, body)) = &answer
        && discloses(world, caller, action, *status, body)
    {
        let mut ledger = world.ledger();
        ledger.violation(format!("an upstream token was in a response: {body}"));
    }
    world.note(|| {
        format!(
            "{} of i{} is answered {answer:?}",
            caller.name, instance.life.instance
        )
    });
    let learned = judge(world, instance.life, caller, action, ticket, answer);
    if world.strikes(world.plan.client_faults / 2) {
        Learned::Nothing
    } else {
        learned
    }
}

fn request(world: &World, caller: &Caller, action: &Action) -> Request<Full<Bytes>> {
    let code = caller
        .person
        .map_or_else(|| "c".into(), |person| person.to_string());
    let (path, mut form) = match action {
        Action::LogIn => (
            "/token",
            vec![
                ("grant_type", "authorization_code"),
                ("code", code.as_str()),
            ],
        ),
        Action::Refresh(token) => (
            "/token",
            vec![
                ("grant_type", "refresh_token"),
                ("refresh_token", token.text.as_str()),
            ],
        ),
        Action::Revoke(token) => ("/revoke", vec![("token", token.text.as_str())]),
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
    let hidden = match action {
        Action::Refresh(token) if !token.is_foreign() => broken::outside(world.breakage, &mut form),
        Action::Refresh(_) | Action::LogIn | Action::Revoke(_) => None,
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
    if let Action::Refresh(token) = action
        && token.is_foreign()
    {
        request.extensions_mut().insert(Shown(token.text.clone()));
    }
    request
}

/// Returns whether the body of a response contains a token of the authorization server that its
/// client must not see.
///
/// Once an instance hands grants back, a client gets the refresh token of its own session, in its
/// place. A response that is forwarded may be unreadable.
fn discloses(
    world: &World,
    caller: &Caller,
    action: &Action,
    status: StatusCode,
    body: &str,
) -> bool {
    if world.plan.access != Guard::None && body.contains(PASS) {
        return true;
    }
    let allowed = world.cluster.hands_back()
        && caller.entitled
        && status == StatusCode::OK
        && !matches!(action, Action::Revoke(_));
    let member = format!(r#""refresh_token":"{MARK}-"#);
    let in_place = usize::from(allowed && body.contains(&member));
    body.matches(MARK).count() > in_place
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
    let mut call = Box::pin(instance.service.clone().oneshot(request));
    let response = tokio::select! {
        biased;
        response = &mut call => Some(response),
        () = crashed => None,
        () = sleep(patience) => None,
    };
    let Some(response) = response else {
        broken::hang_up(world.breakage, call);
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
    if in_head(MARK) || (world.plan.access != Guard::None && in_head(PASS)) {
        let mut ledger = world.ledger();
        ledger.violation(format!("an upstream token was in a header: {head:?}"));
    }
    Some((status, body))
}

/// Reports a response to the ledger. Returns what the client learns from it.
fn judge(
    world: &World,
    life: Life,
    caller: &Caller,
    action: &Action,
    ticket: Option<Ticket>,
    answer: Option<(StatusCode, String)>,
) -> Learned {
    let now = world.elapsed();
    let mut ledger = world.ledger();
    let foreign = match action {
        Action::Refresh(token) if token.is_foreign() => Some(token),
        Action::Refresh(_) | Action::Revoke(_) | Action::LogIn => None,
    };
    let Some((status, body)) = answer else {
        if let Some(ticket) = &ticket {
            ledger.gave_up(ticket, now);
        }
        if let Some(token) = foreign.filter(|_| caller.entitled) {
            ledger.gave_up_foreign(token, now);
        }
        return Learned::Nothing;
    };
    let body: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
    let text = |member: &str| body[member].as_str().unwrap_or_default();
    let session = body["session"]
        .as_u64()
        .and_then(|number| usize::try_from(number).ok());
    let mut next = Token::read(text("refresh_token"));
    if life.hands_back && session.is_some() && next.is_none() {
        // The authorization server has not replaced it.
        next = foreign.cloned();
    }
    if let Some(token) = foreign.filter(|_| caller.entitled) {
        let spent = status.is_success() && next.as_ref().is_none_or(|next| next.tag != token.tag);
        ledger.answered_foreign(token, life, spent);
    }
    if let Some((next, session)) = next.as_ref().filter(|next| next.is_foreign()).zip(session)
        && !world.sessions().has_issued(&next.text, session)
    {
        ledger.violation(format!(
            "the response for session {session} contained {}",
            next.text
        ));
    }
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
        (Some(ticket), Some(next)) if next.is_foreign() => {
            let answer = [next.text.as_str(), text("access_token")].map(str::to_owned);
            ledger.handed_back(ticket, next, answer, !caller.asserts, session, now);
        }
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
            if let Action::Refresh(presented) = action {
                ledger.adopted(presented, session);
            }
            match session {
                Some(session) if next.is_foreign() => ledger.began_before(session, next),
                Some(session) => ledger.logged_in(session, next),
                None => {}
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
