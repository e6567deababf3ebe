//! Several relays on one Redis, each a process of its own that can be killed and started again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::app::App;
use super::load::{Doors, number};
use crate::support::clerk::SECRET;
use crate::support::proxy::Proxy;
use crate::support::redis::RedisServer;
use crate::support::relay::{Home, Relay};

/// Of so many events, one fails its first attempts at the flaky app, one fails there for ever, and one fails its first
/// attempt at the ordered app.
const FAILING_EVERY: u64 = 7;
const DEAD_EVERY: u64 = 31;
const ORDERED_FAILING_EVERY: u64 = 13;
/// The most attempts that fail where not all do.
const FAILURES_MAX: u64 = 3;
/// Attempts of a delivery before it is dead.
pub const ATTEMPTS: usize = 5;

/// Relays on one Redis.
pub struct Fleet {
    pub redis: RedisServer,
    config: Value,
    homes: Vec<Home>,
    relays: Vec<Option<Relay>>,
    /// Where they listen: of a killed one, where it did.
    pub doors: Doors,
}

impl Fleet {
    /// Starts a Redis and so many relays with these targets and this lease.
    pub async fn start(relays: usize, targets: Value, lease: &str) -> Self {
        Self::start_with(relays, json!({}), targets, lease).await
    }

    /// The same with more keys of the configuration.
    pub async fn start_with(relays: usize, config: Value, targets: Value, lease: &str) -> Self {
        let redis = RedisServer::start().await;
        let url = redis.url();
        Self::on(redis, &url, relays, config, targets, lease)
    }

    /// One relay that reaches a Redis through a proxy.
    pub async fn start_behind_proxy(targets: Value, lease: &str) -> (Self, Arc<Proxy>) {
        let redis = RedisServer::start().await;
        let proxy = Arc::new(Proxy::to_port(redis.port()).await);
        (Self::on(redis, &proxy.url(), 1, json!({}), targets, lease), proxy)
    }

    fn on(
        redis: RedisServer, url: &str, relays: usize, mut config: Value, targets: Value, lease: &str,
    ) -> Self {
        config["sources"] = json!({ "clerk": { "signing_secrets": [SECRET] } });
        config["targets"] = targets;
        config["store"] = json!({ "url": url, "lease": lease });
        let doors = Arc::new(Mutex::new(vec![String::new(); relays]));
        let homes = (0..relays).map(|_| Home::new()).collect();
        let mut fleet = Self { redis, config, homes, relays: (0..relays).map(|_| None).collect(), doors };
        for index in 0..relays {
            fleet.revive(index);
        }
        fleet
    }

    /// `kill -9` of one relay.
    pub fn kill(&mut self, index: usize) {
        self.take(index).kill();
    }

    /// The relay, to be ended in some other way.
    pub fn take(&mut self, index: usize) -> Relay {
        self.relays[index].take().unwrap()
    }

    /// Starts one relay that was killed.
    pub fn revive(&mut self, index: usize) {
        let (home, config) = (&self.homes[index], &self.config);
        let relay = tokio::task::block_in_place(|| home.start(config));
        self.doors.lock().unwrap()[index].clone_from(&relay.ingress);
        self.relays[index] = Some(relay);
    }

    /// Starts one more relay.
    pub fn add(&mut self) {
        self.homes.push(Home::new());
        self.relays.push(None);
        self.doors.lock().unwrap().push(String::new());
        self.revive(self.relays.len() - 1);
    }

    /// A relay that runs.
    pub fn relay(&self, index: usize) -> &Relay {
        self.relays[index].as_ref().unwrap()
    }

    /// How many run.
    pub fn relays(&self) -> usize {
        self.relays.iter().flatten().count()
    }

    /// Where a relay takes events.
    pub fn door(&self, index: usize) -> String {
        self.doors.lock().unwrap()[index].clone()
    }
}

/// The three apps of a proof: one takes everything, one is flaky and kills some, one must get each subject in order.
pub struct Apps {
    pub steady: App,
    pub flaky: App,
    pub ordered: App,
}

impl Apps {
    pub async fn start() -> Self {
        Self::start_slow(Duration::ZERO).await
    }

    /// The same where each request takes this long.
    pub async fn start_slow(takes: Duration) -> Self {
        let flaky = |id: &str, before: usize| match number(id) {
            _ if is_dead(id) => 500,
            number if number.is_multiple_of(FAILING_EVERY) => {
                let failures = 1 + (number / FAILING_EVERY) % FAILURES_MAX;
                if (before as u64) < failures { 503 } else { 200 }
            }
            _ => 200,
        };
        let ordered = |id: &str, before: usize| match number(id) {
            number if number.is_multiple_of(ORDERED_FAILING_EVERY) && before == 0 => 503,
            _ => 200,
        };
        Self {
            steady: App::start_slow(takes, |_, _| 200).await,
            flaky: App::start_slow(takes, flaky).await,
            ordered: App::start_slow(takes, ordered).await,
        }
    }

    /// Their targets. The breaker is off where apps fail on purpose: nothing is to wait for a probe.
    pub fn targets(&self) -> Value {
        let retry = json!({ "initial": "20ms", "multiplier": 1.5, "max": "200ms", "attempts": ATTEMPTS });
        json!({
            "steady": { "url": self.steady.url, "breaker": { "probe_every": "1s" }, "retry": retry },
            "flaky": { "url": self.flaky.url, "breaker": "off", "retry": retry },
            "ordered": { "url": self.ordered.url, "breaker": "off", "retry": retry, "ordering": "subject" },
        })
    }

    /// With their names.
    pub fn all(&self) -> [(&'static str, &App); 3] {
        [("steady", &self.steady), ("flaky", &self.flaky), ("ordered", &self.ordered)]
    }
}

/// Whether the flaky app fails this event for ever.
pub fn is_dead(id: &str) -> bool {
    number(id).is_multiple_of(DEAD_EVERY)
}
