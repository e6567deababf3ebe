//! A master, its replica and Sentinels that fail over within seconds.

use std::fmt::Write as _;
use std::process::Command;

use clerk_relay::config::RedisUrl;
use clerk_relay::config::redis_url::Topology;

use super::super::relay::eventually;
use super::{Log, RedisServer, binary, free_port, spawn, tcp_url};

/// The master's name.
pub const MASTER: &str = "mymaster";

/// A master, a replica, and Sentinels that watch both.
pub struct SentinelSet {
    pub master: RedisServer,
    pub replica: RedisServer,
    pub sentinels: Vec<RedisServer>,
}

impl SentinelSet {
    /// So many Sentinels (a majority of them decides), all knowing the replica and each other.
    pub async fn start(sentinels: usize) -> Self {
        let (master, replica) = pair().await;
        let quorum = sentinels / 2 + 1;
        let mut watching = Vec::new();
        for _ in 0..sentinels {
            watching.push(sentinel(master.port(), quorum).await);
        }
        let set = Self { master, replica, sentinels: watching };
        set.settle().await;
        set
    }

    async fn settle(&self) {
        let others = (self.sentinels.len() - 1).to_string();
        for sentinel in &self.sentinels {
            eventually("the Sentinel knows everybody", async || {
                let text = format!("{:?}", sentinel.command(&["SENTINEL", "MASTER", MASTER]).await);
                let says = |field: &str, value: &str| {
                    text.contains(&format!("bulk-string('\"{field}\"'), bulk-string('\"{value}\"')"))
                };
                let knows = says("num-slaves", "1") && says("num-other-sentinels", &others);
                knows.then_some(())
            })
            .await;
        }
    }

    pub fn redis_url(&self) -> RedisUrl {
        let ports: Vec<u16> = self.sentinels.iter().map(RedisServer::port).collect();
        tcp_url(&ports, Topology::Sentinel { master: MASTER.to_owned() })
    }

    /// Waits until the replica has become the master.
    pub async fn failed_over(&self) {
        eventually("the replica becomes the master", async || {
            // A Sentinel cuts the connections to whom it promotes, ours too.
            let info = self.replica.try_command(&["INFO", "replication"]).await.ok()?;
            redis::from_redis_value::<String>(info).ok()?.contains("role:master").then_some(())
        })
        .await;
    }
}

/// A server and a replica that is in step with it.
pub async fn pair() -> (RedisServer, RedisServer) {
    let quick = ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"];
    let master = RedisServer::start_with(&quick).await;
    let port = master.port().to_string();
    let replica = RedisServer::start_with(&[&quick[..], &["--replicaof", "127.0.0.1", &port]].concat()).await;
    eventually("the replica is in step", async || {
        (replica.info("master_link_status").await? == "up").then_some(())
    })
    .await;
    (master, replica)
}

async fn sentinel(master: u16, quorum: usize) -> RedisServer {
    let mut sentinel = RedisServer::prepare(Vec::new());
    sentinel.port = free_port();
    let mut text = format!("port {}\nbind 127.0.0.1\ndir {}\n", sentinel.port, sentinel.folder().display());
    writeln!(text, "sentinel monitor {MASTER} 127.0.0.1 {master} {quorum}").unwrap();
    writeln!(text, "sentinel down-after-milliseconds {MASTER} 500").unwrap();
    writeln!(text, "sentinel failover-timeout {MASTER} 5000").unwrap();
    let path = sentinel.folder().join("sentinel.conf");
    std::fs::write(&path, text).unwrap();
    sentinel.log = Log::default();
    sentinel.child = Some(spawn(Command::new(binary()).arg(&path).arg("--sentinel")));
    if let Err(log) = sentinel.ready().await {
        panic!("the Sentinel does not start:\n{log}");
    }
    sentinel
}
