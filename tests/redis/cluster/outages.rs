//! Nodes that are unreachable, hang or restart.

use std::time::Duration;

use test_support::entries::{LEASE, TAG, entry, put, version};
use test_support::redis::Cluster;
use tower_oauth_refresh::RedisStore;
use tower_oauth_refresh::store::{Lease, Store, StoreError, Swap};

use super::{PATIENCE, a_key_on_each_node, eventually};

#[tokio::test]
async fn the_store_reconnects_to_a_restarted_cluster() {
    let cluster = Cluster::start_with(|node| node.config("appendonly", "yes")).await;
    let store = RedisStore::builder(&cluster.url())
        .command_timeout(Duration::from_secs(5))
        .connect()
        .await
        .unwrap();
    let keys = a_key_on_each_node(&cluster, &store).await;
    for node in cluster.nodes() {
        node.kill();
    }
    for key in &keys {
        let outcome = tokio::time::timeout(PATIENCE, store.get(key))
            .await
            .expect("it fails within the time limit");
        assert!(
            matches!(outcome, Err(StoreError::Unavailable(_))),
            "{outcome:?}"
        );
    }
    for node in cluster.nodes() {
        node.restart().await;
    }
    cluster.ready().await;
    for key in &keys {
        let swap = eventually("a restarted cluster", async || {
            put(&store, key, None, 1).await
        })
        .await;
        assert_eq!(swap, Swap::Swapped);
    }
}

/// The store reconnects to a node that was killed and to one whose connections were closed. The
/// other nodes are usable in the meantime.
#[tokio::test]
async fn an_unreachable_node_does_not_affect_the_others() {
    let cluster =
        Cluster::start_with(|node| node.config("cluster-require-full-coverage", "no")).await;
    let store = RedisStore::builder(&cluster.url())
        .command_timeout(Duration::from_secs(5))
        .connect()
        .await
        .unwrap();
    let keys = a_key_on_each_node(&cluster, &store).await;
    let [first, others @ ..] = &*keys else {
        panic!("there are three")
    };
    cluster.nodes()[0].kill();
    let outcome = tokio::time::timeout(PATIENCE, store.get(first))
        .await
        .expect("it fails within the time limit");
    assert!(
        matches!(outcome, Err(StoreError::Unavailable(_))),
        "{outcome:?}"
    );
    for key in others {
        eventually("the other nodes", async || store.get(key).await).await;
        eventually("the other nodes", async || {
            put(&store, key, None, 1).await.map(drop)
        })
        .await;
    }
    cluster.nodes()[0].restart().await;
    cluster.ready().await;
    eventually("the thawed node", async || {
        put(&store, first, None, 1).await.map(drop)
    })
    .await;

    for node in cluster.nodes() {
        node.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
            .await;
    }
    for key in &keys {
        eventually("all nodes", async || store.get(key).await).await;
    }
}

/// One node accepts connections and never responds. The others work, and a new store can connect if
/// its URL names another node. If the URL names only that node, the existing connections are kept.
#[tokio::test]
async fn a_hanging_node_does_not_affect_the_others() {
    for named in [0..3, 1..3, 0..1] {
        let cluster =
            Cluster::start_with(|node| node.config("cluster-require-full-coverage", "no")).await;
        let nodes: Vec<_> = cluster.nodes()[named.clone()]
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port()))
            .collect();
        let url = format!("redis-cluster://{}", nodes.join(","));
        let connect = || {
            RedisStore::builder(&url)
                .command_timeout(Duration::from_secs(2))
                .connect()
        };
        let store = connect().await.unwrap();
        let keys = a_key_on_each_node(&cluster, &store).await;
        for key in &keys {
            assert_eq!(put(&store, key, None, 1).await.unwrap(), Swap::Swapped);
        }
        let [first, others @ ..] = &*keys else {
            panic!("there are three")
        };
        cluster.nodes()[0].freeze();
        let (mut stores, mut number) = (vec![store], 1);
        for round in 0..4 {
            if round == 2 && named.end == 3 {
                stores.push(
                    connect()
                        .await
                        .unwrap_or_else(|error| panic!("{named:?}: {error:?}")),
                );
            }
            for store in &stores {
                let outcome = tokio::time::timeout(PATIENCE, store.get(first))
                    .await
                    .expect("it fails within the time limit");
                assert!(
                    matches!(outcome, Err(StoreError::Unavailable(_))),
                    "{outcome:?}"
                );
                for key in others {
                    let claim = async || store.claim(key, &TAG, version(number + 1), LEASE).await;
                    let claim = eventually("a claim on another node", claim).await.unwrap();
                    assert_eq!(claim.lease, Lease::Taken);
                    let swap = async || put(store, key, Some(number + 1), number + 2).await;
                    assert_eq!(
                        eventually("a swap on another node", swap).await,
                        Swap::Swapped
                    );
                }
                number += 2;
            }
        }
        cluster.nodes()[0].thaw();
        for store in &stores {
            assert_eq!(
                eventually("the thawed node", async || store.get(first).await).await,
                Some(entry(1))
            );
        }
    }
}

/// Only one node of three answers, and the URL does not name it. The existing connections are kept,
/// however often the store tries to replace them.
#[tokio::test]
async fn one_node_that_answers_keeps_the_connections() {
    let cluster = Cluster::start_with(|node| {
        // The nodes must not notice that the others hang.
        node.config("cluster-node-timeout", "600000")
    })
    .await;
    let url = format!("redis-cluster://127.0.0.1:{}", cluster.nodes()[0].port());
    let store = RedisStore::builder(&url)
        .command_timeout(Duration::from_secs(2))
        .connect()
        .await
        .unwrap();
    let keys = a_key_on_each_node(&cluster, &store).await;
    assert_eq!(put(&store, &keys[2], None, 1).await.unwrap(), Swap::Swapped);
    cluster.nodes()[0].freeze();
    cluster.nodes()[1].freeze();
    for round in 0..10 {
        let outcome = tokio::time::timeout(PATIENCE, store.get(&keys[round % 2]))
            .await
            .expect("it fails within the time limit");
        assert!(
            matches!(outcome, Err(StoreError::Unavailable(_))),
            "{outcome:?}"
        );
        let found = eventually("the node that answers", async || store.get(&keys[2]).await).await;
        assert_eq!(found, Some(entry(1)), "round {round}");
    }
}
