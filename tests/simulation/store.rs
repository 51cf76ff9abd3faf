//! The store that all instances share, and the network between it and the instances.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tower_oauth_refresh::Timestamp;
use tower_oauth_refresh::store::{
    Announcements, Change, Claim, ClaimTag, Entry, Key, Sidecar, SidecarName, Store, StoreError,
    Swap, Ttl, Version,
};

use super::access::Ear;
use super::cluster::{self, Life};
use super::shelf::{ACCESS, Answer, Call, EPOCHS, INDEX, UNDER_WAY};
use super::world::World;

/// A call that takes longer has failed for its caller, whatever its effect.
const TIME_OUT: Duration = Duration::from_secs(1);

/// The fate of a call.
#[derive(Debug)]
enum Fate {
    /// The call is served immediately.
    Prompt,
    Travels(Journey),
    /// The store is unreachable.
    Refused,
}

#[derive(Debug)]
struct Journey {
    /// The time that the call takes to reach the store; `None` if it is lost.
    out: Option<Duration>,
    /// The time that its reply takes; `None` if it is lost.
    back: Option<Duration>,
    /// The time after which the same call arrives again.
    again: Option<Duration>,
    /// Whether the instance dies before or after the store has received the call.
    crash: Option<bool>,
}

impl Fate {
    fn random(world: &World, call: &Call) -> Self {
        let crash = world
            .strikes(world.plan.crashes)
            .then(|| world.one_in(2, 1));
        let faulty = world.strikes(world.plan.store_faults);
        if crash.is_none() && !faulty && world.one_in(2, 1) {
            return Self::Prompt;
        }
        let delay = || world.millis(0, if world.one_in(20, 1) { 300 } else { 12 });
        let mut journey = Journey {
            out: Some(delay()),
            back: Some(delay()),
            again: None,
            crash,
        };
        if faulty {
            match world.below(6) {
                0 => return Self::Refused,
                1 => journey.out = None,
                2 => journey.back = None,
                3 => journey.out = Some(world.millis(1, 3000)),
                4 => journey.back = Some(world.millis(1, 3000)),
                // If an insert is repeated after its grant has ended, the grant exists again, and
                // no store can detect that. If a claim and its commit are both repeated after a
                // later commit that kept the token, they restore an older upstream token. The
                // repetition of an insert and of a claim therefore arrives at once.
                _ if matches!(call, Call::Swap(_, None, ..) | Call::Claim(..)) => {
                    journey.again = Some(Duration::ZERO)
                }
                _ => journey.again = Some(world.millis(0, 3000)),
            }
        }
        Self::Travels(journey)
    }
}

impl Journey {
    /// Runs independently of the caller: a call that was sent arrives even if its caller is gone.
    async fn run(self, world: Arc<World>, life: Life, call: Call, answer: oneshot::Sender<Answer>) {
        if self.crash == Some(true) {
            cluster::crash(&world, life);
        }
        let Some(out) = self.out else {
            world.note(|| format!("i{} {call:?} is lost", life.instance));
            return sleep(TIME_OUT * 2).await;
        };
        sleep(out).await;
        let served = arrive(&world, life, &call);
        if self.crash == Some(false) {
            cluster::crash(&world, life);
        }
        if self.again == Some(Duration::ZERO) {
            arrive(&world, life, &call);
        }
        match self.back {
            Some(back) => sleep(back).await,
            None => return sleep(TIME_OUT * 2).await,
        }
        if let Some(served) = served {
            let _ = answer.send(served);
        }
        if let Some(again) = self.again.filter(|again| !again.is_zero()) {
            sleep(again).await;
            world.note(|| format!("i{} once more:", life.instance));
            arrive(&world, life, &call);
        }
    }
}

/// Returns how much longer the store is unreachable, if it is.
pub(crate) fn back_in(world: &World) -> Option<Duration> {
    if world.is_calm() {
        None
    } else {
        world.shelf().back_in(world.elapsed())
    }
}

/// Applies the call to the store; `None` if the store is unreachable.
fn arrive(world: &Arc<World>, life: Life, call: &Call) -> Option<Answer> {
    if back_in(world).is_some() {
        return None;
    }
    let (served, effect) = {
        let mut shelf = world.shelf();
        let now = shelf.now(world.elapsed());
        shelf.serve(call, now)
    };
    world.note(|| format!("i{} {call:?} -> {served:?}", life.instance));
    if let Some(effect) = effect {
        world.ledger().stored(effect, life, world.elapsed());
        if world.strikes(world.plan.failovers) {
            let (world, delay) = (Arc::clone(world), world.millis(0, 500));
            tokio::spawn(async move {
                sleep(delay).await;
                fail_over(&world);
            });
        }
    }
    Some(served)
}

fn fail_over(world: &World) {
    let (writes, ahead) = (1 + world.below(4) as usize, world.millis(0, 2000));
    let lost = {
        let mut shelf = world.shelf();
        let since =
            Timestamp::from_millis(shelf.now(world.elapsed()).as_millis().saturating_sub(1000));
        shelf.fail_over(writes, since, ahead)
    };
    world.note(|| format!("the store fails over and loses {lost:?}"));
    for (key, tag) in lost {
        world.ledger().rolled_back(&key, tag, world.elapsed());
    }
}

/// The store as seen by one life of an instance.
#[derive(Clone)]
pub(crate) struct Link {
    world: Arc<World>,
    life: Life,
    ear: Ear,
}

impl Link {
    pub(crate) fn new(world: &Arc<World>, life: Life, ear: Ear) -> Self {
        Self {
            world: Arc::clone(world),
            life,
            ear,
        }
    }

    async fn call(&self, call: Call) -> Result<Answer, StoreError> {
        let Self { world, life, .. } = self;
        if !world.cluster.is_alive(*life) {
            return pending().await;
        }
        let commits = matches!(&call, Call::Swap(_, _, Change::Put { entry, ttl: Ttl::After(_) }, _)
            if ![UNDER_WAY, ACCESS, EPOCHS, INDEX].contains(&entry.tag));
        let key = match call {
            Call::Get(key) | Call::Swap(key, ..) | Call::Sidecar(key, _) | Call::Claim(key, ..) => {
                key
            }
        };
        let answer = match Fate::random(world, &call) {
            Fate::Refused => None,
            Fate::Prompt => arrive(world, *life, &call),
            Fate::Travels(journey) => {
                let (answer, arrives) = oneshot::channel();
                tokio::spawn(journey.run(Arc::clone(world), *life, call, answer));
                timeout(TIME_OUT, arrives).await.ok().and_then(Result::ok)
            }
        };
        if !world.cluster.is_alive(*life) {
            return pending().await;
        }
        if answer.is_none() && commits {
            world.ledger().commit_failed(&key, *life);
        }
        answer.ok_or_else(|| StoreError::unavailable("a fault of the simulation"))
    }
}

impl Store for Link {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        match self.call(Call::Get(*key)).await? {
            Answer::Entry(entry) => Ok(entry),
            other => unreachable!("{other:?}"),
        }
    }

    async fn swap(
        &self,
        key: &Key,
        expected: Option<Version>,
        change: Change,
        sidecars: &[Sidecar],
    ) -> Result<Swap, StoreError> {
        let call = Call::Swap(*key, expected, change, sidecars.to_vec());
        match self.call(call).await? {
            Answer::Swap(swap) => Ok(swap),
            other => unreachable!("{other:?}"),
        }
    }

    async fn sidecar(&self, key: &Key, name: &SidecarName) -> Result<Option<Bytes>, StoreError> {
        match self.call(Call::Sidecar(*key, *name)).await? {
            Answer::Sidecar(value) => Ok(value),
            other => unreachable!("{other:?}"),
        }
    }

    async fn claim(
        &self,
        key: &Key,
        tag: &ClaimTag,
        version: Version,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        match self.call(Call::Claim(*key, *tag, version, lease)).await? {
            Answer::Claim(claim) => Ok(claim),
            other => unreachable!("{other:?}"),
        }
    }

    async fn announce(&self, ended: &[Key]) -> Result<(), StoreError> {
        cluster::announce(&self.world, ended);
        Ok(())
    }

    fn announcements(&self) -> Option<Announcements> {
        Some(self.ear.announcer().subscribe())
    }

    fn now(&self) -> Timestamp {
        self.world.shelf().now(self.world.elapsed())
    }
}
