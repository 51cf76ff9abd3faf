//! The store replaces a connection over which replies are lost, repeated, swapped or invented, and
//! no call accepts the reply to another.

mod channel;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use test_support::Upstream;
use test_support::entries::{
    HOUR, LEASE, NAME, TAG, entry, every_call, insert, put, put_with, random_key, remove, version,
};
use test_support::redis::{Cluster, Fault, RedisServer, Wire};
use tokio::task::JoinSet;
use tower_oauth_refresh::EventKind;
use tower_oauth_refresh::store::{Key, Lease, RedisStore, Store, StoreError, Swap};

use crate::faults::{assert_nothing_lost, events, go_on, instance, log_in_many, refresh_patiently};
use crate::replicas::waiting;

/// The time limit for an event that is certain to occur.
const PATIENCE: Duration = Duration::from_secs(60);

/// The number of concurrent calls.
const CALLS: usize = 8;

/// Replies that no call can have, which replace a real one. Some consist of several replies, or of
/// none.
const REPLIES: [&[u8]; 16] = [
    b"",
    b":1\r\n",
    b":0\r\n",
    b"$-1\r\n",
    b"*-1\r\n",
    b"_\r\n",
    b"+OK\r\n",
    b"+PONG\r\n",
    b"$5\r\nhello\r\n",
    b"*0\r\n",
    b"*1\r\n:1\r\n",
    b"*2\r\n$8\r\n12345678\r\n:1\r\n",
    b"*2\r\n$8\r\n12345678\r\n$-1\r\n",
    b":1\r\n:1\r\n:1\r\n",
    b">2\r\n$6\r\nfrench\r\n:1\r\n",
    b"~1\r\n:1\r\n",
];

/// Replies larger than any that the store asks for. The first bytes must be enough to detect that.
const HUGE: [&[u8]; 6] = [
    b"$2000000000\r\naaaa",
    b"*1000000000\r\n:1\r\n",
    b"*2\r\n$8\r\n12345678\r\n$2000000000\r\naaaa",
    b"%1000000000\r\n:1\r\n",
    b"=2000000000\r\ntxt:",
    b"!2000000000\r\nERR ",
];

fn faults() -> Vec<Fault> {
    let made_up = REPLIES
        .iter()
        .chain(&HUGE)
        .map(|reply| Fault::Replace(Bytes::from_static(reply)));
    [Fault::Double, Fault::Overtaken, Fault::LoseAnswer]
        .into_iter()
        .chain(made_up)
        .collect()
}

/// Applies a fault to one request of this command that others are certain to follow.
fn third(wire: &Wire, command: &'static [u8], fault: &Fault) -> Arc<AtomicUsize> {
    let seen = Arc::new(AtomicUsize::new(0));
    let (fault, count) = (fault.clone(), Arc::clone(&seen));
    wire.hook(move |words| {
        let fits = words[0].eq_ignore_ascii_case(command);
        if fits && count.fetch_add(1, Ordering::SeqCst) == 2 {
            fault.clone()
        } else {
            Fault::Pass
        }
    });
    seen
}

/// A kind of call. The order is one in which calls with one key succeed.
#[derive(Clone, Copy, Debug)]
enum Op {
    GetNothing,
    Insert,
    Get,
    Sidecar,
    Claim,
    Swap,
    Conflict,
    Remove,
}

impl Op {
    const ALL: [Self; 8] = [
        Self::GetNothing,
        Self::Insert,
        Self::Get,
        Self::Sidecar,
        Self::Claim,
        Self::Swap,
        Self::Conflict,
        Self::Remove,
    ];

    fn command(self) -> &'static [u8] {
        match self {
            Self::GetNothing | Self::Get | Self::Sidecar => b"GET",
            _ => b"EVALSHA",
        }
    }

    /// Makes the call. Returns the result as an error if it is wrong. Versions differ from key to
    /// key.
    async fn run(self, store: &RedisStore, key: &Key, number: u64) -> Result<(), String> {
        let fail = |error: StoreError| format!("{self:?} {number}: {error:?}");
        let found = match self {
            Self::GetNothing => store.get(key).await.map_err(fail)?.is_none(),
            Self::Insert => {
                let also = if number.is_multiple_of(2) {
                    "even"
                } else {
                    "odd"
                };
                put_with(store, key, None, number, HOUR, Some(also))
                    .await
                    .map_err(fail)?
                    == Swap::Swapped
            }
            Self::Get => store.get(key).await.map_err(fail)? == Some(entry(number)),
            Self::Sidecar => {
                let also = if number.is_multiple_of(2) {
                    "even"
                } else {
                    "odd"
                };
                store.sidecar(key, &NAME).await.map_err(fail)?.as_deref() == Some(also.as_bytes())
            }
            Self::Claim => {
                let claim = store
                    .claim(key, &TAG, version(number + 100), LEASE)
                    .await
                    .map_err(fail)?;
                let Some(claim) = claim else {
                    return Err(format!("nothing claimed: {number}"));
                };
                claim.lease == Lease::Taken
                    && claim.entry.version == version(number + 100)
                    && claim.entry.value == entry(number).value
            }
            Self::Swap => {
                put(store, key, Some(number + 100), number + 200)
                    .await
                    .map_err(fail)?
                    == Swap::Swapped
            }
            Self::Conflict => {
                let conflict = Swap::Conflict(Some(entry(number + 200)));
                put(store, key, Some(number + 100), number + 300)
                    .await
                    .map_err(fail)?
                    == conflict
            }
            Self::Remove => remove(store, key, number + 200).await.map_err(fail)? == Swap::Swapped,
        };
        if found {
            Ok(())
        } else {
            Err(format!("{self:?} {number}: the reply to another call"))
        }
    }
}

/// Makes every kind of call with each of the keys, all calls of one kind at once, with a fault on
/// `wire` during them.
async fn with_faults(
    wire: &Wire,
    store: &RedisStore,
    keys: &[Key],
    command: Option<&'static [u8]>,
    fault: &Fault,
) {
    for op in Op::ALL {
        let seen = third(wire, command.unwrap_or(op.command()), fault);
        let mut calls = JoinSet::new();
        for (number, key) in (1..).zip(keys) {
            let (key, store) = (*key, store.clone());
            calls.spawn(async move { op.run(&store, &key, number).await });
        }
        let wrong: Vec<_> = calls
            .join_all()
            .await
            .into_iter()
            .filter_map(Result::err)
            .collect();
        assert!(wrong.is_empty(), "{op:?} and {fault:?}: {wrong:?}");
        let seen = seen.load(Ordering::SeqCst);
        assert!(
            seen > 2 || command.is_some_and(|_| seen == 0),
            "{op:?} and {fault:?}: never reached: {seen}"
        );
    }
    wire.unhook();
}

fn keys() -> Vec<Key> {
    (0..CALLS).map(|_| random_key()).collect()
}

async fn connect(url: &str) -> RedisStore {
    RedisStore::builder(url)
        .command_timeout(PATIENCE)
        .connect()
        .await
        .unwrap()
}

#[tokio::test]
async fn every_call_gets_its_own_reply_despite_faults_in_others() {
    let server = RedisServer::start().await;
    let wire = Wire::in_front_of(server.port()).await;
    let store = connect(&wire.url()).await;
    for fault in faults() {
        with_faults(&wire, &store, &keys(), None, &fault).await;
    }
}

#[tokio::test]
async fn every_call_that_waits_for_replicas_gets_its_own_reply() {
    let (_master, _replica, wire, store) = waiting().await;
    for fault in faults() {
        for command in [&b"EVALSHA"[..], b"WAIT"] {
            if command == b"WAIT"
                && matches!(&fault, Fault::Replace(reply) if reply == &b":0\r\n"[..])
            {
                // This is a possible reply to WAIT: too few replicas.
                continue;
            }
            with_faults(&wire, &store, &keys(), Some(command), &fault).await;
        }
    }
}

/// In RESP3, and with the fault on one node of three.
#[tokio::test]
async fn every_call_of_a_cluster_gets_its_own_reply() {
    let cluster = Cluster::start().await;
    let wires = cluster.wires().await;
    let store = connect(&cluster.url()).await;
    let mut keys = Vec::new();
    while keys.len() < CALLS {
        let key = random_key();
        insert(&store, &key).await;
        if cluster.nodes()[0].dump().await.len() == 2 {
            keys.push(key);
        }
        assert_eq!(remove(&store, &key, 1).await.unwrap(), Swap::Swapped);
        for node in cluster.nodes() {
            node.command(&["FLUSHALL"]).await;
        }
    }
    for fault in faults() {
        // The client library buffers what a node of a cluster sends.
        if matches!(&fault, Fault::Replace(reply) if HUGE.contains(&&reply[..])) {
            continue;
        }
        with_faults(&wires[0], &store, &keys, None, &fault).await;
        for call in every_call(&store, &random_key()).await {
            assert!(call.1.is_ok(), "{fault:?}: {call:?}");
        }
    }
}

/// If no other reply follows a lost one, the time-out of the waiting call detects the loss.
#[tokio::test]
async fn a_lost_last_reply_fails_one_call() {
    let server = RedisServer::start().await;
    let wire = Wire::in_front_of(server.port()).await;
    let store = RedisStore::builder(&wire.url())
        .command_timeout(Duration::from_secs(1))
        .connect()
        .await
        .unwrap();
    let key = random_key();
    insert(&store, &key).await;
    for command in ["GET", "EVALSHA"] {
        wire.once(command, Fault::Replace(Bytes::new()));
        let lost = if command == "GET" {
            store.get(&key).await.map(drop)
        } else {
            store.claim(&key, &TAG, version(2), LEASE).await.map(drop)
        };
        assert!(matches!(lost, Err(StoreError::Unavailable(_))), "{lost:?}");
        let store = connect(&wire.url()).await;
        assert!(store.get(&key).await.unwrap().is_some());
    }
}

/// Random faults under load: at worst a client is told to try again, and no session is lost or used
/// twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_under_load_lose_no_session() {
    const SESSIONS: usize = 40;
    const ROUNDS: usize = 12;
    let (server, upstream) = (RedisServer::start().await, Upstream::new());
    let wire = Wire::in_front_of(server.port()).await;
    let apps = [
        instance(&wire.url(), &upstream).await,
        instance(&wire.url(), &upstream).await,
    ];
    let mut tokens = log_in_many(&apps, SESSIONS).await;
    let injected = Arc::new(AtomicUsize::new(0));
    let (faults, count, mut random) = (faults(), Arc::clone(&injected), StdRng::seed_from_u64(12));
    for _ in 0..ROUNDS {
        let (faults, count, seed) = (faults.clone(), Arc::clone(&count), random.random());
        let mut random = StdRng::seed_from_u64(seed);
        let mut left = 3;
        wire.hook(move |_| {
            if left == 0 || random.random_range(0..SESSIONS) != 0 {
                return Fault::Pass;
            }
            left -= 1;
            count.fetch_add(1, Ordering::SeqCst);
            faults[random.random_range(0..faults.len())].clone()
        });
        let mut clients = JoinSet::new();
        for (number, token) in tokens.into_iter().enumerate() {
            let apps = apps.clone();
            clients.spawn(async move { refresh_patiently(&apps, number, &token).await.token() });
        }
        tokens = clients.join_all().await;
    }
    wire.unhook();
    assert!(injected.load(Ordering::SeqCst) >= ROUNDS, "{injected:?}");
    let (lost, tokens) = go_on(&apps, &tokens).await;
    assert_eq!(lost, 0);
    for app in &apps {
        app.layer.drain().await;
    }
    let events = events(&apps);
    assert_nothing_lost("faults at random", &upstream, &tokens, &events);
    let wrong = [
        EventKind::StoreCorrupt,
        EventKind::ReuseDetected,
        EventKind::Unknown,
        EventKind::Late,
    ];
    assert!(
        events.iter().all(|kind| !wrong.contains(kind)),
        "{events:?}"
    );
}
