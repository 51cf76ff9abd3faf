//! Tests of the fixtures that consist of more than one Redis server.

use std::time::{Duration, Instant};

use redis::cluster::ClusterClientBuilder;
use redis::sentinel::{Sentinel, SentinelNodeConnectionInfo};
use redis::{Client, ConnectionAddr, Value};
use test_support::redis::{Cluster, RedisServer, Sentinels};

/// The time limit for an event that is certain to occur.
const LIMIT: Duration = Duration::from_secs(60);

/// Returns `redis://…` of each host in the URL of a cluster or of sentinels.
fn servers(url: &str) -> Vec<String> {
    let (_, rest) = url.split_once("://").unwrap();
    let (hosts, _) = rest.split_once('/').unwrap_or((rest, ""));
    hosts
        .split(',')
        .map(|host| format!("redis://{host}"))
        .collect()
}

async fn set(server: &RedisServer, key: &str, value: &str) {
    assert_eq!(server.command(&["SET", key, value]).await, Value::Okay);
}

async fn get(server: &RedisServer, key: &str) -> Option<String> {
    redis::from_redis_value(server.command(&["GET", key]).await).unwrap()
}

#[tokio::test]
async fn every_slot_of_a_cluster_is_assigned_to_one_node() {
    // By default a write stays in the memory of the process while the disk is busy.
    let cluster = Cluster::start_with(|node| {
        node.password("secret")
            .config("appendonly", "yes")
            .config("appendfsync", "always")
    })
    .await;
    assert!(
        cluster.url().starts_with("redis-cluster://127.0.0.1:"),
        "{}",
        cluster.url()
    );
    let builder = ClusterClientBuilder::new(servers(&cluster.url()))
        .password("secret")
        .response_timeout(LIMIT);
    let client = builder.connection_timeout(LIMIT).build().unwrap();
    let mut connection = client.get_async_connection().await.unwrap();
    for number in 0..300 {
        let key = format!("key{number}");
        let set: Value = redis::cmd("SET")
            .arg(&key)
            .arg(number)
            .query_async(&mut connection)
            .await
            .unwrap();
        assert_eq!(set, Value::Okay);
        assert_eq!(
            get(cluster.node_of(key.as_bytes()).await, &key).await,
            Some(number.to_string())
        );
    }
    let mut sum = 0;
    for node in cluster.nodes() {
        let keys = node.dump().await.len();
        assert!(keys > 50, "{keys} on one node");
        sum += keys;
    }
    assert_eq!(sum, 300);

    let node = cluster.node_of(b"key7").await;
    node.kill();
    node.restart().await;
    cluster.ready().await;
    assert_eq!(get(node, "key7").await.as_deref(), Some("7"));
}

#[tokio::test]
async fn cluster_clients_connect_through_the_wires() {
    let cluster = Cluster::start().await;
    let wires = cluster.wires().await;
    let builder = ClusterClientBuilder::new([wires[0].url()])
        .response_timeout(LIMIT)
        .connection_timeout(LIMIT);
    let mut connection = builder
        .build()
        .unwrap()
        .get_async_connection()
        .await
        .unwrap();
    for wire in &wires {
        wire.commands();
    }
    for number in 0..60 {
        let set = redis::cmd("SET").arg(number).arg(number).to_owned();
        assert_eq!(
            set.query_async::<Value>(&mut connection).await.unwrap(),
            Value::Okay
        );
    }
    let mut sum = 0;
    for wire in &wires {
        let sets = wire
            .commands()
            .iter()
            .filter(|words| words[0] == "SET")
            .count();
        assert!(sets > 5, "{sets} on one wire");
        sum += sets;
    }
    assert_eq!(sum, 60);
    cluster.ready().await;
}

/// Returns the port of the master that the sentinels report to clients.
async fn master_of(sentinels: &Sentinels) -> u16 {
    let mut client = Sentinel::build(servers(&sentinels.url())).unwrap();
    let settings = redis::RedisConnectionInfo::default().set_password("secret");
    let settings = SentinelNodeConnectionInfo::default().set_redis_connection_info(settings);
    let master: Client = client
        .async_master_for("main", Some(&settings))
        .await
        .unwrap();
    let ConnectionAddr::Tcp(_, port) = master.get_connection_info().addr() else {
        panic!("no address")
    };
    *port
}

#[tokio::test]
async fn a_failover_swaps_master_and_replica() {
    let sentinels = Sentinels::start_with(|server| server.password("secret")).await;
    let url = sentinels.url();
    assert!(
        url.starts_with("redis-sentinel://127.0.0.1:") && url.ends_with("/main"),
        "{url}"
    );
    assert_eq!(servers(&url).len(), 3);
    let (old, new) = (sentinels.master(), sentinels.replica());
    assert_eq!(master_of(&sentinels).await, old.port());
    set(old, "a", "b").await;
    // The write is acknowledged before the replica has it, and a failover may come first.
    let end = Instant::now() + LIMIT;
    while get(new, "a").await.is_none() {
        assert!(Instant::now() < end, "it is not replicated: {new:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for (master, replica) in [(new, old), (old, new)] {
        sentinels.failover().await;
        assert_eq!(
            (sentinels.master().port(), sentinels.replica().port()),
            (master.port(), replica.port())
        );
        assert_eq!(master_of(&sentinels).await, master.port());
        assert_eq!(get(master, "a").await.as_deref(), Some("b"), "{master:?}");
        assert!(
            replica.try_command(&["SET", "a", "c"]).await.is_err(),
            "a replica takes writes"
        );
    }
}

#[tokio::test]
async fn a_killed_master_is_replaced_and_comes_back_as_a_replica() {
    let sentinels = Sentinels::start_with(|server| server.password("secret")).await;
    let (old, new) = (sentinels.master(), sentinels.replica());
    sentinels.kill_master_and_wait().await;
    assert_eq!(
        (sentinels.master().port(), master_of(&sentinels).await),
        (new.port(), new.port())
    );
    set(new, "a", "b").await;
    old.restart().await;
    sentinels.settled().await;
    assert_eq!(get(old, "a").await.as_deref(), Some("b"));
}

#[tokio::test]
async fn a_frozen_master_is_replaced() {
    let sentinels = Sentinels::start().await;
    let (old, new) = (sentinels.master(), sentinels.replica());
    old.freeze();
    sentinels.promoted().await;
    assert_eq!(sentinels.master().port(), new.port());
    old.thaw();
    sentinels.settled().await;
    assert_eq!(old.info("replication").await["role"], "slave");
}
