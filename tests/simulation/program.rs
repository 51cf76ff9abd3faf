//! The program around the layer: it lists and ends the sessions of its users.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tower_oauth_refresh::{ClientId, StoreError};

use super::access;
use super::check::End;
use super::client::{self, Held, Jar};
use super::cluster::Instance;
use super::plan::{PERSONS, Plan};
use super::request::{Action, send};
use super::upstream::subject;
use super::world::World;

/// Longer than instances use the epochs that they have read.
const A_MOMENT: Duration = Duration::from_millis(1100);

/// Calls the layer at random moments.
pub(crate) async fn program(world: Arc<World>, jars: Vec<Arc<Jar>>) {
    for _ in 0..2 + world.below(4) {
        match world.below(4) {
            0 => world.pause(0, 500).await,
            1 | 2 => world.pause(500, 30_000).await,
            _ => world.pause(30_000, 200_000).await,
        }
        let person = person(&world);
        match world.below(8) {
            0..=3 => list(&world, person).await,
            4..=5 => end(&world, &jars, End::Person(person)).await,
            6 => end(&world, &jars, End::Client(client_of(&world))).await,
            _ => end(&world, &jars, End::All).await,
        }
    }
}

/// Checks that every call works once nothing goes wrong any more.
pub(crate) async fn last_calls(world: &Arc<World>, jars: &[Arc<Jar>]) {
    for person in 0..PERSONS {
        list(world, person).await;
    }
    end(world, jars, End::Person(person(world))).await;
    let next = if world.one_in(2, 1) {
        End::Client(client_of(world))
    } else {
        End::All
    };
    end(world, jars, next).await;
    // So long that no clock shows a time before the end.
    sleep(Plan::SKEW + A_MOMENT).await;
    for jar in jars.iter().filter(|jar| jar.newest().is_none()).take(2) {
        client::log_in(world, jar).await;
    }
    for person in 0..PERSONS {
        list(world, person).await;
    }
}

fn person(world: &World) -> usize {
    world.below(PERSONS as u32) as usize
}

fn client_of(world: &World) -> String {
    let user = world.pick(&world.plan.users);
    user.map(|user| user.client.clone()).unwrap_or_default()
}

/// Calls an instance. Returns `None` if it crashes.
async fn call<T>(
    world: &World,
    instance: &Instance,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Option<Result<T, StoreError>> {
    let crashed = instance.crashed.notified();
    let result = tokio::select! {
        biased;
        result = call => result,
        () = crashed => return None,
    };
    if !world.cluster.is_alive(instance.life) {
        return None;
    }
    if let Err(error) = &result
        && world.is_calm()
    {
        world
            .ledger()
            .violation(format!("a call of the program failed: {error:?}"));
    }
    Some(result)
}

async fn list(world: &World, person: usize) {
    let instances = world.cluster.instances();
    let Some(instance) = world.pick(&instances) else {
        return;
    };
    let (at, who) = (world.elapsed(), instance.life.instance);
    world.note(|| format!("the program lists the sessions of person {person} at i{who}"));
    let found = call(world, instance, instance.layer.sessions(&subject(person))).await;
    let Some(Ok(found)) = found else { return };
    let found: Vec<_> = found
        .iter()
        .map(|session| (session.grant(), session.client_id().to_owned()))
        .collect();
    world.note(|| format!("the program of i{who} gets {found:?}"));
    world.ledger().listed(person, &found, at);
}

/// Ends grants. If that succeeds, their tokens are presented once more.
async fn end(world: &Arc<World>, jars: &[Arc<Jar>], end: End) {
    let instances = world.cluster.instances();
    let Some(instance) = world.pick(&instances) else {
        return;
    };
    let who = instance.life.instance;
    let held: Vec<_> = jars.iter().map(|jar| (jar, jar.newest())).collect();
    world.note(|| format!("the program ends {end:?} at i{who}"));
    let ending = world.ledger().ending(&end, who, world.elapsed());
    let layer = &instance.layer;
    let result = match &end {
        End::Person(person) => {
            let ended = call(world, instance, layer.end_sessions(&subject(*person))).await;
            ended.map(|ended| ended.map(drop))
        }
        End::Client(client) => {
            let client = ClientId::try_from(client.as_str()).unwrap();
            call(world, instance, layer.end_client(&client)).await
        }
        End::All => call(world, instance, layer.end_all()).await,
    };
    let succeeded = matches!(result, Some(Ok(())));
    world.note(|| format!("the program of i{who} gets {succeeded}"));
    world.ledger().ended(ending, succeeded, world.elapsed());
    if !succeeded {
        return;
    }
    if !matches!(end, End::Person(_)) {
        sleep(A_MOMENT).await;
    }
    for (jar, held) in held {
        let Some(Held { token, pass, .. }) = held else {
            continue;
        };
        let is_over = world.ledger().end_of(&token.key).is_some();
        if token.is_foreign() || !is_over {
            continue;
        }
        if let Some(pass) = pass {
            access::present(world, "client", &pass).await;
        }
        send(world, &jar.caller, &Action::Refresh(token)).await;
    }
}
