//! Corrupt data in Redis is an error, and never decides a request.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use redis::aio::MultiplexedConnection;
use test_support::redis::RedisServer;
use test_support::{Answer, Upstream};
use tokio::task::JoinSet;
use tower_oauth_refresh::EventKind;
use tower_oauth_refresh::store::RedisStore;

use crate::faults::{
    LIMIT, RedisApp, go_on, instance_over, log_in_many, refresh_each, refresh_patiently,
};

const SESSIONS: usize = 50;
const DAMAGES: usize = 200;

/// The layout of an entry: format, version and lease, then tag and value.
const LEASE: std::ops::Range<usize> = 9..15;
const TAG: usize = 15;

/// Returns a stored string after random damage; `None` stands for a value of another type.
fn damage(whole: &[u8], random: &mut StdRng) -> Option<Vec<u8>> {
    let mut bytes = whole.to_vec();
    match random.random_range(0..8) {
        0..3 => {
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..bytes.len());
                bytes[at] ^= 1 << random.random_range(0..8);
            }
        }
        3 => {
            let at = random.random_range(0..TAG + 32);
            bytes[at] ^= 1 << random.random_range(0..8);
        }
        4 => bytes.truncate(random.random_range(0..whole.len())),
        5 => bytes.extend((0..random.random_range(1..100)).map(|_| random.random::<u8>())),
        6 => {
            // The format of the entry, or that of the record.
            let at = if random.random() { 0 } else { TAG + 32 };
            bytes[at] = random.random();
        }
        _ => return None,
    }
    Some(bytes)
}

fn lease(entry: &[u8]) -> u128 {
    entry[LEASE]
        .iter()
        .fold(0, |millis, byte| millis << 8 | u128::from(*byte))
}

/// Returns whether the lease has expired. Taking it over would wait for seconds; tests/takeover.rs
/// covers that.
fn has_run_out(damaged: Option<&[u8]>) -> bool {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_millis();
    damaged.is_some_and(|entry| entry.len() >= LEASE.end && (1..=now).contains(&lease(entry)))
}

/// The expected result of a refresh with the current token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Outcome {
    /// No damaged byte affects the decision.
    Rotated,
    /// The lease is held, or appears to be.
    Busy,
    Corrupt,
}

impl Outcome {
    fn of(whole: &[u8], damaged: Option<&[u8]>) -> Self {
        let Some(damaged) = damaged else {
            return Self::Corrupt;
        };
        let same = damaged.len() == whole.len()
            && damaged[0] == whole[0]
            && damaged[TAG..] == whole[TAG..];
        if !same {
            return Self::Corrupt;
        }
        match lease(damaged) {
            0 => Self::Rotated,
            _ => Self::Busy,
        }
    }

    #[track_caller]
    fn check(self, answer: &Answer, case: &str) {
        let expected = match self {
            Self::Rotated => (200, ""),
            Self::Busy => (503, "temporarily_unavailable"),
            Self::Corrupt => (500, "server_error"),
        };
        assert_eq!(
            answer.error(),
            (expected.0, expected.1.into()),
            "{case}: {answer:?}"
        );
    }
}

async fn start(server: &RedisServer) -> (RedisApp, MultiplexedConnection) {
    let store = RedisStore::builder(&server.url())
        .command_timeout(LIMIT)
        .connect()
        .await
        .unwrap();
    let app = instance_over(store, &Upstream::new(), |builder| {
        builder.rotation_timeout(Duration::from_secs(2))
    });
    let client = redis::Client::open(server.url()).unwrap();
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(LIMIT));
    (
        app,
        client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .unwrap(),
    )
}

/// Replaces the value of a key.
async fn put(redis: &mut MultiplexedConnection, key: &[u8], value: Option<&[u8]>) {
    let mut pipeline = redis::pipe();
    match value {
        Some(value) => pipeline.cmd("SET").arg(key).arg(value).arg("KEEPTTL"),
        None => pipeline
            .atomic()
            .cmd("DEL")
            .arg(key)
            .cmd("RPUSH")
            .arg(key)
            .arg("1")
            .cmd("EXPIRE")
            .arg(key)
            .arg(86400),
    };
    pipeline.query_async::<redis::Value>(redis).await.unwrap();
}

async fn get(redis: &mut MultiplexedConnection, key: &[u8]) -> Vec<u8> {
    redis::cmd("GET").arg(key).query_async(redis).await.unwrap()
}

/// The responses of all sessions.
#[derive(Default)]
struct Responses {
    /// The number of responses that reported a corrupt entry.
    corrupt: AtomicUsize,
    /// The number of requests that were repeated because their response was 503. Such a request may
    /// have found a corrupt entry, too.
    repeated: AtomicUsize,
}

/// Damages and repairs the grant of one session, repeatedly.
async fn session(
    number: usize,
    (key, mut token): (Vec<u8>, String),
    app: RedisApp,
    mut redis: MultiplexedConnection,
    responses: Arc<Responses>,
) -> String {
    let mut random = StdRng::seed_from_u64(number as u64);
    let mut previous = token.clone();
    token = app.refresh(&token).await.token();
    let mut whole = get(&mut redis, &key).await;
    for round in 0..DAMAGES {
        let damaged = damage(&whole, &mut random);
        if damaged.as_ref() == Some(&whole) || has_run_out(damaged.as_deref()) {
            continue;
        }
        put(&mut redis, &key, damaged.as_deref()).await;
        let outcome = Outcome::of(&whole, damaged.as_deref());
        let case = format!(
            "session {number}, round {round}: {outcome:?}: {damaged:02x?}, and was {whole:02x?}"
        );
        let kind = random.random_range(0..8);
        let call = async || match kind {
            0 if outcome == Outcome::Corrupt => app.revoke(&token).await,
            1 if outcome == Outcome::Corrupt => app.refresh(&previous).await,
            _ => app.refresh(&token).await,
        };
        let end = Instant::now() + LIMIT;
        let mut answer = call().await;
        // The time of a request may be over on a busy machine, too.
        while outcome != Outcome::Busy && answer.status == 503 && Instant::now() < end {
            responses.repeated.fetch_add(1, Ordering::SeqCst);
            answer = call().await;
        }
        outcome.check(&answer, &case);
        match outcome {
            Outcome::Rotated => {
                previous = std::mem::replace(&mut token, answer.token());
                whole = get(&mut redis, &key).await;
            }
            Outcome::Busy => {
                put(&mut redis, &key, Some(&whole)).await;
                // Its last claim may have been in progress when the time was over, and be granted
                // only now.
                let answer = refresh_patiently(std::slice::from_ref(&app), 0, &token).await;
                previous = std::mem::replace(&mut token, answer.token());
                whole = get(&mut redis, &key).await;
            }
            Outcome::Corrupt => {
                // The damaged entry is unchanged, except that a lease may have been taken and
                // released.
                if let Some(damaged) = damaged {
                    let left = get(&mut redis, &key).await;
                    assert_eq!(left.len(), damaged.len(), "{case}");
                    assert_eq!(
                        (left.first(), left.get(TAG..)),
                        (damaged.first(), damaged.get(TAG..)),
                        "{case}"
                    );
                }
                put(&mut redis, &key, Some(&whole)).await;
                responses.corrupt.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
    token
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_corrupt_grants_are_errors_and_recover_once_repaired() {
    let server = RedisServer::start().await;
    let (app, redis) = start(&server).await;
    let responses = Arc::<Responses>::default();
    let (mut begun, mut known) = (Vec::new(), HashSet::new());
    for _ in 0..SESSIONS {
        let token = app.log_in("app").await;
        let keys = server.dump().await.into_iter().map(|(key, _)| key);
        let key = keys.filter(|key| known.insert(key.clone())).last().unwrap();
        begun.push((key, token));
    }
    assert_eq!(known.len(), SESSIONS);
    let mut sessions = JoinSet::new();
    for (number, begun) in begun.into_iter().enumerate() {
        sessions.spawn(session(
            number,
            begun,
            app.clone(),
            redis.clone(),
            Arc::clone(&responses),
        ));
    }
    let tokens = sessions.join_all().await;
    app.layer.drain().await;
    let events = app.events();
    let count = |kind| events.iter().filter(|event| **event == kind).count();
    let corrupt = responses.corrupt.load(Ordering::SeqCst);
    let repeated = responses.repeated.load(Ordering::SeqCst);
    let events_of_corruption = count(EventKind::StoreCorrupt);
    assert!(
        (corrupt..=corrupt + repeated).contains(&events_of_corruption),
        "{events_of_corruption} events of {corrupt} responses, {repeated} more were repeated"
    );
    assert!(corrupt > 7000, "{corrupt}");
    let rotated = count(EventKind::Rotated);
    assert!(
        rotated > SESSIONS,
        "too few damages left the decision intact: {rotated}"
    );
    assert_eq!(app.upstream.refreshes(), rotated);
    let expected = [
        EventKind::Issued,
        EventKind::Rotated,
        EventKind::Replayed,
        EventKind::StoreCorrupt,
    ];
    assert!(
        events.iter().all(|kind| expected.contains(kind)),
        "others: {events:?}"
    );
    let (lost, _) = go_on(std::slice::from_ref(&app), &tokens).await;
    assert_eq!(
        (lost, app.upstream.reuses(), app.upstream.alive()),
        (0, 0, SESSIONS)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupt_replay_is_never_returned_and_loses_no_session() {
    let server = RedisServer::start().await;
    let (app, mut redis) = start(&server).await;
    let apps = [app.clone()];
    let mut random = StdRng::seed_from_u64(7);
    let tokens = log_in_many(&apps, SESSIONS).await;
    let mut newest = Vec::new();
    for token in &tokens {
        newest.push(app.refresh(token).await.token());
    }
    for (key, whole) in server.dump().await {
        if !key.windows(2).any(|pair| pair == b"}:") {
            continue;
        }
        let damaged = damage(&whole, &mut random).filter(|damaged| *damaged != whole);
        put(&mut redis, &key, damaged.as_deref()).await;
    }
    app.events();
    let answers = refresh_each(&apps, &tokens).join_all().await;
    let stored: HashSet<_> = newest.iter().collect();
    let converged = answers
        .iter()
        .filter(|answer| answer.status == 200 && stored.contains(&answer.token()))
        .count();
    let corrupt = answers
        .iter()
        .filter(|answer| answer.error() == (500, "server_error".into()))
        .count();
    assert_eq!(converged + corrupt, SESSIONS, "{answers:?}");
    assert!(
        converged > 0 && corrupt > 0,
        "a replay that cannot be decrypted is not replayed, a value of another type is an error"
    );
    let events = app.events();
    assert!(
        events
            .iter()
            .all(|kind| matches!(kind, EventKind::Converged | EventKind::StoreCorrupt)),
        "{events:?}"
    );
    let (lost, _) = go_on(&apps, &newest).await;
    assert_eq!(
        (lost, app.upstream.reuses(), app.upstream.alive()),
        (0, 0, SESSIONS)
    );
}
