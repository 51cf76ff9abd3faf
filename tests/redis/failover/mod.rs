//! A failover of Redis costs time, and no session that its replicas had received.

mod lost_writes;

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use test_support::redis::{Builder, Certificates, Cluster, Sentinels};
use test_support::{App, Upstream};
use tokio::task::JoinSet;
use tower_oauth_refresh::store::{RedisStore, RedisStoreBuilder};
use tower_oauth_refresh::{Event, EventKind};

use crate::faults::{RedisApp, go_on, instance_over, log_in_many, refresh_patiently, until};

const SESSIONS: usize = 40;

fn durable(builder: Builder) -> Builder {
    builder
        .config("appendonly", "yes")
        .config("appendfsync", "always")
}

async fn two_instances(
    url: &str,
    upstream: &Upstream,
    settings: impl Fn(RedisStoreBuilder) -> RedisStoreBuilder,
) -> [RedisApp; 2] {
    instances(url, upstream, Duration::from_secs(1), settings).await
}

async fn instances(
    url: &str,
    upstream: &Upstream,
    rotation_timeout: Duration,
    settings: impl Fn(RedisStoreBuilder) -> RedisStoreBuilder,
) -> [RedisApp; 2] {
    let one = async || {
        let builder = settings(RedisStore::builder(url).command_timeout(Duration::from_secs(3)));
        instance_over(builder.connect().await.unwrap(), upstream, |builder| {
            builder.rotation_timeout(rotation_timeout)
        })
    };
    [one().await, one().await]
}

/// Clients that refresh continuously, each at one instance after the other.
struct Load {
    clients: JoinSet<Option<String>>,
    over: Arc<AtomicBool>,
}

impl Load {
    fn begin(instances: &[RedisApp], tokens: Vec<String>) -> Self {
        let (mut clients, over) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
        for (number, mut token) in tokens.into_iter().enumerate() {
            let (instances, over) = (instances.to_vec(), Arc::clone(&over));
            clients.spawn(async move {
                let mut round = number;
                while !over.load(Ordering::SeqCst) {
                    round += 1;
                    let answer = refresh_patiently(&instances, round, &token).await;
                    if answer.error() == (400, "invalid_grant".into()) {
                        return None;
                    }
                    token = answer.token();
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Some(token)
            });
        }
        Self { clients, over }
    }

    /// Stops the clients, and returns the tokens of those whose session survives.
    async fn end(self) -> Vec<String> {
        self.over.store(true, Ordering::SeqCst);
        self.clients
            .join_all()
            .await
            .into_iter()
            .flatten()
            .collect()
    }
}

/// Runs `fault` under load, and expects that no session is lost. A failure message includes the
/// state of `servers`.
async fn under_load(
    case: &str,
    (instances, upstream, servers): (&[RedisApp], &Upstream, &impl Debug),
    tokens: Vec<String>,
    fault: impl Future<Output = ()>,
) {
    // In most rotations the lease is taken before the fault, and the response arrives after it.
    upstream.slow_down(Duration::from_millis(30));
    let load = Load::begin(instances, tokens);
    let begun = upstream.refreshes();
    until("load on the instances", || {
        upstream.refreshes() > begun + SESSIONS
    })
    .await;
    fault.await;
    let after = upstream.refreshes();
    until("the clients make progress", || {
        upstream.refreshes() > after + SESSIONS
    })
    .await;
    let tokens = load.end().await;
    let (lost, left) = go_on(instances, &tokens).await;
    let emitted: Vec<_> = instances.iter().map(App::take_events).collect();
    let rotated = emitted
        .iter()
        .flatten()
        .filter(|event| event.kind == EventKind::Rotated)
        .count();
    println!(
        "{case}: {SESSIONS} sessions, {rotated} rotations, {} lost",
        SESSIONS - left.len()
    );
    let kinds = [
        EventKind::CommitLost,
        EventKind::UpstreamRejected,
        EventKind::Ahead,
        EventKind::ReuseDetected,
    ];
    let wrong = emitted
        .iter()
        .flatten()
        .filter(|event| kinds.contains(&event.kind))
        .count();
    let outcome = (wrong, lost, left.len(), upstream.reuses());
    assert_eq!(
        outcome,
        (0, 0, SESSIONS, 0),
        "{case}\n{}\n{servers:?}",
        histories(&emitted)
    );
}

/// Returns all events of the grants with an unexpected event.
fn histories(emitted: &[Vec<Event>]) -> String {
    let usual = [
        EventKind::Issued,
        EventKind::Rotated,
        EventKind::Replayed,
        EventKind::StoreUnavailable,
    ];
    let odd = emitted
        .iter()
        .flatten()
        .filter(|event| !usual.contains(&event.kind));
    let grants: HashSet<_> = odd.map(|event| event.grant).collect();
    let of_each = emitted.iter().enumerate();
    let all = of_each.flat_map(|(number, events)| events.iter().map(move |event| (number, event)));
    let theirs = all.filter(|(_, event)| grants.contains(&event.grant));
    theirs
        .map(|(number, event)| format!("instance {number}: {event:?}\n"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_failover_loses_no_replicated_write() {
    let (sentinels, upstream) = (Sentinels::start().await, Upstream::new());
    let replicas =
        |builder: RedisStoreBuilder| builder.wait_for_replicas(1, Duration::from_secs(2));
    let instances = two_instances(&sentinels.url(), &upstream, replicas).await;
    let tokens = log_in_many(&instances, SESSIONS).await;
    under_load(
        "a planned failover",
        (&instances, &upstream, &sentinels),
        tokens,
        sentinels.failover(),
    )
    .await;
}

/// Servers and sentinels serve only TLS, and require a client certificate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_over_tls_loses_no_replicated_write() {
    let (certificates, upstream) = (Certificates::generate(), Upstream::new());
    let sentinels = Sentinels::start_over_tls(&certificates).await;
    let Certificates { ca, client, .. } = &certificates;
    let replicas = |builder: RedisStoreBuilder| {
        builder
            .tls_root_certificates(ca.as_str())
            .tls_client_certificate(client.certificate.as_str(), client.key.as_str())
            .wait_for_replicas(1, Duration::from_secs(2))
    };
    let instances = two_instances(&sentinels.url(), &upstream, replicas).await;
    let tokens = log_in_many(&instances, SESSIONS).await;
    under_load(
        "a failover over TLS",
        (&instances, &upstream, &sentinels),
        tokens,
        sentinels.failover(),
    )
    .await;
}

/// The old master keeps running for longer than any call waits for replicas: no client gets a token
/// that only the old master has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_master_that_keeps_running_loses_no_replicated_write() {
    let (sentinels, upstream) = (Sentinels::start().await, Upstream::new());
    let replicas = |wait| move |builder: RedisStoreBuilder| builder.wait_for_replicas(1, wait);
    let patient = two_instances(
        &sentinels.url(),
        &upstream,
        replicas(Duration::from_secs(2)),
    )
    .await;
    let tokens = log_in_many(&patient, SESSIONS).await;
    // The earlier a call stops waiting, the more calls reach the old master.
    let instances = two_instances(
        &sentinels.url(),
        &upstream,
        replicas(Duration::from_millis(100)),
    )
    .await;
    let failover = sentinels.slow_failover(Duration::from_secs(4));
    under_load(
        "an old master that goes on",
        (&instances, &upstream, &sentinels),
        tokens,
        failover,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_master_loses_no_replicated_write() {
    let (sentinels, upstream) = (Sentinels::start().await, Upstream::new());
    let replicas =
        |builder: RedisStoreBuilder| builder.wait_for_replicas(1, Duration::from_secs(2));
    let instances = two_instances(&sentinels.url(), &upstream, replicas).await;
    let killed = async {
        sentinels.kill_master_and_wait().await;
        // No call waits longer for the missing replica than it takes to come back.
        sentinels.replica().restart().await;
    };
    let tokens = log_in_many(&instances, SESSIONS).await;
    under_load(
        "a master killed",
        (&instances, &upstream, &sentinels),
        tokens,
        killed,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_cluster_node_that_restarts_loses_nothing() {
    let (cluster, upstream) = (Cluster::start_with(durable).await, Upstream::new());
    let instances = two_instances(&cluster.url(), &upstream, |builder| builder).await;
    let killed = async {
        cluster.nodes()[1].kill();
        tokio::time::sleep(Duration::from_secs(1)).await;
        cluster.nodes()[1].restart().await;
        cluster.ready().await;
    };
    let tokens = log_in_many(&instances, SESSIONS).await;
    under_load(
        "a node of a cluster killed",
        (&instances, &upstream, &cluster),
        tokens,
        killed,
    )
    .await;
}
