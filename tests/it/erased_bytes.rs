//! After an erasure the bytes are gone, not only out of reach: the files of a SQLite store and the contents of every key
//! in Redis hold the text of a payload, or of a reply that repeats it, nowhere.

use std::time::Duration;

use bytes::Bytes;
use clerk_relay::clock::Clock;
use clerk_relay::event::{EventId, Subject};
use clerk_relay::lifecycle::attempt::{Attempt, ReplyRead};
use clerk_relay::lifecycle::{DeadReason, Start, Transition};
use clerk_relay::store::query::{Erase, EventQuery, Mode, Page, Payload};
use clerk_relay::store::{ClaimWanted, Settle, Store, TargetSpec, redis as redis_store, sqlite};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use redis::Value;

use crate::contract::harness::{self, DAY, MINUTE, Setup, name, wanted};
use crate::support::events;
use crate::support::redis::RedisServer;

const JANE: &str = "user_jane";
/// In every payload about her, and in the replies to it.
const SECRET: &str = "jane.doe@private.example";
/// In those about others.
const OTHER: &str = "john.roe@public.example";

/// Events of one life.
const EVENTS: usize = 350;

/// Targets of which one never takes anything.
fn specs() -> Vec<TargetSpec> {
    let spec = |target| TargetSpec { name: name(target), start: Start::Now, url_digest: String::new() };
    ["app", "crm", "off"].map(spec).to_vec()
}

fn seeds() -> std::ops::RangeInclusive<u64> {
    1..=std::env::var("CLERK_RELAY_WALKS").map_or(2, |text| text.parse().unwrap())
}

/// A payload of 100 bytes to 20 KB.
fn body(random: &mut SmallRng, subject: &str, text: &str) -> String {
    let size = [100, 1_200, 1_200, 5_000, 20_000][random.random_range(0..5)];
    let filler: String = (0..size / 40).map(|_| format!("{text} ")).collect();
    format!(r#"{{"type":"user.updated","data":{{"id":"{subject}","bio":"{filler}"}}}}"#)
}

/// Keeps events about Jane and others, and does with them at random what a relay does: attempts that fail with replies
/// which repeat the payload, successes, dead letters, sweeps.
async fn live(store: &dyn Store, clock: &Clock, seed: u64, events: usize) {
    let mut random = SmallRng::seed_from_u64(seed);
    for number in 0..events {
        let (subject, text) = match random.random_range(0..4) {
            0 => (JANE.to_owned(), SECRET),
            other => (format!("user_{other}"), OTHER),
        };
        let body = body(&mut random, &subject, text);
        let event = events::verified("clerk", &format!("msg_{number:06}"), &body, clock.now());
        store.ingest(event).await.unwrap();
        if number % 7 == 0 {
            attempt_some(store, clock, &mut random).await;
        }
        if number % 50 == 0 {
            clock.advance(DAY);
            store.sweep(500).await.unwrap();
        }
    }
}

async fn attempt_some(store: &dyn Store, clock: &Clock, random: &mut SmallRng) {
    for target in ["app", "crm"] {
        let leases_max = random.random_range(0..20);
        let claimed = store.claim(ClaimWanted { leases_max, ..wanted(target) }).await.unwrap();
        for lease in claimed.leases {
            let transition = match random.random_range(0..10) {
                0..5 => Transition::Wait { after: MINUTE * random.random_range(0..3_000) },
                5 => Transition::Die(DeadReason::Exhausted),
                6 => Transition::Return,
                _ => Transition::Deliver,
            };
            let jane =
                lease.event().unwrap().subject.as_ref().is_some_and(|subject| subject.as_str() == JANE);
            let reply = if jane { SECRET } else { OTHER }.repeat(random.random_range(1..120));
            let attempt =
                transition.counts().then(|| Attempt { reply: Bytes::from(reply), ..attempt_at(clock) });
            store.settle(Settle { lease, transition, attempt }).await.unwrap();
        }
    }
}

fn attempt_at(clock: &Clock) -> Attempt {
    Attempt {
        number: 1,
        at: clock.now(),
        took: Duration::from_millis(5),
        status: Some(500),
        error: None,
        reply: Bytes::new(),
        reply_read: ReplyRead::Whole,
        hint: None,
    }
}

/// Erases everything about Jane; returns how many events that were.
async fn erase(store: &dyn Store, clock: &Clock) -> u64 {
    let (mut after, mut events) = (None, 0);
    loop {
        let subject = Subject::of(JANE).unwrap();
        let step = Erase { subject, as_of: clock.now(), mode: Mode::Apply, max: 50, after };
        let erased = store.erase(step).await.unwrap();
        assert_eq!(erased.in_flight, 0);
        events += erased.events;
        after = erased.next;
        if after.is_none() {
            return events;
        }
    }
}

/// What is still kept about others: all of it is whole.
async fn others(store: &dyn Store, hers: Payload) -> Vec<EventId> {
    let (mut found, mut page) = (Vec::new(), Page::first(500));
    loop {
        let paged = store.events(EventQuery::default(), page).await.unwrap();
        for meta in paged.rows {
            let is_hers = meta.subject.as_deref() == Some(JANE);
            assert_eq!(meta.payload, if is_hers { hers } else { Payload::Kept }, "{meta:?}");
            if !is_hers {
                found.push(meta.id);
            }
        }
        let Some(next) = paged.next else { return found };
        page = Page::after(500, next);
    }
}

fn count(haystack: &[u8], text: &str) -> usize {
    haystack.windows(text.len()).filter(|window| *window == text.as_bytes()).count()
}

fn in_files(folder: &tempfile::TempDir, text: &str) -> Vec<(String, usize)> {
    let files = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap());
    let found = files.map(|file| {
        let name = file.file_name().to_string_lossy().into_owned();
        (name, count(&std::fs::read(file.path()).unwrap(), text))
    });
    found.filter(|(_, count)| *count > 0).collect()
}

#[tokio::test]
async fn the_files_of_a_sqlite_store_hold_nothing_of_it() {
    for seed in seeds() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let options = harness::options(&folder, Setup::default(), &clock);
        let (store, closed) = sqlite::open(options).unwrap();
        store.declare(&specs()).await.unwrap();
        live(&store, &clock, seed, EVENTS).await;
        assert!(!in_files(&folder, SECRET).is_empty());
        let before = others(&store, Payload::Kept).await;
        assert!(erase(&store, &clock).await > 10);
        assert_eq!(in_files(&folder, SECRET), [], "seed {seed}");
        assert_eq!(others(&store, Payload::Erased).await, before);
        assert!(!in_files(&folder, OTHER).is_empty());
        drop(store);
        closed.wait().await;
        assert_eq!(in_files(&folder, SECRET), [], "seed {seed}, closed");
    }
}

/// The content of every key as Redis writes it to disk, deleted entries of the log included.
async fn in_keys(server: &RedisServer, text: &str) -> Vec<(String, usize)> {
    let Value::Array(keys) = server.command(&["KEYS", "*"]).await else { panic!("KEYS lists") };
    let mut found = Vec::new();
    for key in keys {
        let Value::BulkString(key) = key else { panic!("a key is text") };
        let key = String::from_utf8(key).unwrap();
        let Value::BulkString(dump) = server.command(&["DUMP", &key]).await else { continue };
        let count = count(&dump, text) + count(key.as_bytes(), text);
        found.extend((count > 0).then_some((key, count)));
    }
    found
}

#[tokio::test]
async fn the_keys_of_a_redis_store_hold_nothing_of_it() {
    for seed in seeds() {
        let server = RedisServer::start_with(&["--rdbcompression", "no"]).await; // text stays text in a dump
        let clock = Clock::system();
        let options = harness::redis_options(&server, Setup::default(), &clock);
        let (store, closed) = redis_store::open(options).await.unwrap();
        let store: std::sync::Arc<dyn Store> = std::sync::Arc::new(store);
        store.declare(&specs()).await.unwrap();
        live(&*store, &clock, seed, EVENTS).await;
        assert!(!in_keys(&server, SECRET).await.is_empty());
        let before = others(&*store, Payload::Kept).await;
        assert!(erase(&*store, &clock).await > 10);
        assert_eq!(in_keys(&server, SECRET).await, [], "seed {seed}");
        assert_eq!(others(&*store, Payload::Erased).await, before);
        assert!(!in_keys(&server, OTHER).await.is_empty());
        // What has not reached them takes the others from where they are now.
        let wanted = ClaimWanted { leases_max: 1_000, bytes_max: usize::MAX, ..wanted("off") };
        let mut given = Vec::new();
        loop {
            let leases = store.claim(wanted.clone()).await.unwrap().leases;
            if leases.is_empty() {
                break;
            }
            given.extend(harness::ids(&leases));
        }
        given.reverse();
        assert_eq!(given, before, "seed {seed}");
        drop(store);
        tokio::time::timeout(MINUTE, closed.wait()).await.unwrap();
    }
}

/// The append-only file holds it until it is rewritten, as docs/security.md says.
#[tokio::test]
async fn a_rewrite_takes_it_out_of_the_append_only_file() {
    let server = RedisServer::start_with(&["--rdbcompression", "no"]).await;
    let clock = Clock::system();
    let (store, closed) =
        redis_store::open(harness::redis_options(&server, Setup::default(), &clock)).await.unwrap();
    let store: std::sync::Arc<dyn Store> = std::sync::Arc::new(store);
    store.declare(&specs()).await.unwrap();
    live(&*store, &clock, 7, 60).await;
    erase(&*store, &clock).await;
    assert!(in_folder(server.folder(), SECRET) > 0);
    server.command(&["BGREWRITEAOF"]).await;
    while server.info("aof_rewrite_in_progress").await.as_deref() != Some("0") {
        tokio::task::yield_now().await;
    }
    assert_eq!(in_folder(server.folder(), SECRET), 0);
    drop(store);
    tokio::time::timeout(MINUTE, closed.wait()).await.unwrap();
}

fn in_folder(folder: &std::path::Path, text: &str) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| match path.is_dir() {
            true => in_folder(&path, text),
            false => std::fs::read(&path).map_or(0, |bytes| count(&bytes, text)),
        })
        .sum()
}
