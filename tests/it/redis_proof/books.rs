//! The end of a proof: the sender's book, the apps' books and the store's records must agree.
//!
//! What a delivery may cost is bounded by its own record: each of its leases makes one request at most, and ends as a
//! recorded attempt or by a take-over. So no app may see more requests than attempts and take-overs are recorded, and
//! a second 2xx needs a take-over of that very delivery.

use std::collections::HashMap;
use std::fmt;
use std::time::Instant;

use reqwest::StatusCode;
use serde_json::Value;

use super::app::{App, Came};
use super::fleet::{ATTEMPTS, Apps, Fleet, is_dead};
use super::load::{Answer, Sender};
use crate::support::relay::{PATIENCE, Relay, client, eventually};

/// Events that are looked up one by one.
const LOOKED_UP_MAX: usize = 200;
/// Posts under way at once.
const POSTS: usize = 16;

/// What the store records of one delivery in the end.
#[derive(Debug)]
struct Record {
    state: String,
    attempts: usize,
    takeovers: usize,
}

/// By target and `svix-id`.
type Records = HashMap<String, HashMap<String, Record>>;

/// One target's line of the result.
#[derive(Debug, Default)]
pub struct Line {
    pub target: &'static str,
    pub delivered: usize,
    pub dead: usize,
    pub lost: usize,
    pub requests: usize,
    /// Requests beyond the first that were answered 2xx.
    pub duplicates: usize,
    /// Take-overs in the store's records.
    pub takeovers: usize,
    /// Duplicates beyond the take-overs of their own delivery.
    pub unexplained: usize,
}

/// What a proof found.
#[derive(Debug)]
pub struct Result {
    pub answered: usize,
    pub lines: Vec<Line>,
}

impl fmt::Display for Result {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{} events were answered 2xx", self.answered)?;
        writeln!(
            out,
            "{:10}{:>11}{:>14}{:>7}{:>10}{:>12}{:>13}{:>13}",
            "target",
            "delivered",
            "dead letters",
            "lost",
            "requests",
            "duplicates",
            "taken over",
            "unexplained"
        )?;
        for line in &self.lines {
            let Line { target, delivered, dead, lost, requests, duplicates, takeovers, unexplained } = line;
            writeln!(
                out,
                "{target:10}{delivered:>11}{dead:>14}{lost:>7}{requests:>10}{duplicates:>12}{takeovers:>13}{unexplained:>13}"
            )?;
        }
        write!(
            out,
            "Each duplicate is of a delivery that the store records as taken over, from a relay whose lease had ended."
        )
    }
}

/// Asks one relay's admin API, always by the same client: making one is slow.
struct Asked {
    client: reqwest::Client,
    url: String,
}

impl Asked {
    fn new(relay: &Relay) -> Self {
        Self { client: client(), url: format!("{}/api/v1", relay.admin) }
    }

    /// Asks until it is answered: a Redis that was just killed may be found only now.
    async fn get(&self, path: &str) -> Value {
        eventually("the admin API answers", async || {
            let reply = self.client.get(format!("{}/{path}", self.url)).send().await.unwrap();
            if reply.status() == StatusCode::SERVICE_UNAVAILABLE {
                return None;
            }
            assert!(reply.status().is_success(), "{path}: {}", reply.status());
            Some(serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap())
        })
        .await
    }

    /// Every row of a list, page by page.
    async fn each_row(&self, list: &str, mut look: impl FnMut(&Value)) {
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("{list}?limit=500{cursor}")).await;
            page["rows"].as_array().unwrap().iter().for_each(&mut look);
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return,
            }
        }
    }
}

/// Waits until nothing is unfinished, as long as there is progress.
pub async fn drained(relay: &Relay) {
    let asked = Asked::new(relay);
    let (mut last, mut since) = (u64::MAX, Instant::now());
    loop {
        let targets = asked.get("targets").await;
        let of = |target: &Value| -> u64 {
            ["queued", "in_flight", "waiting", "parked"]
                .iter()
                .map(|state| target[*state].as_u64().unwrap())
                .sum()
        };
        let unfinished: u64 = targets["targets"].as_array().unwrap().iter().map(of).sum();
        if unfinished == 0 {
            return;
        }
        if unfinished != last {
            (last, since) = (unfinished, Instant::now());
        }
        assert!(since.elapsed() < PATIENCE, "{unfinished} deliveries do not end: {targets:#}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Waits for the end and compares all books.
pub async fn judge(fleet: &Fleet, apps: &Apps, answered: &[String]) -> Result {
    let relay = fleet.relay(0);
    drained(relay).await;
    let records = records(relay).await;
    let mut lines = Vec::new();
    for (target, app) in apps.all() {
        nothing_is_pending(fleet, target).await;
        assert_eq!(app.book(|book| book.unverified), 0, "{target} got requests that do not verify");
        lines.push(line(target, app, answered, &records[target]));
    }
    assert_eq!(apps.ordered.book(|book| book.out_of_order.clone()), [""; 0], "subjects came out of order");
    all_are_known(fleet, apps, answered).await;
    the_dead_are_buried(fleet, apps).await;
    Result { answered: answered.len(), lines }
}

/// Compares the books of one target.
fn line(target: &'static str, app: &App, answered: &[String], records: &HashMap<String, Record>) -> Line {
    assert_eq!(records.len(), answered.len(), "{target}: as many deliveries as events");
    let mut line = Line { target, ..Line::default() };
    let mut lost = Vec::new();
    for id in answered {
        let Some(record) = records.get(id) else {
            lost.push(id);
            continue;
        };
        let Came { requests, taken } = app.came(id);
        let has_died = target == "flaky" && is_dead(id);
        let ended = if has_died { "dead" } else { "delivered" };
        assert_eq!(record.state, ended, "{target}: {id} ended in the wrong place: {record:?}");
        if taken == 0 && !has_died {
            lost.push(id);
        }
        let explained = record.attempts + record.takeovers;
        assert!(requests <= explained, "{target}: {id}: {requests} requests: {record:?}");
        assert!(record.attempts <= ATTEMPTS, "{target}: a take-over of {id} used up an attempt: {record:?}");
        line.delivered += usize::from(taken > 0);
        line.dead += usize::from(has_died);
        line.requests += requests;
        line.duplicates += taken.saturating_sub(1);
        line.takeovers += record.takeovers;
        line.unexplained += taken.saturating_sub(1 + record.takeovers);
    }
    line.lost = lost.len();
    assert_eq!(line.unexplained, 0, "{target}: duplicates without a take-over: {line:?}");
    assert!(
        lost.is_empty(),
        "{target}: {} of {} answered events are lost: {lost:?}",
        lost.len(),
        answered.len()
    );
    line
}

/// What the store records of every delivery.
async fn records(relay: &Relay) -> Records {
    let asked = Asked::new(relay);
    let mut svix_ids = HashMap::new();
    asked
        .each_row("events", |row| {
            let (id, svix_id) = (text(row, "id"), text(row, "svix_id"));
            assert!(svix_ids.insert(id, svix_id).is_none(), "listed twice: {row}");
        })
        .await;
    let mut records = Records::new();
    asked
        .each_row("deliveries", |row| {
            let number = |key: &str| row[key].as_u64().unwrap() as usize;
            let record = Record {
                state: text(row, "state"),
                attempts: number("attempts"),
                takeovers: number("takeovers"),
            };
            let of_target = records.entry(text(row, "target")).or_default();
            let before = of_target.insert(svix_ids[&text(row, "event_id")].clone(), record);
            assert!(before.is_none(), "one event is in the log twice: {row}");
        })
        .await;
    records
}

fn text(row: &Value, key: &str) -> String {
    row[key].as_str().unwrap().to_owned()
}

/// Redis itself has nothing in flight for the target.
async fn nothing_is_pending(fleet: &Fleet, target: &str) {
    let pending = fleet.redis.command(&["XPENDING", "{relay}:ev", target]).await;
    let redis::Value::Array(pending) = pending else { panic!("{pending:?}") };
    assert_eq!(pending[0], redis::Value::Int(0), "{target} has pending entries");
    let act = fleet.redis.command(&["HLEN", &format!("{{relay}}:t:{target}:act")]).await;
    assert_eq!(act, redis::Value::Int(0), "{target} has records in flight");
}

/// Of the relays that died nothing is left: no lease, no consumer in any group.
async fn the_dead_are_buried(fleet: &Fleet, apps: &Apps) {
    let consumers = async |target| {
        let found = fleet.redis.command(&["XINFO", "CONSUMERS", "{relay}:ev", target]).await;
        redis::from_redis_value::<Vec<redis::Value>>(found).unwrap().len()
    };
    let live = fleet.relays();
    eventually("dead relays are forgotten", async || {
        let leases = fleet.redis.command(&["ZCARD", "{relay}:relays"]).await;
        let mut gone = redis::from_redis_value::<usize>(leases).unwrap() == live;
        for (target, _) in apps.all() {
            gone &= consumers(target).await <= live;
        }
        gone.then_some(())
    })
    .await;
}

/// Marks and log agree: each event, posted again, is known, changes nothing, and is found by its `svix-id`.
async fn all_are_known(fleet: &Fleet, apps: &Apps, answered: &[String]) {
    let requests = |apps: &Apps| apps.all().map(|(_, app)| app.requests());
    let (before, door) = (requests(apps), fleet.door(0));
    let posts = answered.chunks(answered.len().div_ceil(POSTS).max(1)).map(|part| {
        let (part, door, sender) = (part.to_vec(), door.clone(), Sender::new());
        tokio::spawn(async move {
            for id in part {
                assert_eq!(sender.post(&door, &id).await, Answer::Known, "{id} was answered 2xx before");
            }
        })
    });
    for post in posts.collect::<Vec<_>>() {
        post.await.unwrap();
    }
    let asked = Asked::new(fleet.relay(0));
    for id in answered.iter().step_by(answered.len().div_ceil(LOOKED_UP_MAX).max(1)) {
        let found = asked.get(&format!("events/{id}")).await;
        assert_eq!(found["svix_id"], **id, "found by its svix-id");
        assert_eq!(found["deliveries"].as_array().unwrap().len(), 3, "{found}");
    }
    drained(fleet.relay(0)).await;
    assert_eq!(requests(apps), before, "what is posted again is not delivered again");
}
