//! `RedisStore` over Redis Cluster: every slot, and any node unreachable and back.

mod outages;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use test_support::entries::{
    LEASE, NAME, TAG, entry, every_call, insert, put, random_key, remove, version,
};
use test_support::redis::{Certificates, Cluster, RedisServer};
use test_support::secrets::Log;
use tower_oauth_refresh::store::{Key, Lease, Store, StoreError, Swap};
use tower_oauth_refresh::{RedisConnectError, RedisStore, RedisStoreBuilder};

/// The time limit for an event that is certain to occur.
const PATIENCE: Duration = Duration::from_secs(60);

/// The rights that the documentation says a user needs, and those that a cluster needs in addition.
const RIGHTS: &str = "~rt:* +get +set +setrange +unlink +time +eval +evalsha +script|load +info +cluster|slots +ping \
                      resetchannels &rt:ended +publish +subscribe";

fn builder(url: &str) -> RedisStoreBuilder {
    RedisStore::builder(url).command_timeout(PATIENCE)
}

/// Returns a key on each node, in the order of the nodes.
async fn a_key_on_each_node(cluster: &Cluster, store: &RedisStore) -> Vec<Key> {
    let mut keys = vec![None; cluster.nodes().len()];
    while keys.contains(&None) {
        let key = random_key();
        insert(store, &key).await;
        for (node, found) in cluster.nodes().iter().zip(&mut keys) {
            if !node.dump().await.is_empty() {
                *found = Some(key);
            }
        }
        remove(store, &key, 1).await.map(drop).unwrap();
        for node in cluster.nodes() {
            node.command(&["FLUSHALL"]).await;
        }
    }
    keys.into_iter().flatten().collect()
}

async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, StoreError>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(error) => assert!(Instant::now() < end, "not in time: {what}: {error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Scripts, sidecars and removals work on every node, also where the scripts were flushed.
#[tokio::test]
async fn every_slot_is_usable() {
    let cluster = Cluster::start().await;
    let store = builder(&cluster.url()).connect().await.unwrap();
    for key in a_key_on_each_node(&cluster, &store).await {
        for node in cluster.nodes() {
            node.command(&["SCRIPT", "FLUSH"]).await;
        }
        insert(&store, &key).await;
        assert_eq!(
            store.sidecar(&key, &NAME).await.unwrap(),
            Some(Bytes::from_static(b"sidecar"))
        );
        let claim = store
            .claim(&key, &TAG, version(2), LEASE)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(claim.lease, Lease::Taken);
        assert_eq!(put(&store, &key, Some(2), 3).await.unwrap(), Swap::Swapped);
        assert_eq!(store.get(&key).await.unwrap(), Some(entry(3)));
        assert_eq!(remove(&store, &key, 3).await.unwrap(), Swap::Swapped);
    }
}

/// A slot that moves to another node is followed.
#[tokio::test]
async fn a_moved_slot_is_followed() {
    let cluster = Cluster::start().await;
    let store = builder(&cluster.url()).connect().await.unwrap();
    let key = random_key();
    insert(&store, &key).await;
    let mut from = None;
    for node in cluster.nodes() {
        if let Some((name, _)) = node.dump().await.into_iter().next() {
            from = Some((node, name));
        }
    }
    let (from, name) = from.expect("it is on one node");
    let to = cluster
        .nodes()
        .iter()
        .find(|node| node.port() != from.port())
        .unwrap();
    let id = |value| redis::from_redis_value::<String>(value).unwrap();
    let (from_id, to_id) = (
        id(from.command(&["CLUSTER", "MYID"]).await),
        id(to.command(&["CLUSTER", "MYID"]).await),
    );
    let slot: u16 =
        redis::from_redis_value(from.command(&[b"CLUSTER", &b"KEYSLOT"[..], &name]).await).unwrap();
    let slot = slot.to_string();
    to.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from_id])
        .await;
    from.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to_id])
        .await;
    for (name, _) in from.dump().await {
        let words = [
            b"MIGRATE",
            &b"127.0.0.1"[..],
            to.port().to_string().as_bytes(),
            &name,
            b"0",
            b"60000",
        ]
        .map(Vec::from);
        let auth = [b"AUTH2".to_vec(), b"fixture".to_vec(), b"fixture".to_vec()];
        from.command(&words.into_iter().chain(auth).collect::<Vec<_>>())
            .await;
        assert!(
            store.get(&key).await.unwrap().is_some(),
            "it is on one of the nodes"
        );
    }
    let claim = store
        .claim(&key, &TAG, version(2), LEASE)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(claim.lease, Lease::Taken);
    for node in [to, from] {
        node.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &to_id])
            .await;
    }
    assert_eq!(store.get(&key).await.unwrap(), Some(claim.entry));
    assert_eq!(
        store.sidecar(&key, &NAME).await.unwrap(),
        Some(Bytes::from_static(b"sidecar"))
    );
    assert_eq!(remove(&store, &key, 2).await.unwrap(), Swap::Swapped);
}

#[tokio::test]
async fn the_documented_cluster_rights_suffice() {
    let cluster = Cluster::start_with(|node| node.user(&format!("app on >secret {RIGHTS}"))).await;
    let store = builder(&cluster.url_with("app:secret@"))
        .connect()
        .await
        .unwrap();
    for _ in 0..12 {
        for (call, outcome) in every_call(&store, &random_key()).await {
            outcome.unwrap_or_else(|error| panic!("{call}: {error:?}"));
        }
    }
    for node in cluster.nodes() {
        let log = node.command(&["ACL", "LOG"]).await;
        let log: Vec<HashMap<String, String>> = redis::from_redis_value(log).unwrap();
        // The documented exception. Redis 6.2 does not name the subcommand, and 7.0 does not know
        // it.
        let denied = log
            .iter()
            .filter(|entry| !["client|setinfo", "client"].contains(&&*entry["object"]));
        assert_eq!(denied.collect::<Vec<_>>(), Vec::<&HashMap<_, _>>::new());
    }
    let error = builder(&cluster.url_with("app:wrong@"))
        .connect()
        .await
        .unwrap_err();
    assert!(
        matches!(error, RedisConnectError::Authentication(_)),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_cluster_can_be_reached_over_tls() {
    let certificates = Certificates::generate();
    let cluster =
        Cluster::start_with(|node| node.tls(&certificates).config("tls-cluster", "yes")).await;
    let url = cluster.url().replace("redis-cluster", "rediss-cluster");
    let store = builder(&url)
        .tls_root_certificates(certificates.ca.as_str())
        .connect()
        .await
        .unwrap();
    for _ in 0..12 {
        insert(&store, &random_key()).await;
    }
    let error = builder(&url).connect().await.unwrap_err();
    assert!(
        matches!(error, RedisConnectError::Unreachable(_)),
        "an unknown authority: {error:?}"
    );
}

/// A write waits for the replicas of the node that holds its key, which has none here.
#[tokio::test]
async fn a_write_waits_for_the_replicas_of_its_node() {
    let cluster = Cluster::start().await;
    let store = builder(&cluster.url())
        .wait_for_replicas(1, Duration::from_millis(100))
        .connect()
        .await
        .unwrap();
    let plain = builder(&cluster.url()).connect().await.unwrap();
    let keys = a_key_on_each_node(&cluster, &plain).await;
    for key in &keys {
        let outcome = put(&store, key, None, 1).await;
        assert!(
            matches!(outcome, Err(StoreError::Unavailable(_))),
            "{outcome:?}"
        );
    }
    // Only the first node gets a replica.
    let replica = RedisServer::builder()
        .config("cluster-enabled", "yes")
        .start()
        .await;
    let first = &cluster.nodes()[0];
    let id: String = redis::from_redis_value(first.command(&["CLUSTER", "MYID"]).await).unwrap();
    replica
        .command(&["CLUSTER", "MEET", "127.0.0.1", &first.port().to_string()])
        .await;
    let end = Instant::now() + PATIENCE;
    while replica
        .try_command(&["CLUSTER", "REPLICATE", &id])
        .await
        .is_err()
    {
        assert!(Instant::now() < end, "it does not become a replica");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let swap = eventually("a replica has it", async || {
        put(&store, &keys[0], None, 1).await
    })
    .await;
    assert_eq!(swap, Swap::Swapped);
    for key in &keys[1..] {
        let outcome = put(&store, key, None, 1).await;
        assert!(
            matches!(outcome, Err(StoreError::Unavailable(_))),
            "on the other nodes: {outcome:?}"
        );
    }
}

/// Every node is inspected.
#[tokio::test]
async fn settings_that_lose_sessions_are_logged_for_every_node() {
    let cluster = Cluster::start_with(|node| node.config("appendonly", "yes")).await;
    cluster.nodes()[2]
        .command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"])
        .await;
    let (log, guard) = Log::capture();
    builder(&cluster.url()).connect().await.unwrap();
    drop(guard);
    let text = log.text();
    let warnings: Vec<_> = text.lines().filter(|line| line.contains("WARN")).collect();
    let [warning] = &*warnings else {
        panic!("{warnings:#?}")
    };
    assert!(
        warning.contains(&cluster.nodes()[2].port().to_string()),
        "{warning}"
    );
}
