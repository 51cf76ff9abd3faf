//! PostgreSQL fails at every step of a rotation and comes back: that costs time, and no session.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use test_support::hooked::{Call, Hooked, Plan};
use test_support::instances::{
    assert_away, events, go_on, log_in_many, refresh_each, refresh_patiently,
};
use test_support::postgres::{PostgresServer, Relay, Session};
use test_support::{Act, App, ManualClock, PATIENCE, Upstream, until};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tower_oauth_refresh::store::TieredStore;
use tower_oauth_refresh::{EventKind, PostgresStore};

type Instance = App<Hooked<TieredStore<PostgresStore>>>;

/// The number of sessions that are in the middle of a rotation when the server fails.
const SESSIONS: usize = 8;

/// The way in which the server fails and comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outage {
    Stopped,
    Frozen,
    Crashed,
    /// An administrator ends every connection. New ones are accepted at once.
    Disconnected,
    ReadOnly,
    /// The network to the server is cut.
    Cut,
    /// The server crashes for good, and its standby is promoted instead.
    FailedOver,
}

/// A server, and what some outages need.
struct Site {
    server: PostgresServer,
    standby: Option<PostgresServer>,
    network: Relay,
    url: String,
}

impl Site {
    async fn start(outage: Outage) -> Self {
        let (server, standby) = if outage == Outage::FailedOver {
            let (server, standby) = PostgresServer::start_pair().await;
            (server, Some(standby))
        } else {
            (PostgresServer::start().await, None)
        };
        let network = Relay::in_front_of(server.port()).await;
        let url = match &standby {
            Some(standby) => PostgresServer::url_of([&server, standby]),
            None if outage == Outage::Cut => network.url(),
            None => server.url(),
        };
        Self {
            server,
            standby,
            network,
            url,
        }
    }

    async fn instance(&self, upstream: &Upstream) -> Instance {
        let store = PostgresStore::builder(&self.url).command_timeout(Duration::from_secs(10));
        let store = TieredStore::new(store.connect().await.unwrap());
        App::over(
            ManualClock::new(),
            Hooked::new(store),
            upstream.clone(),
            |builder| builder.rotation_timeout(Duration::from_secs(2)),
        )
    }
}

impl Outage {
    async fn begin(self, site: &Site) {
        let server = &site.server;
        match self {
            Self::Stopped => server.stop().await,
            Self::Frozen => server.freeze(),
            Self::Crashed | Self::FailedOver => server.crash().await,
            Self::Cut => site.network.cut().await,
            Self::Disconnected => disconnect(server),
            Self::ReadOnly => {
                server.sql("ALTER SYSTEM SET default_transaction_read_only = on");
                server.sql("SELECT pg_reload_conf()");
                server
                    .until("SHOW default_transaction_read_only", "on")
                    .await;
                disconnect(server);
            }
        }
    }

    async fn end(self, site: &Site) {
        let server = &site.server;
        match self {
            Self::Stopped | Self::Crashed => server.restart().await,
            Self::Frozen => server.thaw(),
            Self::Disconnected => {}
            Self::Cut => site.network.mend().await,
            Self::FailedOver => site.standby.as_ref().expect("a standby").promote(),
            Self::ReadOnly => {
                server.sql("ALTER SYSTEM RESET default_transaction_read_only");
                server.sql("SELECT pg_reload_conf()");
            }
        }
    }
}

/// Ends every connection but that of [`Hold`], because a call that it holds could then go on.
fn disconnect(server: &PostgresServer) {
    server.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
                AND query NOT LIKE 'LOCK TABLE%'",
    );
}

/// The step of a rotation at which the server fails.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The server has received the claim, and waits for a lock.
    Claim,
    /// The claim is committed, and its reply waits for a standby.
    Claimed,
    /// The upstream has received the request, and has done nothing.
    Upstream,
    /// The server has received the commit of the rotation, and waits for a lock.
    Commit,
    /// The rotation is committed, and its reply waits for a standby.
    Committed,
    /// The rotation is committed and its response was lost. The client retries, and the stored
    /// response is about to be read.
    Replay,
}

impl Step {
    const ALL: [Self; 6] = [
        Self::Claim,
        Self::Claimed,
        Self::Upstream,
        Self::Commit,
        Self::Committed,
        Self::Replay,
    ];
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_loses_no_session() {
    at_every_step(Outage::Stopped).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_loses_no_session() {
    at_every_step(Outage::Frozen).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_server_loses_no_session() {
    at_every_step(Outage::Crashed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_connections_lose_no_session() {
    at_every_step(Outage::Disconnected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_server_loses_no_session() {
    at_every_step(Outage::ReadOnly).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_network_loses_no_session() {
    at_every_step(Outage::Cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_to_a_synchronous_standby_loses_no_session() {
    at_every_step(Outage::FailedOver).await;
}

/// Runs each step over its own server, all at once, because most of the time is waiting.
async fn at_every_step(outage: Outage) {
    let mut steps = JoinSet::new();
    for step in Step::ALL {
        steps.spawn(at_step(outage, step));
    }
    steps.join_all().await;
}

async fn at_step(outage: Outage, step: Step) {
    let case = format!("{outage:?} at {step:?}");
    let (site, upstream) = (Site::start(outage).await, Upstream::new());
    let server = &site.server;
    let instances = [
        site.instance(&upstream).await,
        site.instance(&upstream).await,
    ];
    let tokens = log_in_many(&instances, SESSIONS).await;
    let idle = log_in_many(&instances, instances.len()).await;

    let (requests, hold) = match step {
        Step::Claim | Step::Claimed => {
            let hold = Hold::at(step, server).await;
            (refresh_each(&instances, &tokens), Some(hold))
        }
        Step::Upstream => {
            let gate = Arc::new(Notify::new());
            for _ in 0..SESSIONS {
                upstream.then(Act::Wait(Arc::clone(&gate)));
            }
            let requests = refresh_each(&instances, &tokens);
            until(&case, || upstream.refreshes() == SESSIONS).await;
            outage.begin(&site).await;
            for _ in 0..SESSIONS {
                gate.notify_one();
            }
            (requests, None)
        }
        Step::Commit | Step::Committed => {
            let (arrived, gate) = hold_calls(&instances, Call::is_commit);
            let requests = refresh_each(&instances, &tokens);
            until(&case, || arrived.load(Ordering::Relaxed) == SESSIONS).await;
            let hold = Hold::at(step, server).await;
            gate.add_permits(SESSIONS);
            (requests, Some(hold))
        }
        Step::Replay => {
            for (number, token) in tokens.iter().enumerate() {
                refresh_patiently(&instances, number, token).await.token();
            }
            let (arrived, gate) = hold_calls(&instances, |call| *call == Call::Sidecar);
            let requests = refresh_each(&instances, &tokens);
            until(&case, || arrived.load(Ordering::Relaxed) == SESSIONS).await;
            outage.begin(&site).await;
            gate.add_permits(SESSIONS);
            (requests, None)
        }
    };
    if let Some(hold) = &hold {
        server.until(hold.waiting, &SESSIONS.to_string()).await;
        outage.begin(&site).await;
    }
    if outage != Outage::Disconnected {
        while_away(&instances, &upstream, &idle).await;
    }
    outage.end(&site).await;
    if let Some(hold) = hold
        && outage != Outage::FailedOver
    {
        hold.end(server);
    }

    // The requests in progress get a response, and every client can go on, whatever that response
    // is.
    let answers = requests.join_all().await;
    assert_eq!(answers.len(), SESSIONS);
    answers
        .iter()
        .filter(|answer| answer.status != 200)
        .for_each(assert_away);
    let (lost, mut tokens) = go_on(&instances, &tokens).await;
    for instance in &instances {
        instance.layer.drain().await;
    }
    let (idle_lost, rest) = go_on(&instances, &idle).await;
    tokens.extend(rest);
    let emitted = events(&instances);
    assert_eq!((lost, idle_lost), (0, 0), "{case}: {emitted:?}");
    assert!(
        !emitted.contains(&EventKind::CommitLost),
        "{case}: {emitted:?}"
    );
    assert_eq!(upstream.reuses(), 0, "{case}");
}

/// A session that makes the server hold the calls that write: by a lock, or without a standby.
struct Hold {
    /// Returns how many calls it holds.
    waiting: &'static str,
    session: Session,
}

impl Hold {
    async fn at(step: Step, server: &PostgresServer) -> Self {
        match step {
            Step::Claim | Step::Commit => Self::with_lock(server).await,
            Step::Claimed | Step::Committed => Self::without_standby(server).await,
            Step::Upstream | Step::Replay => panic!("the server has no call"),
        }
    }

    /// Calls wait before they write.
    async fn with_lock(server: &PostgresServer) -> Self {
        let lock = "BEGIN; LOCK TABLE oauth_refresh.entries IN SHARE ROW EXCLUSIVE MODE";
        let session = server.session(lock);
        let locked =
            "SELECT count(*) FROM pg_locks WHERE mode = 'ShareRowExclusiveLock' AND granted";
        server.until(locked, "1").await;
        Self {
            waiting: "SELECT count(*) FROM pg_locks WHERE NOT granted",
            session,
        }
    }

    /// Calls wait after they have written: for a standby that does not exist.
    async fn without_standby(server: &PostgresServer) -> Self {
        server.sql("CREATE TABLE probes (number int)");
        server.sql("ALTER SYSTEM SET synchronous_standby_names = 'none'");
        server.sql("SELECT pg_reload_conf()");
        // The setting takes effect a moment later.
        loop {
            let session = server.session("INSERT INTO probes VALUES (1); SELECT 1 AS done");
            let fate = "SELECT coalesce((SELECT CASE WHEN wait_event = 'SyncRep' THEN 'waits'
                WHEN query LIKE '%done' THEN 'done' END FROM pg_stat_activity
                WHERE query LIKE 'INSERT INTO probes%' OR query = 'SELECT 1 AS done;' LIMIT 1), '')";
            let end = Instant::now() + PATIENCE;
            let waits = loop {
                match &*server.sql(fate) {
                    "waits" => break true,
                    "done" => break false,
                    _ => assert!(Instant::now() < end, "the probe does nothing"),
                }
            };
            if waits {
                return Self {
                    waiting: "SELECT count(*) - 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'",
                    session,
                };
            }
        }
    }

    /// Lets the calls go on, if the server still has them.
    fn end(self, server: &PostgresServer) {
        server.sql("ALTER SYSTEM RESET synchronous_standby_names");
        server.sql("SELECT pg_reload_conf()");
        drop(self.session);
    }
}

/// Makes the instances hold such calls until the gate has permits. Returns how many have arrived.
fn hold_calls(
    instances: &[Instance],
    fits: impl Fn(&Call) -> bool + Copy + Send + 'static,
) -> (Arc<AtomicUsize>, Arc<Semaphore>) {
    let (arrived, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    for instance in instances {
        let (arrived, gate) = (Arc::clone(&arrived), Arc::clone(&gate));
        let mut held = 0;
        instance.store.hook(move |_, call| {
            if !fits(call) || held == SESSIONS / 2 {
                return Plan::Pass;
            }
            held += 1;
            arrived.fetch_add(1, Ordering::Relaxed);
            let gate = Arc::clone(&gate);
            Plan::after(async move { gate.acquire().await.unwrap().forget() })
        });
    }
    (arrived, gate)
}

/// Checks that requests consume nothing and that clients are asked to retry.
async fn while_away(instances: &[Instance], upstream: &Upstream, idle: &[String]) {
    let seen = upstream.refreshes();
    for (instance, token) in instances.iter().zip(idle) {
        assert_away(&instance.refresh(token).await);
    }
    assert_eq!(
        upstream.refreshes(),
        seen,
        "no other request reached the upstream"
    );
}
