//! A request that reaches Redis twice has the effect of one.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, SystemTime};

use redis::Value;
use test_support::foreign::log_in_before_at;
use test_support::redis::{Fault, RedisServer, Wire};
use test_support::{Act, Answer, Upstream};
use tower_oauth_refresh::store::RedisStore;

use crate::faults::{
    Asked, LIMIT, RedisApp, asked, assert_nothing_lost, events, go_on, instance_over, log_in_many,
    refresh_each, without_epochs,
};

const SESSIONS: usize = 20;

const ALL: [Asked; 7] = [
    Asked::Insert,
    Asked::Claim,
    Asked::Commit,
    Asked::GiveBack,
    Asked::Remove,
    Asked::Get,
    Asked::Replay,
];

/// Returns two instances that adopt, with time limits long enough for a busy machine.
async fn two_instances(wire: &Wire, upstream: &Upstream) -> [RedisApp; 2] {
    let one = async || {
        let store = RedisStore::builder(&wire.url())
            .command_timeout(LIMIT)
            .connect()
            .await
            .unwrap();
        instance_over(store, upstream, |builder| {
            let builder =
                builder.adopt_until(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 32));
            builder.rotation_timeout(LIMIT)
        })
    };
    [one().await, one().await]
}

/// Runs a client through every kind of request. Returns a summary of the responses.
async fn life([one, other]: &[RedisApp; 2]) -> Vec<(u16, String)> {
    let mut answers = Vec::new();
    let mut noted = |answer: Answer| {
        answers.push(answer.error());
        answer
    };
    let pass =
        |seconds| [one, other].map(|instance| instance.clock.advance(Duration::from_secs(seconds)));
    let first = one.log_in("app").await;
    let second = noted(one.refresh(&first).await).token();
    assert_eq!(
        noted(other.refresh(&first).await).token(),
        second,
        "the replay"
    );
    one.upstream.then(Act::Answer(500, "text/plain", "down"));
    noted(one.refresh(&second).await);
    let third = noted(other.refresh(&second).await).token();
    noted(one.refresh(&second).await);
    pass(7200);
    let recovered = noted(other.refresh(&second).await).token();
    assert_ne!(recovered, third);
    noted(one.refresh_as("thief", &recovered).await);
    noted(one.refresh(&recovered).await).token();
    noted(other.refresh(&third).await);
    pass(7200);
    noted(one.refresh(&first).await);

    let token = other.log_in("app").await;
    one.upstream.then(Act::Answer(500, "text/plain", "down"));
    noted(one.revoke(&token).await);
    noted(other.revoke(&token).await);
    noted(one.refresh(&token).await);
    let foreign = log_in_before_at(&one.upstream, "app").await;
    let adopted = noted(one.refresh(&foreign).await).token();
    assert_eq!(noted(other.refresh(&foreign).await).token(), adopted);
    let next = noted(other.refresh(&adopted).await).token();
    // This grant is not ended.
    noted(one.refresh(&next).await).token();
    answers
}

/// Returns a summary of what Redis stores: the number of values of each length, for entries and
/// sidecars.
async fn shape(server: &RedisServer) -> BTreeMap<(bool, usize), usize> {
    let mut shape = BTreeMap::new();
    for (key, value) in server.dump().await {
        *shape
            .entry((key.windows(2).any(|pair| pair == b"}:"), value.len()))
            .or_default() += 1;
    }
    shape
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_repeated_request_has_no_further_effect() {
    let mut once = None;
    let rows = [vec![]]
        .into_iter()
        .chain(ALL.map(|step| vec![step]))
        .chain([ALL.to_vec()]);
    let mut repeated = HashSet::new();
    for steps in rows {
        let (server, upstream) = (RedisServer::start().await, Upstream::new());
        let wire = Wire::in_front_of(server.port()).await;
        let instances = two_instances(&wire, &upstream).await;
        let (twice, (sender, receiver)) = (steps.clone(), std::sync::mpsc::channel());
        wire.hook(move |words| {
            let step = asked(words);
            if !twice.contains(&step) {
                return Fault::Pass;
            }
            sender.send(step).unwrap();
            Fault::Repeat
        });
        let mut answers = Vec::new();
        for _ in 0..SESSIONS {
            answers.push(life(&instances).await);
        }
        for instance in &instances {
            instance.layer.drain().await;
        }
        let seen = (
            upstream.refreshes(),
            upstream.rotations(),
            upstream.reuses(),
            upstream.alive(),
        );
        let outcome = (answers, events(&instances), seen, shape(&server).await);
        match &once {
            None => once = Some(outcome),
            Some(once) => assert_eq!(*once, outcome, "{steps:?} sent twice"),
        }
        repeated.extend(receiver.try_iter());
    }
    let missing: Vec<_> = ALL.iter().filter(|step| !repeated.contains(step)).collect();
    assert!(missing.is_empty(), "never sent: {missing:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeats_among_sixty_four_concurrent_requests_have_no_effect() {
    let (server, upstream) = (RedisServer::start().await, Upstream::new());
    let wire = Wire::in_front_of(server.port()).await;
    let instances = two_instances(&wire, &upstream).await;
    let mut token = instances[0].log_in("app").await;
    wire.hook(|words| {
        if asked(words) == Asked::Other {
            Fault::Pass
        } else {
            Fault::Repeat
        }
    });
    for _ in 0..5 {
        let answers = refresh_each(&instances, &vec![token; 64]).join_all().await;
        let bodies: HashSet<_> = answers.iter().map(|answer| answer.body.clone()).collect();
        assert_eq!(bodies.len(), 1, "{bodies:?}");
        token = answers[0].token();
    }
    assert_nothing_lost("64 at once", &upstream, &[token], &events(&instances));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_repeats_after_other_writes_have_no_effect() {
    let (server, upstream) = (RedisServer::start().await, Upstream::new());
    let wire = Wire::in_front_of(server.port()).await;
    let instances = two_instances(&wire, &upstream).await;
    wire.commands();
    let tokens = log_in_many(&instances, SESSIONS).await;
    let (lost, tokens) = go_on(&instances, &tokens).await;
    assert_eq!(lost, 0);
    let mut before = server.dump().await;
    let sent = without_epochs(wire.commands());
    assert_eq!(
        sent.len(),
        SESSIONS * 5,
        "an insert, two claims, two commits each"
    );
    for words in sent.iter().chain(sent.iter().rev()) {
        assert_ne!(server.command(words).await, Value::Okay);
    }
    let mut after = server.dump().await;
    before.sort();
    after.sort();
    assert_eq!(before, after);
    let (lost, tokens) = go_on(&instances, &tokens).await;
    assert_eq!(lost, 0);
    assert_nothing_lost("sent again", &upstream, &tokens, &events(&instances));
}
