//! The parameters of a run, derived from its seed: who takes part, and what may go wrong.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tower_oauth_refresh::{ClientInfo, RotationPolicy};

/// A user, with one client on one device.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) client: String,
    /// The secret of a confidential client.
    pub(crate) secret: Option<String>,
    /// Whether the client signs an assertion for each request instead of sending its secret.
    pub(crate) asserts: bool,
    /// The number of tabs that share its token.
    pub(crate) tabs: usize,
    /// The number of processes, each with a private copy of its token.
    pub(crate) processes: usize,
    /// Whether its rotation policy is to keep its token as long as its grant lives.
    pub(crate) keeps: bool,
    /// Whether it was logged in before the layer was installed.
    pub(crate) foreign: bool,
    /// The person who uses the device, if the authorization server names persons.
    pub(crate) person: Option<usize>,
    /// The number of refreshes of each tab.
    pub(crate) steps: usize,
}

/// Whether the authorization server rotates its refresh token with every response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rotates {
    Always,
    Sometimes,
    Never,
}

/// The beginning of the long outage of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begins {
    At(Duration),
    /// Right after the authorization server has replaced this many tokens, so that the last
    /// replacement cannot be stored.
    AfterReplacing(u32),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Outage {
    pub(crate) begins: Begins,
    pub(crate) length: Duration,
}

/// Which access tokens clients hold, and how an instance checks those of the layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// Those of the authorization server, which no instance checks.
    None,
    /// The instance reads the store for each request.
    Asks,
    /// The instance caches tokens for a while, and subscribes to announcements.
    Remembers,
}

/// Rates are out of a thousand.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) users: Vec<User>,
    pub(crate) thefts: usize,
    pub(crate) rotates: Rotates,
    pub(crate) rotation_timeout: Duration,
    pub(crate) retry_window: Duration,
    /// `None` is the default, the retry window.
    pub(crate) shared_token_window: Option<Duration>,
    pub(crate) strict: bool,
    /// Whether every instance has a cache in front of the store.
    pub(crate) tiered: bool,
    pub(crate) access: Guard,
    /// The lifetime of access tokens of the authorization server, if the layer renews them.
    pub(crate) renewed_after: Option<Duration>,
    /// Until when sessions from before the layer are adopted.
    pub(crate) adopt_until: Duration,
    /// The time from which instances that hand grants back replace the others, one by one.
    pub(crate) hand_back: Option<Duration>,
    /// The time by which the clock of each instance is ahead.
    pub(crate) skews: Vec<Duration>,
    /// Store calls that are lost, delayed, repeated or rejected.
    pub(crate) store_faults: u32,
    /// Calls of the authorization server that fail without an effect, or are slow.
    pub(crate) upstream_faults: u32,
    /// Calls of the authorization server whose response is lost after they had their effect. No
    /// layer can compensate for those.
    pub(crate) lost_answers: u32,
    /// Requests whose client hangs up, or gets no response.
    pub(crate) client_faults: u32,
    /// Calls at which an instance dies.
    pub(crate) crashes: u32,
    /// Writes after which the store fails over and loses the latest ones.
    pub(crate) failovers: u32,
    pub(crate) outage: Option<Outage>,
}

impl Plan {
    /// The largest difference between two clocks.
    pub(crate) const SKEW: Duration = Duration::from_secs(12);

    pub(crate) fn new(seed: u64) -> Self {
        // Not the random stream of the run itself, so that equal settings do not imply equal
        // events.
        let mut rng = StdRng::seed_from_u64(seed ^ 0x5eed_0000_0000_0000);
        let mut rate = |percent: u32, rates: &[u32]| {
            if rng.random_ratio(percent, 100) {
                rates[rng.random_range(0..rates.len())]
            } else {
                0
            }
        };
        let store_faults = rate(60, &[20, 80, 250]);
        let upstream_faults = rate(50, &[50, 200]);
        let lost_answers = rate(8, &[60]);
        let client_faults = rate(75, &[100, 300]);
        let crashes = rate(30, &[10, 40]);
        let failovers = rate(15, &[40, 150]);
        let secs = |range: std::ops::Range<u64>, rng: &mut StdRng| {
            Duration::from_secs(rng.random_range(range))
        };
        let outage = rng.random_ratio(15, 100).then(|| {
            let length = if rng.random_ratio(1, 5) {
                50..90
            } else {
                1..20
            };
            Outage {
                begins: Begins::At(secs(0..120, &mut rng)),
                length: secs(length, &mut rng),
            }
        });
        let instances = [1, 2, 2, 2, 3, 4][rng.random_range(0..6)];
        let skewed = rng.random_ratio(1, 2);
        let skews = (0..instances)
            .map(|_| {
                if skewed {
                    rng.random_range(Duration::ZERO..=Self::SKEW)
                } else {
                    Duration::ZERO
                }
            })
            .collect();
        let mut users: Vec<_> = (0..if rng.random_ratio(1, 5) { 2 } else { 1 })
            .map(|number| user(number, &mut rng))
            .collect();
        name_persons(seed, &mut users);
        let copied = users.iter().any(|user| user.processes > 1);
        let long = rng.random_ratio(if copied { 6 } else { 2 }, 8);
        let shared_token_window =
            long.then(|| Duration::from_secs([600, 3600][rng.random_range(0..2)]));
        let strict = rng.random_ratio(1, 12);
        let rotation_timeout = Duration::from_secs(if rng.random_ratio(1, 2) { 2 } else { 10 });
        // For longer than a lease, and for less than a commit is retried in the background.
        let badly_timed = rng.random_ratio(10, 100).then(|| {
            let lease = rotation_timeout * 2 + Duration::from_secs(5);
            Outage {
                begins: Begins::AfterReplacing(rng.random_range(1..=3)),
                length: lease + secs(0..8, &mut rng),
            }
        });
        let mut plan = Self {
            users,
            thefts: if rng.random_ratio(2, 5) {
                rng.random_range(1..=2)
            } else {
                0
            },
            rotates: [
                Rotates::Always,
                Rotates::Always,
                Rotates::Sometimes,
                Rotates::Never,
            ][rng.random_range(0..4)],
            rotation_timeout,
            retry_window: Duration::from_secs(if rng.random_ratio(1, 2) { 45 } else { 60 }),
            strict,
            shared_token_window,
            access: match rng.random_range(0..8) {
                0 => Guard::Remembers,
                1 => Guard::Asks,
                _ => Guard::None,
            },
            adopt_until: if rng.random_ratio(1, 8) {
                secs(1..400, &mut rng)
            } else {
                Duration::from_secs(1 << 30)
            },
            tiered: rng.random_ratio(2, 5),
            skews,
            store_faults,
            upstream_faults,
            lost_answers,
            client_faults,
            crashes,
            failovers,
            outage: outage.or(badly_timed),
            renewed_after: None,
            hand_back: None,
        };
        plan.renew(seed);
        plan.leave(seed);
        plan
    }

    /// In one of six runs, access tokens of the authorization server live shortly, and the layer
    /// renews them.
    fn renew(&mut self, seed: u64) {
        // A stream of its own, so that the other runs are the same as without renewals.
        let mut rng = StdRng::seed_from_u64(seed ^ 0x5eed_0000_0000_0002);
        if !rng.random_ratio(1, 6) {
            return;
        }
        self.renewed_after = Some(Duration::from_secs(rng.random_range(40..=300)));
        if self.access == Guard::None {
            self.access = [Guard::Asks, Guard::Remembers][rng.random_range(0..2)];
        }
    }

    /// In one of six runs whose access tokens are those of the authorization server, the layer is
    /// about to be removed.
    fn leave(&mut self, seed: u64) {
        // A stream of its own, so that the other runs are the same as without hand-back.
        let mut rng = StdRng::seed_from_u64(seed ^ 0x5eed_0000_0000_0003);
        if self.access != Guard::None || !rng.random_ratio(1, 6) {
            return;
        }
        let latest = [20, 200, 2000][rng.random_range(0..3)];
        self.hand_back = Some(Duration::from_millis(rng.random_range(0..latest * 1000)));
        for user in &mut self.users {
            user.steps += 2;
        }
    }

    /// Returns the time for which an old token leads to the current one.
    pub(crate) fn shared_window(&self) -> Duration {
        match self.shared_token_window {
            _ if self.strict => Duration::ZERO,
            Some(window) => window,
            None => self.retry_window,
        }
    }

    /// Returns whether the authorization server names persons.
    pub(crate) fn has_persons(&self) -> bool {
        self.users.iter().any(|user| user.person.is_some())
    }

    /// Returns whether the store is unreachable for longer than a commit is retried in the
    /// background.
    pub(crate) fn long_outage(&self) -> bool {
        self.outage
            .is_some_and(|outage| outage.length > Duration::from_secs(45))
    }
}

/// The beginning of the identifier of a client that keeps its token.
const KEEPER: &str = "keeper-";

fn client_id(number: usize, keeps: bool) -> String {
    let begin = if keeps { KEEPER } else { "client-" };
    format!("{begin}{number}")
}

/// Returns the rotation policy of a client.
pub(crate) fn rotation_policy(client: &ClientInfo) -> RotationPolicy {
    if client.client_id.as_str().starts_with(KEEPER) {
        RotationPolicy::Never
    } else {
        RotationPolicy::EveryUse
    }
}

fn user(number: usize, rng: &mut StdRng) -> User {
    let confidential = rng.random_ratio(1, 2);
    let foreign = rng.random_ratio(1, 6);
    let copied = !foreign && rng.random_ratio(1, 4);
    let keeps = rng.random_ratio(1, 6);
    User {
        client: client_id(number, keeps),
        secret: confidential.then(|| format!("secret-{number}")),
        asserts: confidential && rng.random_ratio(1, 2),
        keeps,
        foreign,
        tabs: if !copied && rng.random_ratio(1, 3) {
            2
        } else {
            1
        },
        processes: if copied { rng.random_range(2..=4) } else { 1 },
        steps: rng.random_range(2..=4),
        person: None,
    }
}

/// The number of persons, if the authorization server names them.
pub(crate) const PERSONS: usize = 2;

/// In one of eight runs, gives each device to one of two persons, and adds devices.
fn name_persons(seed: u64, users: &mut Vec<User>) {
    // A stream of its own, so that the other runs are the same as without persons.
    let mut rng = StdRng::seed_from_u64(seed ^ 0x5eed_0000_0000_0001);
    if !rng.random_ratio(1, 8) {
        return;
    }
    for _ in 0..rng.random_range(1..=2) {
        let other = users[rng.random_range(0..users.len())].clone();
        users.push(User {
            tabs: 1,
            processes: 1,
            foreign: false,
            steps: 2,
            ..other
        });
    }
    for user in users {
        user.person = Some(rng.random_range(0..PERSONS));
    }
}
