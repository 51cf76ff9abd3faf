//! The sessions of the authorization server, and how it serves a request.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use http::StatusCode;

use super::form::Form;
use super::person::named;
use super::{MARK, PASS};
use crate::check::Owner;
use crate::cluster::Life;
use crate::plan::{Begins, Outage, Rotates, User};
use crate::world::World;

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
    /// The time at which each access token was issued, by its number in its session.
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

pub(super) type Served = (StatusCode, String);

pub(super) fn refused(status: StatusCode, error: &str) -> Served {
    (status, format!(r#"{{"error":"{error}"}}"#))
}

/// A refresh that the server has begun to process: the session, and whether its token is replaced.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refreshed {
    pub(super) session: usize,
    pub(super) replaced: bool,
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

    /// Returns whether it has issued this refresh token for that session.
    pub(crate) fn has_issued(&self, token: &str, session: usize) -> bool {
        let generation = token.strip_prefix(&format!("{MARK}-{session}-"));
        let generation = generation.and_then(|generation| generation.parse::<u32>().ok());
        let session = self.all.get(session);
        session
            .zip(generation)
            .is_some_and(|(session, generation)| generation <= session.generation)
    }

    /// Records that the response to a request of this instance has arrived.
    pub(super) fn answered(&mut self, session: usize, life: Life) {
        self.all[session].asking.retain(|other| *other != life);
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
///
/// A request is `forwarded` if it is that of the client itself. Its instance stores no answer.
pub(super) fn serve(
    world: &World,
    life: Life,
    path: &str,
    form: &Form,
    forwarded: bool,
) -> (Served, Option<Refreshed>) {
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
    let mut asking = session.asking.iter();
    if !forwarded && asking.any(|other| world.cluster.is_alive(*other)) {
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
        if !forwarded {
            world
                .ledger()
                .replaced(number, life, world.cluster.is_alive(life));
        }
    } else if !forwarded {
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
