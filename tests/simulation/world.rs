//! The state that all actors of a run share: the seed, the time, the trace, and the other actors.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use tokio::time::Instant;
use tower_oauth_refresh::{Clock, RandomUnavailable, SecureRandom, Timestamp};

use super::broken::Breakage;
use super::check::Ledger;
use super::cluster::Cluster;
use super::plan::{Begins, Outage, Plan};
use super::shelf::Shelf;
use super::upstream::Sessions;

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) breakage: Option<Breakage>,
    pub(crate) cluster: Cluster,
    shelf: Mutex<Shelf>,
    sessions: Mutex<Sessions>,
    ledger: Mutex<Ledger>,
    rng: Mutex<StdRng>,
    /// A separate stream, so that events do not depend on how much randomness a token takes.
    secrets: Mutex<StdRng>,
    began: Instant,
    calm: AtomicBool,
    trace: Option<Mutex<Vec<String>>>,
}

impl World {
    /// Creates the world. Call it inside the runtime of the run, because it reads that runtime's
    /// clock.
    pub(crate) fn new(seed: u64, breakage: Option<Breakage>, traced: bool) -> Arc<Self> {
        let plan = Plan::new(seed);
        let mut shelf = Shelf::default();
        if let Some(Outage {
            begins: Begins::At(from),
            length,
        }) = plan.outage
        {
            shelf.go_away(from, length);
        }
        let world = Self {
            cluster: Cluster::new(plan.skews.len()),
            shelf: Mutex::new(shelf),
            sessions: Mutex::default(),
            ledger: Mutex::new(Ledger::new(&plan)),
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            secrets: Mutex::new(StdRng::seed_from_u64(seed ^ 0x5ec2_0000_0000_0000)),
            began: Instant::now(),
            calm: AtomicBool::new(false),
            trace: traced.then(Mutex::default),
            breakage,
            plan,
        };
        world.note(|| format!("{:?}", world.plan));
        Arc::new(world)
    }

    pub(crate) fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap()
    }

    pub(crate) fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap()
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    /// Returns how long the run has lasted.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// From here on nothing goes wrong any more.
    pub(crate) fn calm_down(&self) {
        self.note(|| "calm".into());
        self.calm.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// Returns whether a fault of this rate happens now.
    pub(crate) fn strikes(&self, rate: u32) -> bool {
        rate > 0 && !self.is_calm() && self.one_in(1000, rate)
    }

    /// Returns `true` `part` times out of `whole`.
    pub(crate) fn one_in(&self, whole: u32, part: u32) -> bool {
        self.below(whole) < part
    }

    pub(crate) fn below(&self, end: u32) -> u32 {
        self.rng.lock().unwrap().random_range(0..end)
    }

    pub(crate) fn pick<'a, T>(&self, of: &'a [T]) -> Option<&'a T> {
        let end = u32::try_from(of.len()).unwrap();
        if end == 0 {
            None
        } else {
            of.get(self.below(end) as usize)
        }
    }

    pub(crate) fn millis(&self, least: u32, most: u32) -> Duration {
        Duration::from_millis((least + self.below(most - least + 1)).into())
    }

    pub(crate) async fn pause(&self, least: u32, most: u32) {
        tokio::time::sleep(self.millis(least, most)).await;
    }

    /// Writes a line of the trace, if there is one.
    pub(crate) fn note(&self, line: impl FnOnce() -> String) {
        if let Some(trace) = &self.trace {
            let line = format!("{:>9} ms  {}", self.elapsed().as_millis(), line());
            trace.lock().unwrap().push(line);
        }
    }

    pub(crate) fn take_trace(&self) -> Vec<String> {
        self.trace
            .as_ref()
            .map(|trace| std::mem::take(&mut *trace.lock().unwrap()))
            .unwrap_or_default()
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

/// A clock that is this far ahead of the time of the run.
pub(crate) struct Skewed {
    pub(crate) world: Arc<World>,
    pub(crate) ahead: Duration,
}

impl Skewed {
    /// The start time of every run, by a clock that is right, in milliseconds since 1970.
    pub(crate) const BEGIN: u64 = 1_800_000_000_000;
}

impl Clock for Skewed {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(Self::BEGIN)
            .saturating_add(self.world.elapsed())
            .saturating_add(self.ahead)
    }
}

/// The randomness of the run, for an instance.
pub(crate) struct Seeded(pub(crate) Arc<World>);

impl SecureRandom for Seeded {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomUnavailable> {
        self.0.secrets.lock().unwrap().fill_bytes(bytes);
        Ok(())
    }
}
