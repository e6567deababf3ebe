//! `kill -9` at seeded random moments under load, many times over one store: every event that was answered 2xx is
//! delivered or dead-lettered, and what came twice was in flight when the relay died.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clerk_relay::cli::sample;
use clerk_relay::clock::Clock;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::StatusCode;
use serde_json::json;

use crate::support::clerk::{Clerk, SECRET};
use crate::support::receiver::{Receiver, Reply};
use crate::support::relay::{Home, Relay, eventually};

/// Kills in the gate. `CLERK_RELAY_KILLS` asks for more.
const KILLS: usize = 30;
/// Senders posting at once.
const SENDERS: usize = 8;
/// Of so many events one fails its first attempt, and one fails for ever.
const FAILING_EVERY: u64 = 7;
const DEAD_EVERY: u64 = 31;
/// Attempts under way at once.
const CONCURRENCY: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_loses_nothing_that_was_answered() {
    let kills = std::env::var("CLERK_RELAY_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let receiver = Receiver::start(|request, before| match number(&request.body) {
        number if is_dead(number) => Reply::status(500),
        number if fails_first(number) && before == 0 => Reply::status(503),
        _ => Reply::status(200),
    })
    .await;
    let home = Home::new();
    let config = json!({
        "sources": { "clerk": { "signing_secrets": [SECRET] } },
        "targets": { "app": {
            "url": receiver.url, "concurrency": CONCURRENCY,
            "breaker": "off", // what ends here is only what fails; nothing must wait for a probe
            "retry": { "initial": "20ms", "multiplier": 1.5, "max": "200ms", "attempts": 4 },
        } },
    });
    let answered = Arc::new(Mutex::new(HashMap::new()));
    let mut dice = rand::rngs::StdRng::seed_from_u64(42);
    for _ in 0..kills {
        let relay = home.start(&config);
        let load = Load::start(&relay, answered.clone());
        // The moment of the kill is a number of answers, not of milliseconds: it means the same on any machine.
        let answers = dice.random_range(1..=200);
        eventually("the relay answers", async || (load.answers() >= answers).then_some(())).await;
        relay.kill();
        load.stop().await;
    }
    let relay = home.start(&config);
    let answered = answered.lock().unwrap().clone();
    let ended = all_ended(&relay).await;
    judge(&answered, &ended, &receiver, kills);
    let (status, _) = relay.stop();
    assert!(status.success());
}

/// What the relay says of each event in the end, by `svix-id`.
struct Ended {
    dead: HashSet<String>,
    /// How often a relay died while it held the delivery: the only excuse for a second delivery.
    takeovers: HashMap<String, usize>,
}

/// Waits until nothing is unfinished.
async fn all_ended(relay: &Relay) -> Ended {
    eventually("everything has ended", async || {
        let target = relay.get("targets").await["targets"][0].clone();
        let unfinished: u64 = ["queued", "in_flight", "waiting", "parked"]
            .iter()
            .map(|state| target[state].as_u64().unwrap())
            .sum();
        (unfinished == 0).then_some(())
    })
    .await;
    let text = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap().to_owned();
    let events = relay.list("events").await;
    let ids: HashMap<_, _> = events.iter().map(|row| (text(row, "id"), text(row, "svix_id"))).collect();
    let mut ended = Ended { dead: HashSet::new(), takeovers: HashMap::new() };
    for row in relay.list("deliveries").await {
        let svix_id = &ids[&text(&row, "event_id")];
        ended.takeovers.insert(svix_id.clone(), row["takeovers"].as_u64().unwrap() as usize);
        if row["state"] == "dead" {
            ended.dead.insert(svix_id.clone());
        }
    }
    ended
}

fn judge(answered: &HashMap<String, u64>, ended: &Ended, receiver: &Receiver, kills: usize) {
    let mut delivered = HashMap::<String, usize>::new();
    let mut seen = HashMap::<String, usize>::new();
    for request in receiver.requests() {
        let id = request.header("svix-id").to_owned();
        let before = seen.entry(id.clone()).or_default();
        let number = number(&request.body);
        let fails = is_dead(number) || (fails_first(number) && *before == 0);
        if !fails {
            *delivered.entry(id).or_default() += 1;
        }
        *before += 1;
    }
    let is_lost = |id: &String| !delivered.contains_key(id) && !ended.dead.contains(id);
    let lost: Vec<_> = answered.keys().filter(|id| is_lost(id)).collect();
    assert!(lost.is_empty(), "{} of {} answered events are lost: {lost:?}", lost.len(), answered.len());
    for (id, number) in answered {
        assert_eq!(ended.dead.contains(id), is_dead(*number), "{id} ({number}) ended in the wrong place");
    }
    for (id, count) in &delivered {
        let takeovers = ended.takeovers[id];
        assert!(count - 1 <= takeovers, "{id} was delivered {count} times and taken over {takeovers} times");
    }
    let twice: usize = delivered.values().map(|count| count - 1).sum();
    println!(
        "{kills} kills: {} answered, {} dead letters, {twice} delivered twice, 0 lost",
        answered.len(),
        ended.dead.len()
    );
}

fn is_dead(number: u64) -> bool {
    number.is_multiple_of(DEAD_EVERY)
}

fn fails_first(number: u64) -> bool {
    number.is_multiple_of(FAILING_EVERY)
}

/// The number that an event's body carries.
fn number(body: &[u8]) -> u64 {
    let body: serde_json::Value = serde_json::from_slice(body).unwrap();
    body["number"].as_u64().unwrap()
}

/// Senders that post until they are stopped, each event with a number, and remember what was answered 2xx.
struct Load {
    answers: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    senders: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(relay: &Relay, answered: Arc<Mutex<HashMap<String, u64>>>) -> Self {
        let (answers, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let senders = (0..SENDERS).map(|_| {
            let (clerk, answered) = (Clerk::new(relay), answered.clone());
            let (answers, stop) = (answers.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let now = Clock::system().now();
                    let (id, number) = (sample::new_id(now), rand::random::<u32>().into());
                    let body = json!({ "type": "user.updated", "data": { "id": format!("user_{number}") }, "number": number });
                    match clerk.post(&id, now, body.to_string().into_bytes()).await {
                        Ok(StatusCode::OK) => {
                            answered.lock().unwrap().insert(id, number);
                            answers.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(status) => panic!("answered {status}"),
                        Err(_) => tokio::time::sleep(Duration::from_millis(1)).await, // killed meanwhile
                    }
                }
            })
        });
        Self { senders: senders.collect(), answers, stop }
    }

    fn answers(&self) -> usize {
        self.answers.load(Ordering::Relaxed)
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for sender in self.senders {
            sender.await.unwrap();
        }
    }
}
