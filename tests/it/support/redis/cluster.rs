//! A cluster of three primaries, each with a third of the slots.

use clerk_relay::config::RedisUrl;
use clerk_relay::config::redis_url::Topology;

use super::super::relay::eventually;
use super::{RedisServer, free_port, tcp_url};

/// The last slot of each node.
const LAST_SLOTS: [u16; 3] = [5460, 10_922, 16_383];

/// Three primaries that know each other.
pub struct RedisCluster {
    pub nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// A cluster whose state is ok on every node.
    pub async fn start() -> Self {
        let mut nodes = Vec::new();
        for _ in LAST_SLOTS {
            let bus = free_port().to_string();
            let args = [
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                "1000",
                "--cluster-port",
                &bus,
                // The rest goes on where one node is down, as far as it can.
                "--cluster-require-full-coverage",
                "no",
            ];
            nodes.push((RedisServer::start_with(&args).await, bus));
        }
        let mut first = 0;
        for (number, ((node, _), last)) in nodes.iter().zip(LAST_SLOTS).enumerate() {
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]).await;
            node.command(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]).await;
            first = last + 1;
        }
        let (head, others) = nodes.split_first().unwrap();
        for (node, bus) in others {
            head.0.command(&["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string(), bus]).await;
        }
        let cluster = Self { nodes: nodes.into_iter().map(|(node, _)| node).collect() };
        cluster.settle().await;
        cluster
    }

    /// Waits until every node sees the whole cluster in order.
    pub async fn settle(&self) {
        for node in &self.nodes {
            eventually("the cluster is in order", async || {
                let info = node.command(&["CLUSTER", "INFO"]).await;
                let info: String = redis::from_redis_value(info).unwrap();
                let nodes = node.command(&["CLUSTER", "SLOTS"]).await;
                let ranges = nodes.as_sequence().map_or(0, <[redis::Value]>::len);
                let whole = info.contains("cluster_state:ok")
                    && info.contains("cluster_known_nodes:3")
                    && info.contains("cluster_slots_ok:16384");
                (whole && ranges == LAST_SLOTS.len()).then_some(())
            })
            .await;
        }
    }

    /// The cluster as the relay reaches it through this node alone.
    pub fn redis_url_by(&self, node: usize) -> RedisUrl {
        tcp_url(&[self.nodes[node].port()], Topology::Cluster)
    }

    /// The cluster as the relay reaches it through all nodes.
    pub fn redis_url(&self) -> RedisUrl {
        let ports: Vec<u16> = self.nodes.iter().map(RedisServer::port).collect();
        tcp_url(&ports, Topology::Cluster)
    }

    /// The node that holds the slot of `key`, as an index into `nodes`.
    pub async fn owner(&self, key: &str) -> usize {
        let slot = self.nodes[0].command(&["CLUSTER", "KEYSLOT", key]).await;
        let slot: u16 = redis::from_redis_value(slot).unwrap();
        LAST_SLOTS.iter().position(|last| slot <= *last).unwrap()
    }
}
