//! The instances of the layer: they start, crash, and start again without any state.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::Full;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tower::Layer as _;
use tower_oauth_refresh::access::Access;
use tower_oauth_refresh::store::{Key, TieredStore};
use tower_oauth_refresh::{ClientCredentials, Refresh, RefreshLayer};

use super::access::{Ear, Resource};
use super::broken::Broken;
use super::plan::{Guard, rotation_policy};
use super::store::Link;
use super::upstream::Upstream;
use super::world::{Seeded, Skewed, World};

/// One life of one instance, from its start to its crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) instance: usize,
    number: u32,
    /// Whether it hands grants back.
    pub(crate) hands_back: bool,
}

/// The store of an instance.
type Shop = Broken<TieredStore<Link>>;

#[derive(Clone)]
pub(crate) struct Instance {
    pub(crate) life: Life,
    pub(crate) layer: RefreshLayer<Shop>,
    pub(crate) service: Refresh<Upstream, Shop>,
    tier: TieredStore<Link>,
    /// Its resource server, if clients hold access tokens of the layer.
    pub(crate) guarded: Option<Access<Resource, Shop>>,
    pub(crate) ear: Ear,
    /// Notified when it crashes: a client that waits for a response sees the connection close.
    pub(crate) crashed: Arc<Notify>,
}

impl Instance {
    /// Returns how often the cache had a hint about a key.
    pub(crate) fn hints(&self) -> u64 {
        self.tier.cache_stats().hits
    }
}

pub(crate) struct Cluster(Mutex<Vec<Seat>>);

#[derive(Clone, Default)]
struct Seat {
    lives: u32,
    instance: Option<Instance>,
    /// An instance that gets no more requests, and completes its requests in progress.
    stopping: Option<Instance>,
    /// Whether its next life hands grants back.
    hands_back: bool,
}

impl Seat {
    /// Takes the instance with this life.
    fn take(&mut self, life: Life) -> Option<Instance> {
        let [instance, stopping] = [&mut self.instance, &mut self.stopping];
        instance
            .take_if(|instance| instance.life == life)
            .or_else(|| stopping.take_if(|stopping| stopping.life == life))
    }
}

impl Cluster {
    pub(crate) fn new(instances: usize) -> Self {
        Self(Mutex::new(vec![Seat::default(); instances]))
    }

    fn seats(&self) -> MutexGuard<'_, Vec<Seat>> {
        self.0.lock().unwrap()
    }

    /// Returns the instances that are up.
    pub(crate) fn instances(&self) -> Vec<Instance> {
        self.seats()
            .iter()
            .filter_map(|seat| seat.instance.clone())
            .collect()
    }

    /// Returns whether that life is still running.
    ///
    /// A task of a dead instance may still be polled, but its calls never return, and its results
    /// are ignored.
    pub(crate) fn is_alive(&self, life: Life) -> bool {
        let seats = self.seats();
        let seat = &seats[life.instance];
        let mut instances = seat.instance.iter().chain(&seat.stopping);
        instances.any(|instance| instance.life == life)
    }

    /// Returns whether any instance hands grants back.
    pub(crate) fn hands_back(&self) -> bool {
        self.seats().iter().any(|seat| seat.hands_back)
    }

    /// Drops everything that refers back to the world.
    pub(crate) fn clear(&self) {
        self.seats().clear();
    }
}

/// Starts the instances that are not up.
pub(crate) fn start(world: &Arc<World>) {
    for index in 0..world.plan.skews.len() {
        let life = {
            let mut seats = world.cluster.seats();
            let seat = &mut seats[index];
            if seat.instance.is_some() {
                continue;
            }
            seat.lives += 1;
            Life {
                instance: index,
                number: seat.lives,
                hands_back: seat.hands_back,
            }
        };
        let instance = begin(world, life);
        world.cluster.seats()[index].instance = Some(instance);
        world.note(|| format!("i{index} starts"));
    }
}

fn begin(world: &Arc<World>, life: Life) -> Instance {
    let plan = &world.plan;
    let ear = Ear::default();
    // The cache uses real time, of which a run takes a few milliseconds, so its entries never
    // expire.
    let tier = TieredStore::builder(Link::new(world, life, ear.clone()))
        .ttl(Duration::from_secs(24 * 3600));
    let tier = if plan.tiered { tier } else { tier.max_bytes(0) }.build();
    let breakage = world.breakage.filter(|breakage| {
        (plan.tiered || !breakage.is_of_tier()) && (life.hands_back || !breakage.is_of_hand_back())
    });
    let store = Broken::new(breakage, tier.clone());
    let recorder = Arc::clone(world);
    let mut builder = RefreshLayer::builder(store)
        .clock(Skewed {
            world: Arc::clone(world),
            ahead: plan.skews[life.instance],
        })
        .random(Seeded(Arc::clone(world)))
        .adopt_until(UNIX_EPOCH + Duration::from_millis(Skewed::BEGIN) + plan.adopt_until)
        .hand_back(life.hands_back)
        .rotation_timeout(plan.rotation_timeout)
        .rotation_policy(rotation_policy)
        .on_event(move |event| {
            if recorder.cluster.is_alive(life) {
                recorder
                    .note(|| format!("i{} emits {} {:?}", life.instance, event.kind, event.grant));
                recorder
                    .ledger()
                    .record_event(event, life, recorder.elapsed());
            }
        });
    builder = if plan.strict {
        builder.strict(true)
    } else {
        builder.retry_window(plan.retry_window)
    };
    if let Some(window) = plan.shared_token_window.filter(|_| !plan.strict) {
        builder = builder.shared_token_window(window);
    }
    if plan.renewed_after.is_some() {
        builder = builder.access_token_lifetime(Duration::from_secs(5 * 24 * 3600));
    }
    let layer = builder
        .reference_access_tokens(plan.access != Guard::None)
        .build()
        .unwrap();
    let guarded = match plan.access {
        Guard::None => None,
        Guard::Asks => Some(layer.access().cache_ttl(Duration::ZERO)),
        Guard::Remembers => Some(layer.access().cache_ttl(Duration::from_secs(24 * 3600))),
    };
    let guarded = guarded.map(|guarded| {
        let guarded = match plan.renewed_after {
            None => guarded,
            Some(_) => guarded.upstream_refresh::<_, Full<Bytes>, _>(
                Upstream::for_renewals(world, life),
                ClientCredentials::added_by_service(),
            ),
        };
        guarded.build().unwrap().layer(Resource::new(world))
    });
    let service = layer.layer(Upstream::new(world, life));
    Instance {
        life,
        layer,
        service,
        tier,
        guarded,
        ear,
        crashed: Arc::default(),
    }
}

/// Ends that life with everything that is in progress in it, and starts the instance again after a
/// while.
pub(crate) fn crash(world: &Arc<World>, life: Life) {
    let Some(instance) = world.cluster.seats()[life.instance].take(life) else {
        return;
    };
    world.note(|| format!("i{} crashes", life.instance));
    world.ledger().crashed(life, world.elapsed());
    instance.crashed.notify_waiters();
    let (world, down) = (Arc::clone(world), world.millis(0, 5000));
    tokio::spawn(async move {
        sleep(down).await;
        start(&world);
    });
}

/// The time that a server gives its requests before it stops. No client of the layer waits longer.
const SHUTDOWN: Duration = Duration::from_secs(40);

/// Replaces the instances, one after the other, by instances that hand grants back. Each old one
/// finishes its requests beside the new one.
pub(crate) async fn roll(world: Arc<World>) {
    let Some(at) = world.plan.hand_back else {
        return;
    };
    sleep(at).await;
    for index in 0..world.plan.skews.len() {
        let old = {
            let mut seats = world.cluster.seats();
            let seat = &mut seats[index];
            seat.hands_back = true;
            seat.stopping = seat.instance.take();
            seat.stopping.clone()
        };
        start(&world);
        if let Some(old) = old {
            world.note(|| format!("i{index} hands back, and its old life stops"));
            sleep(SHUTDOWN).await;
            stop(&world, old).await;
        }
        world.pause(0, 60_000).await;
    }
}

/// Waits until the instance has nothing in progress, and ends its life.
async fn stop(world: &Arc<World>, instance: Instance) {
    if timeout(SHUTDOWN * 10, instance.layer.drain())
        .await
        .is_err()
    {
        let who = instance.life.instance;
        world
            .ledger()
            .violation(format!("i{who} does not drain when it stops"));
    }
    // Nothing may be lost with it, so it gives no excuse.
    if let Some(instance) = world.cluster.seats()[instance.life.instance].take(instance.life) {
        world.note(|| format!("i{} has stopped", instance.life.instance));
        instance.crashed.notify_waiters();
    }
}

/// Announces to every instance which grants have ended, or that announcements were lost.
pub(crate) fn announce(world: &Arc<World>, ended: &[Key]) {
    if world.plan.access != Guard::Remembers {
        return;
    }
    for instance in world.cluster.instances() {
        let (ended, lost) = (ended.to_vec(), world.strikes(world.plan.store_faults));
        let delay = world.millis(0, if lost { 5000 } else { 500 });
        tokio::spawn(async move {
            sleep(delay).await;
            let announcer = instance.ear.announcer();
            if lost {
                announcer.lost()
            } else {
                ended.into_iter().for_each(|key| announcer.ended(key))
            }
        });
    }
}

/// Crashes instances while they make no call: while they wait for a lock, a lease or a time-out.
pub(crate) async fn crash_at_random(world: Arc<World>) {
    for _ in 0..world.plan.crashes {
        sleep(world.millis(1, 20_000)).await;
        let instances = world.cluster.instances();
        if let Some(instance) = world.pick(&instances).filter(|_| world.strikes(200)) {
            crash(&world, instance.life);
        }
    }
}
