//! A cluster of three masters.

use std::time::Instant;

use redis::RedisResult;

use super::server::{HOST, LIMIT, POLL};
use super::{Builder, RedisServer, Wire};

/// The first and the last slot of each master.
const SLOTS: [(u16, u16); 3] = [(0, 5460), (5461, 10922), (10923, 16383)];

/// The distance between the client port and the port on which nodes talk to each other.
const BUS: u16 = 10_000;

/// Three masters that share all slots. They are killed when dropped.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<RedisServer>,
}

impl Cluster {
    pub async fn start() -> Self {
        Self::start_with(|builder| builder).await
    }

    /// Starts a cluster whose nodes have further settings, such as `|node| node.password("x")`.
    pub async fn start_with(build: impl Fn(Builder) -> Builder) -> Self {
        let mut nodes = Vec::new();
        for (index, (first, last)) in SLOTS.into_iter().enumerate() {
            let builder = RedisServer::builder().config("cluster-enabled", "yes");
            // A busy machine may suspend a node for a while, which must not count as a failure.
            let node = build(builder.config("cluster-node-timeout", "5000"))
                .start()
                .await;
            // Redis before 7.0 has no ADDSLOTSRANGE.
            let slots = (first..=last).map(|slot| slot.to_string());
            let words = ["CLUSTER", "ADDSLOTS"].map(String::from).into_iter();
            node.command(&words.chain(slots).collect::<Vec<_>>()).await;
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()])
                .await;
            nodes.push(node);
        }
        let (first, others) = nodes.split_first().unwrap();
        for node in others {
            first
                .command(&["CLUSTER", "MEET", HOST, &node.port().to_string()])
                .await;
        }
        let cluster = Self { nodes };
        cluster.ready().await;
        cluster
    }

    /// Waits until every node considers all slots served, as after a restart.
    pub async fn ready(&self) {
        for node in &self.nodes {
            let end = Instant::now() + LIMIT;
            while !is_ready(node).await.is_ok_and(|ready| ready) {
                assert!(Instant::now() < end, "the cluster does not form: {node:?}");
                tokio::time::sleep(POLL).await;
            }
        }
    }

    /// `redis-cluster://127.0.0.1:PORT,…`
    pub fn url(&self) -> String {
        self.url_with("")
    }

    /// [`url`](Self::url) with credentials, such as `user:password@`.
    pub fn url_with(&self, credentials: &str) -> String {
        let nodes = self
            .nodes
            .iter()
            .map(|node| format!("{HOST}:{}", node.port()));
        format!(
            "redis-cluster://{credentials}{}",
            nodes.collect::<Vec<_>>().join(",")
        )
    }

    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// Returns the node that has the slot of this key.
    pub async fn node_of(&self, key: &[u8]) -> &RedisServer {
        let slot = self.nodes[0]
            .command(&[&b"CLUSTER"[..], b"KEYSLOT", key])
            .await;
        let slot = redis::from_redis_value::<u16>(slot).unwrap();
        let index = SLOTS
            .iter()
            .position(|&(first, last)| (first..=last).contains(&slot))
            .unwrap();
        &self.nodes[index]
    }

    /// Puts a wire in front of each node, in order, and restarts the nodes. From now on, the
    /// cluster tells clients the addresses of the wires.
    pub async fn wires(&self) -> Vec<Wire> {
        let mut wires = Vec::new();
        for node in &self.nodes {
            let wire = Wire::in_front_of(node.port()).await;
            // Otherwise the port for the nodes would be computed from the new one.
            node.configure(&format!("cluster-announce-bus-port {}", node.port() + BUS));
            node.configure(&format!("cluster-announce-port {}", wire.port()));
            // Redis before 7.0 reads them only at the start.
            node.stop().await;
            node.restart().await;
            wires.push(wire);
        }
        for node in &self.nodes {
            let end = Instant::now() + LIMIT;
            loop {
                let nodes =
                    redis::from_redis_value::<String>(node.command(&["CLUSTER", "NODES"]).await)
                        .unwrap();
                if wires
                    .iter()
                    .all(|wire| nodes.contains(&format!("{HOST}:{}@", wire.port())))
                {
                    break;
                }
                assert!(
                    Instant::now() < end,
                    "the node does not know the wires: {node:?}"
                );
                tokio::time::sleep(POLL).await;
            }
        }
        self.ready().await;
        wires
    }
}

async fn is_ready(node: &RedisServer) -> RedisResult<bool> {
    let info: String = redis::from_redis_value(node.try_command(&["CLUSTER", "INFO"]).await?)?;
    let wanted = [
        "cluster_state:ok",
        "cluster_slots_ok:16384",
        "cluster_known_nodes:3",
    ];
    Ok(wanted
        .iter()
        .all(|&wanted| info.lines().any(|line| line == wanted)))
}
