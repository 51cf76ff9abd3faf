//! A run, from its seed to its verdict.

use std::cell::RefCell;
use std::panic;
use std::sync::{Arc, Once};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::access::{self, REMEMBERED};
use super::broken::Breakage;
use super::client::{self, Jar};
use super::cluster;
use super::program;
use super::request::{Action, send};
use super::thief;
use super::token::Token;
use super::world::World;

/// The result of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) violations: Vec<String>,
    pub(crate) trace: Vec<String>,
    /// The number of sessions, and how many of them have an excuse.
    pub(crate) sessions: usize,
    pub(crate) excused: usize,
}

thread_local! {
    /// The panics of the run on this thread, in any task.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Runs the seed. The same seed always gives the same result.
pub(crate) fn run(seed: u64, breakage: Option<Breakage>, traced: bool) -> Outcome {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let default = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.with_borrow_mut(|panics| panics.push(info.to_string()));
            default(info);
        }));
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let world = runtime.block_on(async {
        let world = World::new(seed, breakage, traced);
        play(&world).await;
        world
    });
    world.cluster.clear();
    drop(runtime);
    let mut violations = world.ledger().violations();
    violations.extend(
        PANICS
            .take()
            .into_iter()
            .map(|panic| format!("a task panicked: {panic}")),
    );
    let (sessions, excused) = world.ledger().sessions();
    Outcome {
        violations,
        trace: world.take_trace(),
        sessions,
        excused,
    }
}

async fn play(world: &Arc<World>) {
    cluster::start(world);
    let mut jars = Vec::new();
    let mut actors = JoinSet::new();
    for user in &world.plan.users {
        let jar = Arc::new(Jar::new(world, user));
        jars.push(Arc::clone(&jar));
        for _ in 1..user.processes {
            let (first, other) = (Arc::clone(&jar), Arc::new(Jar::new(world, user)));
            jars.push(Arc::clone(&other));
            actors.spawn(client::process(Arc::clone(world), first, other, 2));
        }
        for tab in 0..user.tabs {
            actors.spawn(client::tab(
                Arc::clone(world),
                Arc::clone(&jar),
                user.steps,
                tab == 0,
            ));
        }
    }
    if world.plan.has_persons() {
        actors.spawn(program::program(Arc::clone(world), jars.clone()));
    }
    for _ in 0..world.plan.thefts {
        actors.spawn(thief::theft(Arc::clone(world), jars.clone()));
    }
    let crashes = tokio::spawn(cluster::crash_at_random(Arc::clone(world)));
    let rolled = tokio::spawn(cluster::roll(Arc::clone(world)));
    let all = timeout(Duration::from_secs(30 * 24 * 3600), async {
        while let Some(ended) = actors.join_next().await {
            if let Err(error) = ended {
                world
                    .ledger()
                    .violation(format!("an actor stopped: {error}"));
            }
        }
    });
    if all.await.is_err() {
        world.ledger().violation("a task waits forever");
    }
    if let Err(error) = rolled.await {
        world
            .ledger()
            .violation(format!("the deployment stopped: {error}"));
    }
    crashes.abort();
    aftermath(world, &jars).await;
}

/// Checks that every promise holds once nothing goes wrong any more.
async fn aftermath(world: &Arc<World>, jars: &[Arc<Jar>]) {
    world.calm_down();
    cluster::start(world);
    sleep(Duration::from_secs(300)).await;
    refresh_all(world, jars).await;
    if world.plan.hand_back.is_some() {
        after_hand_back(world, jars).await;
    }
    if world.one_in(3, 1) {
        sleep(world.plan.shared_window() + Duration::from_secs(400)).await;
        thief::last_theft(world, jars).await;
        refresh_all(world, jars).await;
        sleep(REMEMBERED).await;
        access::present_old(world, "thief", 4).await;
    }
    if world.plan.has_persons() {
        program::last_calls(world, jars).await;
        refresh_all(world, jars).await;
    }
    for instance in world.cluster.instances() {
        if instance.hints() > 0 {
            world.note(|| format!("i{} had hints", instance.life.instance));
        }
        if timeout(Duration::from_secs(300), instance.layer.drain())
            .await
            .is_err()
        {
            world
                .ledger()
                .violation(format!("i{} does not drain", instance.life.instance));
        }
    }
}

/// Checks that every client has left the layer, and that no grant remains.
async fn after_hand_back(world: &Arc<World>, jars: &[Arc<Jar>]) {
    sleep(world.plan.retry_window + Duration::from_secs(100)).await;
    // A client whose token an instance was about to adopt has left the layer only now.
    refresh_all(world, jars).await;
    for token in must_be_over(world, jars) {
        let session = world.ledger().session(&token);
        let of_session = |jar: &&Arc<Jar>| jar.newest().map(|held| held.session) == session;
        if let Some(jar) = jars.iter().find(of_session) {
            send(world, &jar.caller, &Action::Refresh(token)).await;
        }
    }
    refresh_all(world, jars).await;
}

/// Checks that every client without an excuse holds a token of the authorization server. Returns
/// the tokens of the grants that were handed back.
fn must_be_over(world: &World, jars: &[Arc<Jar>]) -> Vec<Token> {
    let held: Vec<_> = jars.iter().filter_map(|jar| jar.newest()).collect();
    let mut ledger = world.ledger();
    for held in held {
        if !held.token.is_foreign() && !ledger.has_excuse(held.session) {
            ledger.violation(format!("session {} was not handed back", held.session));
        }
    }
    ledger.retired(world.elapsed())
}

async fn refresh_all(world: &Arc<World>, jars: &[Arc<Jar>]) {
    for jar in jars {
        let Some(held) = jar.newest() else { continue };
        if !client::refresh(world, jar).await && !world.ledger().has_excuse(held.session) {
            world
                .ledger()
                .violation(format!("session {} is stuck", held.session));
        }
        client::visit(world, jar).await;
    }
}
