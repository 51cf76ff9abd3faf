//! Several instances over one Redis, many sessions that are brought to one step of a rotation at
//! once, and checks of the outcome.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use test_support::hooked::epochs_key;
pub(crate) use test_support::instances::{
    assert_away, assert_nothing_lost, count, events, go_on, log_in_many, post_patiently,
    refresh_each, refresh_patiently,
};
use test_support::redis::{Fault, RedisServer, Wire};
pub(crate) use test_support::until;
use test_support::{Act, App, ManualClock, Upstream, refresh_form, tokens};
use tokio::sync::Notify;
use tower_oauth_refresh::store::{RedisStore, TieredStore};
use tower_oauth_refresh::{GrantKey, RefreshLayerBuilder};

pub(crate) type RedisApp = App<TieredStore<RedisStore>>;
pub(crate) type Settings = RefreshLayerBuilder<TieredStore<RedisStore>>;

/// The time limit for an event that is certain to occur.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Starts an instance with its own connection and its own cache.
///
/// Its lease is short, so that tests do not wait for long until it expires.
pub(crate) async fn instance(url: &str, upstream: &Upstream) -> RedisApp {
    let store = RedisStore::builder(url)
        .command_timeout(Duration::from_millis(500))
        .connect()
        .await
        .unwrap();
    instance_over(store, upstream, |builder| {
        builder.rotation_timeout(Duration::from_secs(1))
    })
}

/// Starts an instance with time limits that never expire here, however busy the machine is.
pub(crate) async fn patient_with(
    url: &str,
    upstream: &Upstream,
    settings: impl FnOnce(Settings) -> Settings,
) -> RedisApp {
    let store = RedisStore::builder(url)
        .command_timeout(LIMIT)
        .connect()
        .await
        .unwrap();
    instance_over(store, upstream, |builder| {
        settings(builder.rotation_timeout(LIMIT))
    })
}

pub(crate) fn instance_over(
    store: RedisStore,
    upstream: &Upstream,
    settings: impl FnOnce(Settings) -> Settings,
) -> RedisApp {
    App::over(
        ManualClock::new(),
        TieredStore::new(store),
        upstream.clone(),
        settings,
    )
}

/// Starts a server that writes to disk before it acknowledges.
pub(crate) async fn durable_server() -> RedisServer {
    RedisServer::builder()
        .config("appendonly", "yes")
        .config("appendfsync", "always")
        .start()
        .await
}

/// A request to Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Asked {
    Insert,
    Claim,
    /// The swap of a rotation, with its replay.
    Commit,
    GiveBack,
    Remove,
    Get,
    Replay,
    /// Connection set-up and loading of scripts.
    Other,
}

/// Classifies a request by the shape of its arguments.
pub(crate) fn asked(words: &[Bytes]) -> Asked {
    match (
        words[0].to_ascii_uppercase().as_slice(),
        words.get(2).map(|keys| &keys[..]),
    ) {
        (b"GET", _) if words[1].windows(2).any(|pair| pair == b"}:") => Asked::Replay,
        (b"GET", _) => Asked::Get,
        (b"EVALSHA" | b"EVAL", Some(b"2" | b"3" | b"4")) => Asked::Commit,
        (b"EVALSHA" | b"EVAL", Some(b"1")) => match (words[5].len(), words[6].is_empty()) {
            (32, _) => Asked::Claim,
            (_, true) => Asked::Remove,
            (0, false) => Asked::Insert,
            (_, false) => Asked::GiveBack,
        },
        _ => Asked::Other,
    }
}

/// Returns the requests without the reads of the epochs, of which an instance makes at most one a
/// second, at the same time as another request.
pub(crate) fn without_epochs(mut commands: Vec<Vec<Bytes>>) -> Vec<Vec<Bytes>> {
    let key = GrantKey::from(epochs_key()).to_string();
    let (_, behind_braces) = key.split_at(8);
    commands.retain(|words| words[0] != "GET" || !words[1].ends_with(behind_braces.as_bytes()));
    commands
}

/// Holds everything that arrives until it is opened, and nothing from then on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<Mutex<GateState>>);

#[derive(Debug, Default)]
struct GateState {
    open: bool,
    held: Vec<Arc<Notify>>,
}

impl Gate {
    pub(crate) fn hold(&self) -> Option<Arc<Notify>> {
        let mut state = self.0.lock().unwrap();
        if state.open {
            return None;
        }
        let notify = Arc::<Notify>::default();
        state.held.push(Arc::clone(&notify));
        Some(notify)
    }

    pub(crate) fn held(&self) -> usize {
        self.0.lock().unwrap().held.len()
    }

    pub(crate) fn open(&self) {
        let mut state = self.0.lock().unwrap();
        state.open = true;
        for held in &state.held {
            held.notify_one();
        }
    }
}

/// The progress of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The claim is on its way to Redis.
    Claim,
    /// The lease is taken, and the reply has not arrived.
    Claimed,
    /// The upstream has received the request, and has done nothing.
    Upstream,
    /// The upstream has responded; the commit is on its way to Redis.
    Commit,
    /// The rotation is stored, and the reply has not arrived.
    Committed,
    /// The rotation is stored and its response was lost. The client retries, and the replay is on
    /// its way.
    Replay,
    /// The token is two generations old, and the read of its link is on its way.
    Link,
    /// Its links lead to the current token, and the claim with that is on its way.
    Reclaim,
    /// The lease is taken with the current token, and the reply has not arrived.
    Reclaimed,
    /// The upstream has responded; the commit of the convergence is on its way to Redis.
    Converge,
    /// The convergence is stored, and the reply has not arrived.
    Converged,
}

impl Step {
    pub(crate) const ALL: [Self; 11] = [
        Self::Claim,
        Self::Claimed,
        Self::Upstream,
        Self::Commit,
        Self::Committed,
        Self::Replay,
        Self::Link,
        Self::Reclaim,
        Self::Reclaimed,
        Self::Converge,
        Self::Converged,
    ];

    /// Returns whether clients present an old token, which leads to the current one.
    fn is_of_an_old_token(self) -> bool {
        matches!(
            self,
            Self::Link | Self::Reclaim | Self::Reclaimed | Self::Converge | Self::Converged
        )
    }

    /// Returns whether the reply to a script is lost.
    pub(crate) fn is_a_lost_reply(self) -> bool {
        matches!(
            self,
            Self::Claimed | Self::Committed | Self::Reclaimed | Self::Converged
        )
    }

    /// Applies the settings of an instance in front of which this step is tested. Links live for
    /// the default window, unless old tokens are presented.
    pub(crate) fn settings(self, builder: Settings) -> Settings {
        if self.is_of_an_old_token() {
            builder.shared_token_window(Duration::from_secs(3600))
        } else {
            builder
        }
    }

    /// Rotates the grants of these tokens until a request with one of them takes this step.
    pub(crate) async fn prepare(self, instances: &[RedisApp], tokens: &[String]) {
        for (number, token) in tokens.iter().enumerate() {
            if self == Self::Replay {
                refresh_patiently(instances, number, token).await.token();
            }
            if self.is_of_an_old_token() {
                let mut token = token.clone();
                for _ in 0..2 {
                    // The stored answer must not be for the request with the old token.
                    let form = [&refresh_form("app", &token)[..], &[("scope", "read")]].concat();
                    token = post_patiently(instances, number, &form).await.token();
                }
            }
        }
    }
}

/// Everything that a request passes through.
#[derive(Clone, Copy)]
pub(crate) struct Stage<'a> {
    pub(crate) server: &'a RedisServer,
    /// The wire of the instances that are to be halted.
    pub(crate) wire: &'a Wire,
    pub(crate) upstream: &'a Upstream,
    /// The number of connections through the wire, each with a share of the refreshes.
    pub(crate) connections: usize,
    /// The tokens with which clients refresh.
    pub(crate) tokens: &'a [String],
}

impl Stage<'_> {
    /// Brings the refreshes that `start` begins to `step`, where they stay until the gate is
    /// opened.
    pub(crate) async fn halt(&self, step: Step, start: impl FnOnce()) -> Gate {
        let gate = Gate::default();
        let refreshes = self.tokens.len();
        let is = |kind: Asked| move |words: &[Bytes]| asked(words) == kind;
        match step {
            Step::Claim => {
                self.hold(is(Asked::Claim), &gate, Fault::Hold);
                start();
                // The other requests wait behind the first one of their connection.
                until("a claim on each connection", || {
                    gate.held() == self.connections
                })
                .await;
            }
            Step::Claimed => {
                self.hold(is(Asked::Claim), &gate, Fault::HoldAnswer);
                self.applied(refreshes, start, || gate.held() == refreshes)
                    .await;
            }
            Step::Upstream => self.at_upstream(refreshes, &gate, start).await,
            Step::Commit | Step::Converge => {
                let (granted, doors) = (self.upstream.rotations(), Gate::default());
                self.at_upstream(refreshes, &doors, start).await;
                self.hold(is(Asked::Commit), &gate, Fault::Hold);
                doors.open();
                until("the upstream has answered", || {
                    self.upstream.rotations() == granted + refreshes
                })
                .await;
                until("a commit on each connection", || {
                    gate.held() == self.connections
                })
                .await;
            }
            Step::Committed | Step::Converged => {
                let doors = Gate::default();
                self.at_upstream(refreshes, &doors, start).await;
                self.hold(is(Asked::Commit), &gate, Fault::HoldAnswer);
                self.applied(refreshes, || doors.open(), || gate.held() == refreshes)
                    .await;
            }
            Step::Replay => {
                self.hold(is(Asked::Replay), &gate, Fault::Hold);
                start();
                until("a replay on each connection", || {
                    gate.held() == self.connections
                })
                .await;
            }
            Step::Link => {
                self.hold(self.is_link(), &gate, Fault::Hold);
                start();
                until("a link on each connection", || {
                    gate.held() == self.connections
                })
                .await;
            }
            Step::Reclaim => {
                self.hold(self.is_reclaim(), &gate, Fault::Hold);
                start();
                until("another claim on each connection", || {
                    gate.held() == self.connections
                })
                .await;
            }
            Step::Reclaimed => {
                let before = self.wire.held_answers();
                self.hold(self.is_reclaim(), &gate, Fault::HoldAnswer);
                start();
                // The replies to other requests wait behind the first one of their connection.
                until("the reply to another claim on each connection", || {
                    self.wire.held_answers() == before + self.connections
                })
                .await;
            }
        }
        gate
    }

    /// Returns whether a request reads the link of one of the tokens.
    fn is_link(&self) -> impl Fn(&[Bytes]) -> bool + Send + use<> {
        let keys: Vec<_> = self.tokens.iter().map(|t| tokens::link_key(t)).collect();
        move |words| asked(words) == Asked::Replay && keys.iter().any(|key| words[1] == key)
    }

    /// Returns whether a request is a claim with another token than the presented one.
    fn is_reclaim(&self) -> impl Fn(&[Bytes]) -> bool + Send + use<> {
        let presented: HashSet<_> = self.tokens.iter().map(|t| tokens::hash(t)).collect();
        move |words| asked(words) == Asked::Claim && !presented.contains(&words[4][..])
    }

    fn hold(
        &self,
        fits: impl Fn(&[Bytes]) -> bool + Send + 'static,
        gate: &Gate,
        fault: fn(Arc<Notify>) -> Fault,
    ) {
        let gate = gate.clone();
        self.wire.hook(
            move |words| match fits(words).then(|| gate.hold()).flatten() {
                Some(held) => fault(held),
                None => Fault::Pass,
            },
        );
    }

    async fn at_upstream(&self, refreshes: usize, gate: &Gate, start: impl FnOnce()) {
        let seen = self.upstream.refreshes();
        for _ in 0..refreshes {
            self.upstream.then(Act::Wait(gate.hold().unwrap()));
        }
        start();
        until("the upstream has them all", || {
            self.upstream.refreshes() == seen + refreshes
        })
        .await;
    }

    /// Waits until the server has run as many scripts as `start` makes it run.
    async fn applied(&self, scripts: usize, start: impl FnOnce(), sent: impl FnMut() -> bool) {
        let before = self.scripts().await;
        start();
        until("all were sent", sent).await;
        let end = Instant::now() + LIMIT;
        while self.scripts().await < before + scripts {
            assert!(Instant::now() < end, "not all have run: {:?}", self.server);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn scripts(&self) -> usize {
        let stats = self.server.info("commandstats").await;
        let calls = |name: &str| {
            let counted = stats.get(name)?.strip_prefix("calls=")?.split(',').next()?;
            counted.parse::<usize>().ok()
        };
        calls("cmdstat_evalsha").unwrap_or_default() + calls("cmdstat_eval").unwrap_or_default()
    }
}
