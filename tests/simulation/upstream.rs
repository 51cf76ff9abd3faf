//! An authorization server as strict as real ones: presenting a refresh token that it has replaced
//! ends the session.

mod form;
mod person;

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use tokio::sync::oneshot;
use tokio::time::sleep;
use tower::{BoxError, Service};

use super::broken;
use super::check::Owner;
use super::cluster::{self, Life};
use super::plan::{Begins, Outage, Rotates, User};
use super::world::World;
use form::Form;
use person::{name_in, named};

pub(crate) use person::subject;

/// A part of every refresh token of this server, which no client may see.
pub(crate) const MARK: &str = "UPSTREAM";

/// A part of every access token of this server.
pub(crate) const PASS: &str = "PASS";

/// The lifetime of an access token, unless the plan says otherwise.
const LIFETIME: Duration = Duration::from_secs(3600);

/// The sessions of the server, by number.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    all: Vec<Session>,
    /// The number of tokens that were replaced.
    replaced: u32,
    /// The client assertions that it has accepted, each once.
    assertions: BTreeSet<String>,
    /// When each access token was issued, by its number in its session.
    issued: BTreeMap<(usize, u32), Duration>,
}

#[derive(Debug)]
struct Session {
    client: String,
    person: Option<usize>,
    /// Whether the person is named with the first refresh, instead of with the log-in.
    late: bool,
    generation: u32,
    answers: u32,
    alive: bool,
    /// The instance lives that wait for a response to its current token.
    asking: Vec<Life>,
}

type Served = (StatusCode, String);

fn refused(status: StatusCode, error: &str) -> Served {
    (status, format!(r#"{{"error":"{error}"}}"#))
}

/// A refresh that the server has begun to process: the session, and whether its token is replaced.
#[derive(Clone, Copy, Debug)]
struct Refreshed {
    session: usize,
    replaced: bool,
}

impl Sessions {
    fn log_in(&mut self, world: &World, form: &Form) -> (usize, Served) {
        let client = form.get("client_id").unwrap_or_default().to_owned();
        let person = form.get("code").and_then(|code| code.parse().ok());
        let session = self.begin(client, person, false);
        (session, (StatusCode::OK, self.answer(world, session, true)))
    }

    /// Begins a session, whose first token is [`Sessions::first`].
    pub(crate) fn begin(&mut self, client: String, person: Option<usize>, foreign: bool) -> usize {
        self.all.push(Session {
            client,
            person,
            late: !foreign && self.all.len() % 3 == 2,
            generation: 0,
            answers: 0,
            alive: true,
            asking: Vec::new(),
        });
        self.all.len() - 1
    }

    /// Returns the owner of a session, if the server names persons.
    pub(crate) fn owner(&self, session: usize) -> Option<Owner> {
        let session = &self.all[session];
        Some(Owner {
            person: session.person?,
            client: session.client.clone(),
            late: session.late,
        })
    }

    pub(crate) fn first(session: usize) -> String {
        format!("{MARK}-{session}-0")
    }

    /// Returns whether this access token has expired at least `margin` ago.
    pub(crate) fn has_expired(&self, world: &World, token: (usize, u32), margin: Duration) -> bool {
        let lifetime = world.plan.renewed_after.unwrap_or(LIFETIME);
        let issued = self.issued.get(&token);
        issued.is_none_or(|issued| *issued + lifetime + margin < world.elapsed())
    }

    fn answer(&mut self, world: &World, number: usize, with_token: bool) -> String {
        let session = &mut self.all[number];
        let (count, generation) = (session.answers, session.generation);
        session.answers += 1;
        self.issued.insert((number, count), world.elapsed());
        let lifetime = world.plan.renewed_after.unwrap_or(LIFETIME).as_secs();
        let token = format!(r#","refresh_token":"{MARK}-{number}-{generation}""#);
        let token = if with_token { token.as_str() } else { "" };
        let access = format!(r#""access_token":"{PASS}-{number}-{count}","session":{number}"#);
        let person = session.person.filter(|_| count > 0 || !session.late);
        let name = person
            .map(|person| named(number, person))
            .unwrap_or_default();
        format!(r#"{{{access},"token_type":"Bearer","expires_in":{lifetime}{token}{name}}}"#)
    }

    /// Returns the session and the generation of a token, or an error if this client must not use
    /// it.
    fn find(&self, token: &str, form: &Form) -> Result<(usize, u32), Served> {
        let dead = || refused(StatusCode::BAD_REQUEST, "invalid_grant");
        let numbers = token
            .strip_prefix(MARK)
            .and_then(|rest| rest.strip_prefix('-')?.split_once('-'));
        let (number, generation) = numbers.ok_or_else(dead)?;
        let (Ok(number), Ok(generation)) = (number.parse::<usize>(), generation.parse()) else {
            return Err(dead());
        };
        let session = self.all.get(number).ok_or_else(dead)?;
        if form.get("client_id") != Some(&session.client) {
            return Err(dead());
        }
        Ok((number, generation))
    }
}

/// Serves a request. Also returns its effect on a session, for the way back of the response.
fn serve(world: &World, life: Life, path: &str, form: &Form) -> (Served, Option<Refreshed>) {
    let mut sessions = world.sessions();
    // The client comes before the token, so that its error proves something.
    let authenticates = |user: &User| {
        form.get("client_id") == Some(&user.client) && form.secret() == user.secret.as_deref()
    };
    if !world.plan.users.iter().any(authenticates) {
        return (refused(StatusCode::UNAUTHORIZED, "invalid_client"), None);
    }
    if let Some(assertion) = form.get("client_assertion")
        && !sessions.assertions.insert(assertion.to_owned())
    {
        return (refused(StatusCode::UNAUTHORIZED, "invalid_client"), None);
    }
    if path == "/revoke" {
        if let Ok((number, _)) = sessions.find(form.get("token").unwrap_or_default(), form) {
            sessions.all[number].alive = false;
        }
        return ((StatusCode::OK, String::new()), None);
    }
    if form.get("grant_type") != Some("refresh_token") {
        let (session, served) = sessions.log_in(world, form);
        if let Some(owner) = sessions.owner(session) {
            world.ledger().began(session, owner);
        }
        return (served, None);
    }
    let (number, generation) =
        match sessions.find(form.get("refresh_token").unwrap_or_default(), form) {
            Ok(found) => found,
            Err(refused) => return (refused, None),
        };
    let session = &mut sessions.all[number];
    if !session.alive {
        return (refused(StatusCode::BAD_REQUEST, "invalid_grant"), None);
    }
    if session.generation != generation {
        session.alive = false;
        world.ledger().reused(number);
        return (refused(StatusCode::BAD_REQUEST, "invalid_grant"), None);
    }
    if session
        .asking
        .iter()
        .any(|other| world.cluster.is_alive(*other))
    {
        world.ledger().used_at_once(number);
    }
    let replaced = match world.plan.rotates {
        Rotates::Always => true,
        Rotates::Sometimes => world.one_in(2, 1),
        Rotates::Never => false,
    };
    if replaced {
        session.generation += 1;
        session.asking.clear();
        sessions.replaced += 1;
        if let Some(Outage {
            begins: Begins::AfterReplacing(count),
            length,
        }) = world.plan.outage
            && sessions.replaced == count
        {
            world.note(|| "the store goes away".into());
            world.shelf().go_away(world.elapsed(), length);
        }
        world
            .ledger()
            .replaced(number, life, world.cluster.is_alive(life));
    } else {
        session.asking.push(life);
    }
    let answer = sessions.answer(world, number, replaced);
    (
        (StatusCode::OK, answer),
        Some(Refreshed {
            session: number,
            replaced,
        }),
    )
}

/// The fate of a request on its way to the server.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The server is unavailable and has done nothing.
    Unavailable,
    /// The connection breaks before the request arrives.
    Broken,
    /// The response is lost, late or unreadable, after the request had its effect.
    Lost,
    Late,
    Garbled,
}

#[derive(Debug)]
struct Journey {
    out: Duration,
    back: Duration,
    fault: Option<Fault>,
    /// Whether the instance dies before or after the server has received the request.
    crash: Option<bool>,
}

impl Journey {
    fn draw(world: &World) -> Self {
        let mut journey = Self {
            out: world.millis(0, 20),
            back: world.millis(0, 20),
            fault: None,
            crash: None,
        };
        // Less than the time-out of the layer, together with the delay above.
        let long = u32::try_from(world.plan.rotation_timeout.as_millis()).unwrap() * 2 - 500;
        if world.strikes(world.plan.upstream_faults) {
            match world.below(4) {
                0 => journey.fault = Some(Fault::Unavailable),
                1 => journey.fault = Some(Fault::Broken),
                2 => journey.out = world.millis(100, long),
                _ => journey.back = world.millis(100, long),
            }
        }
        if world.strikes(world.plan.lost_answers) {
            journey.fault = world
                .pick(&[Fault::Lost, Fault::Late, Fault::Garbled])
                .copied();
        }
        if world.strikes(world.plan.crashes) {
            journey.crash = Some(world.one_in(2, 1));
        }
        journey
    }

    /// Runs independently of the caller: the server serves every request that has reached it.
    async fn run(
        self,
        world: Arc<World>,
        life: Life,
        path: String,
        form: Form,
        answer: oneshot::Sender<Result<Served, BoxError>>,
    ) {
        if self.crash == Some(true) {
            cluster::crash(&world, life);
        }
        sleep(self.out).await;
        let broken = || Err(BoxError::from("the connection broke"));
        let nothing_done = match self.fault {
            Some(Fault::Broken) => Some(broken()),
            Some(Fault::Unavailable) => Some(Ok(refused(
                StatusCode::SERVICE_UNAVAILABLE,
                "temporarily_unavailable",
            ))),
            _ => None,
        };
        if let Some(nothing_done) = nothing_done {
            world.note(|| format!("i{} {path} fails at the server", life.instance));
            let _ = answer.send(nothing_done);
            return;
        }
        let (served, refreshed) = serve(&world, life, &path, &form);
        world.note(|| {
            format!(
                "i{} {path} {form:?} -> {served:?}, then {:?}",
                life.instance, self.fault
            )
        });
        if self.crash == Some(false) {
            cluster::crash(&world, life);
        }
        let lost = matches!(self.fault, Some(Fault::Lost | Fault::Late | Fault::Garbled));
        if let Some(Refreshed {
            session,
            replaced: true,
        }) = refreshed.filter(|_| lost)
        {
            world.ledger().answer_lost(session);
        }
        sleep(self.back).await;
        if let Some(Refreshed { session, .. }) = refreshed {
            world.sessions().all[session]
                .asking
                .retain(|other| *other != life);
        }
        let _ = answer.send(match self.fault {
            Some(Fault::Lost) => broken(),
            Some(Fault::Late) => {
                sleep(world.plan.rotation_timeout * 3).await;
                Ok(served)
            }
            Some(Fault::Garbled) => Ok((StatusCode::OK, format!("<p>{}</p>", served.1))),
            _ => Ok(served),
        });
    }
}

/// The server as seen by one life of an instance: the inner service of its layer.
#[derive(Clone)]
pub(crate) struct Upstream {
    world: Arc<World>,
    life: Life,
    /// Whether it adds the secret of the client, for requests of the layer itself.
    adds_secret: bool,
}

impl Upstream {
    pub(crate) fn new(world: &Arc<World>, life: Life) -> Self {
        Self {
            world: Arc::clone(world),
            life,
            adds_secret: false,
        }
    }

    /// Returns the service with which the layer itself refreshes.
    pub(crate) fn for_renewals(world: &Arc<World>, life: Life) -> Self {
        Self {
            adds_secret: true,
            ..Self::new(world, life)
        }
    }

    async fn answer<B>(self, request: Request<B>) -> Result<Response<Full<Bytes>>, BoxError>
    where
        B: Body<Data = Bytes>,
    {
        let Self {
            world,
            life,
            adds_secret,
        } = self;
        if !world.cluster.is_alive(life) {
            return pending().await;
        }
        let (head, body) = request.into_parts();
        let body = body
            .collect()
            .await
            .map_err(|_| "the body of the layer broke off")?
            .to_bytes();
        let mut form = Form(form_urlencoded::parse(&body).into_owned().collect());
        form.0.extend(
            head.extensions
                .get::<broken::Secret>()
                .map(|secret| ("client_secret".into(), secret.0.clone())),
        );
        if adds_secret {
            let client = form.get("client_id");
            let users = world.plan.users.iter();
            let user = users.clone().find(|user| Some(&*user.client) == client);
            let secret = user.and_then(|user| user.secret.clone());
            form.0
                .extend(secret.map(|secret| ("client_secret".into(), secret)));
        }
        let path = head.uri.path().to_owned();
        let is_probe = form
            .get("refresh_token")
            .is_some_and(|token| !token.starts_with(MARK));
        if let Some((status, error)) = broken::probe(world.breakage).filter(|_| is_probe) {
            let (status, body) = refused(status, error);
            return Ok(Response::builder().status(status).body(Full::from(body))?);
        }
        let (answer, arrives) = oneshot::channel();
        tokio::spawn(Journey::draw(&world).run(Arc::clone(&world), life, path, form, answer));
        let served = arrives.await;
        if !world.cluster.is_alive(life) {
            return pending().await;
        }
        let (status, body) = served??;
        let mut response = Response::builder()
            .status(status)
            .header("content-type", "application/json");
        if let Some(person) = name_in(&body) {
            response = response.extension(subject(person));
        }
        Ok(response.body(Full::from(body))?)
    }
}

impl<B> Service<Request<B>> for Upstream
where
    B: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        Box::pin(self.clone().answer(request))
    }
}
