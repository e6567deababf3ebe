//! What the store costs: an idle relay's commands, a mark's life, a backlog's bytes.

use std::time::{Duration, Instant};

use clerk_relay::store::ledger::StatsQuery;
use clerk_relay::store::{ClaimWanted, Ingested};
use clerk_relay::telemetry::tally::{Counted, Counter, Tally, minute_of};
use futures_util::StreamExt as _;

use super::{lab_on, options};
use crate::contract::harness::{DAY, Lab, name, new, wanted};
use crate::support::events;
use crate::support::redis::RedisServer;

/// Commands that relays have sent so far, those inside scripts left out.
async fn commands(server: &RedisServer) -> u64 {
    /// Which only the script of a beat calls, and what this test itself sends.
    const NOT_COUNTED: [&str; 7] = ["time", "zscore", "zadd", "zrangebyscore", "zcard", "hget", "info"];
    let text: String = redis::from_redis_value(server.command(&["INFO", "commandstats"]).await).unwrap();
    let calls = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let calls = rest.split(',').next()?.parse::<u64>().ok()?;
        (!NOT_COUNTED.contains(&name) && !name.starts_with("client|")).then_some(calls)
    };
    text.lines().filter_map(calls).sum()
}

#[tokio::test]
async fn an_idle_relay_sends_at_most_two_commands_a_second() {
    const WATCHED: Duration = Duration::from_secs(5);
    let server = RedisServer::start().await;
    let lab = lab_on(&server, &["app", "web", "crm"]).await;
    for target in ["app", "web", "crm"] {
        assert!(lab.claim(target).await.is_empty());
    }
    lab.store.tick().await.unwrap(); // hears of what it declared itself
    let before = commands(&server).await;
    tokio::time::sleep(WATCHED).await; // what is measured is a span of time
    let sent = commands(&server).await - before;
    println!("{sent} commands in {WATCHED:?}");
    assert!((1..=2 * WATCHED.as_secs()).contains(&sent), "{sent} commands in {WATCHED:?}");
}

async fn mark_life(server: &RedisServer, svix_id: &str) -> Duration {
    let life = server.command(&["PTTL", &format!("{{relay}}:mark:clerk:{svix_id}")]).await;
    Duration::from_millis(redis::from_redis_value::<u64>(life).unwrap())
}

#[track_caller]
fn assert_about(life: Duration, wanted: Duration) {
    assert!(life <= wanted && life > wanted - Duration::from_secs(60), "{life:?}, wanted {wanted:?}");
}

#[tokio::test]
async fn a_mark_lives_as_long_as_its_event_may_need_it() {
    let server = RedisServer::start().await;
    // Dedupe, retention, the longest wait; and what is the longest of them.
    for (number, days) in [[8, 7, 3], [2, 9, 3], [1, 7, 14]].into_iter().enumerate() {
        let mut options = options(&server);
        let [dedupe, retention, wait_max] = days.map(|days| days * DAY);
        (options.config.dedupe, options.config.retention, options.wait_max) = (dedupe, retention, wait_max);
        let lab = Lab::new(&super::At(options)).await;
        lab.declare(&["app"]).await;
        let svix_id = format!("msg_{number}");
        new(lab.ingest("clerk", &svix_id, &events::body("user.created", "user_1")).await);
        assert_about(mark_life(&server, &svix_id).await, dedupe.max(retention).max(wait_max));
        let lease = lab.claim_one("app").await;
        lab.die(lease).await;
        assert_about(mark_life(&server, &svix_id).await, 30 * DAY);
    }
}

#[tokio::test]
async fn tallies_run_out_by_themselves() {
    let server = RedisServer::start().await;
    let lab = lab_on(&server, &["app"]).await;
    let minute = minute_of(lab.clock.now());
    let of = Counted::Target(name("app"));
    let tally = Tally { minute, of, counter: Counter::Delivered, count: 1 };
    lab.store.stats(StatsQuery::Add(vec![tally])).await.unwrap();
    let life = server.command(&["PTTL", &format!("{{relay}}:tally:{}", minute.as_ms())]).await;
    let life = Duration::from_millis(redis::from_redis_value::<u64>(life).unwrap());
    assert_about(life, Duration::from_secs(122 * 60));
}

/// A body as large as most of Clerk's.
fn large_body(number: usize) -> String {
    let fill = "x".repeat(1_200 + number * 37 % 1_800);
    format!(r#"{{"type":"user.updated","data":{{"id":"user_{number}","fill":"{fill}"}}}}"#)
}

/// Adds events up to `total`, many at once; returns the bytes of their bodies.
async fn load(lab: &Lab, from: usize, total: usize) -> u64 {
    let one = |number: usize| async move {
        let body = large_body(number);
        let at = lab.clock.now();
        let kept = lab.store.ingest(events::verified("clerk", &format!("msg_{number:08}"), &body, at)).await;
        assert!(matches!(kept, Ok(Ingested::New(_))), "{kept:?}");
        body.len() as u64
    };
    let mut under_way = futures_util::stream::iter(from..total).map(one).buffer_unordered(512);
    let mut bytes = 0;
    while let Some(more) = under_way.next().await {
        bytes += more;
    }
    bytes
}

async fn used_memory(server: &RedisServer) -> u64 {
    server.info("used_memory").await.unwrap().parse().unwrap()
}

/// Calls of scripts so far, and how long they took, in microseconds.
async fn evalsha(server: &RedisServer) -> (u64, u64) {
    let stat = server.info("cmdstat_evalsha").await.unwrap();
    let field = |name: &str| {
        let value = stat.split(',').find_map(|part| part.strip_prefix(name)).unwrap();
        value.parse::<u64>().unwrap()
    };
    (field("calls="), field("usec="))
}

/// What one claim of 16 costs the server, in microseconds; all are given back at the end.
async fn claim_cost(server: &RedisServer, lab: &Lab) -> u64 {
    const CLAIMS: u64 = 20;
    let before = evalsha(server).await;
    let mut leases = Vec::new();
    for _ in 0..CLAIMS {
        leases.extend(lab.claim_with(ClaimWanted { leases_max: 16, ..wanted("app") }).await.leases);
    }
    let after = evalsha(server).await;
    assert_eq!(leases.len(), 16 * CLAIMS as usize);
    for lease in leases {
        lab.deliver(lease).await;
    }
    (after.1 - before.1) / (after.0 - before.0)
}

#[tokio::test]
async fn an_event_of_a_long_backlog_costs_what_one_of_a_short_one_does() {
    const SHORT: usize = 1_000;
    let long = std::env::var("CLERK_RELAY_BACKLOG").ok().and_then(|n| n.parse().ok()).unwrap_or(6_000);
    // Durable answers are not what is measured here, and the disk would set the pace.
    let server = RedisServer::start().await;
    let mut options = options(&server);
    options.config.durability = clerk_relay::config::DurabilityWanted::Relaxed;
    server.config_set("appendfsync", "no").await;
    let lab = super::lab_with(options, &["app"]).await;
    load(&lab, 0, 10).await;
    let mut at = (10, used_memory(&server).await);
    let mut per_event = Vec::new();
    for total in [SHORT, long] {
        let since = Instant::now();
        let body_bytes = load(&lab, at.0, total).await;
        let used = used_memory(&server).await;
        let count = (total - at.0) as u64;
        let (each, body) = ((used - at.1) / count, body_bytes / count);
        let cost = claim_cost(&server, &lab).await;
        println!(
            "{total} events: {each} bytes an event, {} beside a body of {body}; a claim of 16 costs {cost} us; \
             loaded in {:?}",
            each - body,
            since.elapsed()
        );
        per_event.push(each - body);
        at = (total, used_memory(&server).await);
    }
    let [short, long] = per_event[..] else { panic!() };
    assert!(long < short + short / 3, "{long} bytes beside a body, at first {short}");
}
