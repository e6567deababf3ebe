//! One fact, told once: what stands in the log is counted and told live under the same name, and the minute's counts are
//! in the store when the relay has stopped.

use std::collections::BTreeMap;

use clerk_relay::app::{self, Options, Running, Stopped};
use clerk_relay::clock::{Clock, Timestamp};
use clerk_relay::config;
use clerk_relay::store::ledger::{Ledger as _, StatsQuery};
use clerk_relay::store::sqlite::{self, Memory};
use clerk_relay::telemetry::feed::{Heard, Listener, News};
use clerk_relay::telemetry::tally::{Counted, Counter};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::support::clerk::{Clerk, SECRET};
use crate::support::receiver::{Receiver, Reply};
use crate::support::relay::{PATIENCE, eventually};

/// A relay in this process, with the target `app`.
async fn start(folder: &TempDir, target: Value) -> Running {
    let config = json!({
        "listen": "127.0.0.1:0",
        "admin": { "listen": "127.0.0.1:0" },
        "sources": { "clerk": { "signing_secrets": [SECRET] } },
        "targets": { "app": target },
        "store": { "url": format!("sqlite:{}", folder.path().join("relay.db").display()) },
    });
    let (config, _) = config::load(&config.to_string(), "test", &|_| None).unwrap();
    app::start(config, Options { memory: Memory::Allowed, ..Options::default() }).await.unwrap()
}

/// The next news that is not about a state of no interest here.
async fn next(listener: &mut Listener) -> News {
    match timeout(PATIENCE, listener.next()).await.expect("nothing more is told") {
        Some(Heard::News(news)) => (*news).clone(),
        other => panic!("{other:?}"),
    }
}

/// The next `count` news by their names, each with its own, sorted: ingress and delivery do not wait for each other.
async fn told(listener: &mut Listener, count: usize) -> BTreeMap<String, News> {
    let mut told = BTreeMap::new();
    for _ in 0..count {
        let news = next(listener).await;
        assert!(told.insert(news.name.clone(), news.clone()).is_none(), "{} twice", news.name);
    }
    told
}

#[tokio::test]
async fn what_is_decided_is_told_live_with_the_fields_of_its_line() {
    let receiver = Receiver::start(|request, _| match request.header("svix-id") {
        "msg_gone" => Reply::status(410),
        _ => Reply::status(200),
    })
    .await;
    let folder = TempDir::new().unwrap();
    let running = start(&folder, json!({ "url": receiver.url })).await;
    let clerk = Clerk::at(&format!("http://{}", running.ingress_addr));
    let mut listener = running.telemetry.feed.listen();
    let now = Clock::system().now();
    let body = br#"{"type":"user.created","data":{"id":"user_1"}}"#.to_vec();

    clerk.post("msg_1", now, body.clone()).await.unwrap();
    let first = told(&mut listener, 2).await;
    let (received, attempted) = (&first["event.received"], &first["delivery.attempted"]);
    for news in [received, attempted] {
        assert_eq!(
            (news.svix_id.as_deref(), news.source.as_deref()),
            (Some("msg_1"), Some("clerk")),
            "{news:?}"
        );
        assert_eq!(
            (news.event_type.as_deref(), news.subject.as_deref()),
            (Some("user.created"), Some("user_1"))
        );
        assert!(news.event_id.as_ref().is_some_and(|id| id.starts_with("evt_")) && news.took_ms.is_some());
    }
    assert_eq!(received.event_id, attempted.event_id);
    assert_eq!((attempted.target.as_deref(), attempted.state.as_deref()), (Some("app"), Some("delivered")));
    assert_eq!((attempted.attempt, attempted.status, attempted.error.as_deref()), (Some(1), Some(200), None));

    clerk.post("msg_1", now, body.clone()).await.unwrap();
    let again = told(&mut listener, 1).await;
    assert_eq!(again["event.duplicate"].event_id, received.event_id);

    clerk.post("msg_2", Timestamp::from_secs(1), body.clone()).await.unwrap();
    let refused = &told(&mut listener, 1).await["event.refused"];
    assert_eq!((refused.status, refused.reason.as_deref()), (Some(401), Some("stale_timestamp")));
    assert_eq!((refused.source.as_deref(), refused.svix_id.as_deref()), (Some("clerk"), Some("msg_2")));

    clerk.post("msg_gone", now, body).await.unwrap();
    let gone = told(&mut listener, 3).await;
    let paused = &gone["target.paused"];
    assert_eq!((paused.target.as_deref(), paused.reason.as_deref()), (Some("app"), Some("gone")));
    let attempted = &gone["delivery.attempted"];
    assert_eq!((attempted.state.as_deref(), attempted.reason.as_deref()), (Some("dead"), Some("gone")));
    assert_eq!((attempted.status, attempted.error.as_deref()), (Some(410), Some("status")));

    let counted = running.telemetry.meters.ingress();
    assert_eq!((counted.received, counted.duplicates, counted.refused), (2, 1, 1));
    assert_eq!(running.stop().await, Stopped::Gracefully);
}

#[tokio::test]
async fn a_breaker_that_turns_is_told_live() {
    let fails = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let failing = fails.clone();
    let receiver = Receiver::start(move |_, _| {
        Reply::status(if failing.load(std::sync::atomic::Ordering::Relaxed) { 503 } else { 200 })
    })
    .await;
    let folder = TempDir::new().unwrap();
    let breaker = json!({ "failures": 1, "probe_every": "1s" });
    let running = start(&folder, json!({ "url": receiver.url, "breaker": breaker })).await;
    let mut listener = running.telemetry.feed.listen();
    let clerk = Clerk::at(&format!("http://{}", running.ingress_addr));
    clerk.send("user.created").await;
    let first = told(&mut listener, 3).await;
    let opened = &first["breaker.opened"];
    assert_eq!(
        (opened.target.as_deref(), opened.reason.as_deref()),
        (Some("app"), Some("failures_in_a_row"))
    );
    assert_eq!(
        (opened.state.as_deref(), opened.status, opened.delay_ms),
        (Some("open"), Some(503), Some(1_000))
    );
    fails.store(false, std::sync::atomic::Ordering::Relaxed);
    let closed = loop {
        let news = next(&mut listener).await;
        if news.name == "breaker.closed" {
            break news;
        }
        assert_eq!(news.name, "delivery.attempted");
    };
    assert_eq!((closed.target.as_deref(), closed.reason.as_deref()), (Some("app"), Some("probed")));
    assert_eq!((closed.state.as_deref(), closed.took_ms.is_some()), (Some("closed"), true));
    running.stop().await;
}

#[tokio::test]
async fn the_counts_of_the_last_seconds_are_in_the_store_after_a_stop() {
    let receiver = Receiver::start(|_, before| Reply::status(if before == 0 { 500 } else { 200 })).await;
    let folder = TempDir::new().unwrap();
    let retry = json!({ "initial": "1s", "jitter": 0 });
    let running = start(&folder, json!({ "url": receiver.url, "retry": retry })).await;
    let mut listener = running.telemetry.feed.listen();
    let clerk = Clerk::at(&format!("http://{}", running.ingress_addr));
    clerk.send("user.created").await;
    let mut attempts = 0;
    while attempts < 2 {
        attempts += u32::from(next(&mut listener).await.name == "delivery.attempted");
    }
    assert_eq!(running.stop().await, Stopped::Gracefully);

    let options = || sqlite::Options {
        path: folder.path().join("relay.db"),
        retention: PATIENCE,
        dead_letter_retention: PATIENCE,
        dedupe: PATIENCE,
        size_max_bytes: 1 << 30,
        memory: Memory::Allowed,
        clock: Clock::system(),
        max_page_count: None,
    };
    // A child that another test starts at this moment holds a copy of the lock until it has become its program.
    let (store, _closed) = eventually("the file is free", async || sqlite::open(options()).ok()).await;
    let tallies = store.stats(StatsQuery::Since(Clock::system().now().minus(PATIENCE * 2))).await.unwrap();
    let sum = |of: Counted, counter: Counter| {
        let rows = tallies.iter().filter(|tally| tally.of == of && tally.counter == counter);
        rows.map(|tally| tally.count).sum::<u64>()
    };
    let (source, target) =
        (Counted::Source("clerk".parse().unwrap()), Counted::Target("app".parse().unwrap()));
    assert_eq!(sum(source, Counter::Received), 1);
    assert_eq!((sum(target.clone(), Counter::Failed), sum(target.clone(), Counter::Delivered)), (1, 1));
    let classes: u64 = Counter::ALL[7..].iter().map(|class| sum(target.clone(), *class)).sum();
    assert_eq!(classes, 2, "each attempt is in one class of durations");
}
