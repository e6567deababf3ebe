//! The least rights that the documentation names are enough for everything a store does, and nothing beside its own keys
//! can be reached with them. The line is read from the documentation itself.

use std::sync::Arc;
use std::time::Duration;

use clerk_relay::clock::Clock;
use clerk_relay::lifecycle::{DeadReason, SkipReason, Start, Transition};
use clerk_relay::store::job::{Job, JobAction, JobSpec, JobState};
use clerk_relay::store::ledger::{
    AuditEntry, AuditQuery, JobQuery, JobVerdict, Refusal, RefusalQuery, StatsQuery,
};
use clerk_relay::store::query::{DeliveryQuery, EventQuery, EventRef, Mode, Page, Redrive, RedriveAction};
use clerk_relay::store::redis::{self, Options};
use clerk_relay::store::{ClaimScope, ClaimWanted, Control, PauseReason, Settle, Store, TargetSpec, Turn};

use clerk_relay::telemetry::tally::{Counted, Counter, Tally};

use crate::contract::harness::{self, DAY, MINUTE, Setup, name, wanted, wanted_in_order};
use crate::support::events;
use crate::support::redis::RedisServer;

/// The words of the documented `ACL SETUSER`, without what this server's version does not know.
fn documented() -> Vec<String> {
    let text = include_str!("../../docs/redis.md");
    let line = text.split("<!-- acl -->").nth(1).and_then(|rest| rest.split("```").nth(1));
    let words = line.expect("the documentation has the line").split_whitespace();
    words.filter(|word| *word != "+client|setinfo").map(str::to_owned).collect()
}

async fn server_with_user() -> (RedisServer, Options, Clock) {
    let server = RedisServer::start().await;
    let words = documented();
    server.command(&words.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let clock = Clock::system();
    let mut options = harness::redis_options(&server, Setup::default(), &clock);
    options.url.username = Some("clerk-relay".to_owned());
    options.url.password = Some("PASSWORD".to_owned());
    (server, options, clock)
}

async fn settle_all(store: &dyn Store, wanted: ClaimWanted, transition: Transition) {
    for lease in store.claim(wanted).await.unwrap().leases {
        store.settle(Settle { lease, transition, attempt: None }).await.unwrap();
    }
}

#[tokio::test]
async fn the_documented_rights_are_enough_for_everything() {
    let (_server, options, clock) = server_with_user().await;
    let (store, closed) = redis::open(options).await.unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let spec = |target| TargetSpec { name: name(target), start: Start::Beginning, url_digest: String::new() };
    store.declare(&[spec("app"), spec("crm"), spec("old")]).await.unwrap();
    for number in 0..12 {
        let body = events::body("user.updated", &format!("user_{}", number % 2));
        let event = events::verified("clerk", &format!("msg_{number}"), &body, clock.now());
        store.ingest(event.clone()).await.unwrap();
        store.ingest(event).await.unwrap();
    }
    let few = |target| ClaimWanted { leases_max: 3, ..wanted(target) };
    settle_all(&*store, few("app"), Transition::Deliver).await;
    settle_all(&*store, few("app"), Transition::Die(DeadReason::Exhausted)).await;
    settle_all(&*store, few("app"), Transition::Wait { after: Duration::ZERO }).await;
    settle_all(&*store, few("app"), Transition::Skip(SkipReason::EventType)).await;
    settle_all(&*store, few("app"), Transition::Return).await;
    settle_all(&*store, wanted_in_order("crm"), Transition::Deliver).await;
    settle_all(&*store, wanted("crm"), Transition::Deliver).await; // its lanes are unmade
    let older = ClaimWanted { scope: ClaimScope::OlderThan(Duration::ZERO), ..wanted("old") };
    drop(store.claim(few("old")).await.unwrap());
    settle_all(&*store, older, Transition::Die(DeadReason::TooOld)).await;
    look_and_turn(&*store).await;
    store.declare(&[spec("app"), spec("crm")]).await.unwrap();
    store.control(&name("old"), Control::Forget).await.unwrap();
    store.tick().await.unwrap();
    clock.advance(40 * DAY);
    while store.sweep(500).await.unwrap().events > 0 {}
    drop(store);
    tokio::time::timeout(MINUTE, closed.wait()).await.unwrap();
}

async fn look_and_turn(store: &dyn Store) {
    store.overview().await.unwrap();
    store.events(EventQuery::default(), Page::first(10)).await.unwrap();
    store.event(EventRef::SvixId("msg_1".to_owned())).await.unwrap();
    store.deliveries(DeliveryQuery::default(), Page::first(10)).await.unwrap();
    let refusal = Refusal {
        at: Clock::system().now(),
        source: None,
        status: 401,
        code: "invalid_signature".to_owned(),
        cause: "no secret matches".to_owned(),
        remote: None,
        svix_id: None,
        user_agent: None,
        body_bytes: 0,
    };
    store.refusals(RefusalQuery::Append(vec![refusal])).await.unwrap();
    assert_eq!(store.refusals(RefusalQuery::List(Page::first(10))).await.unwrap().rows.len(), 1);
    ledger(store).await;
    for action in [RedriveAction::Retry, RedriveAction::Replay, RedriveAction::Cancel] {
        store.redrive(Redrive { max: 2, ..harness::redrive(action) }).await.unwrap();
    }
    store.control(&name("app"), Control::Pause(PauseReason::Operator)).await.unwrap();
    store.control(&name("app"), Control::Resume).await.unwrap();
    let open = Turn::Open { probe_after: Duration::ZERO };
    store.control(&name("app"), Control::Turn { from: 0, to: open }).await.unwrap();
    settle_all(store, wanted("app"), Transition::Deliver).await;
    let close = Turn::Close { spread: Duration::ZERO };
    store.control(&name("app"), Control::Turn { from: 1, to: close }).await.unwrap();
}

async fn ledger(store: &dyn Store) {
    let now = Clock::system().now();
    let text = || "a word".to_owned();
    let entry = AuditEntry { at: now, actor: text(), action: text(), object: text(), detail: text() };
    store.audit(AuditQuery::Append(entry)).await.unwrap();
    assert_eq!(store.audit(AuditQuery::List(Page::first(10))).await.unwrap().rows.len(), 1);
    let spec = JobSpec {
        action: JobAction::Retry,
        query: DeliveryQuery::default(),
        mode: Mode::Apply,
        per_second: None,
        by: text(),
    };
    let job = store.jobs(JobQuery::Create(spec)).await.unwrap().jobs.remove(0);
    let done = Job { state: JobState::Done, ..job };
    assert_eq!(store.jobs(JobQuery::Put(done)).await.unwrap().verdict, JobVerdict::Done);
    let tally = Tally { minute: now, of: Counted::Target(name("app")), counter: Counter::Dead, count: 1 };
    store.stats(StatsQuery::Add(vec![tally])).await.unwrap();
    assert_eq!(store.stats(StatsQuery::Since(now.minus(MINUTE))).await.unwrap().len(), 1);
}

#[tokio::test]
async fn nothing_else_can_be_reached_with_them() {
    let (_server, mut options, _clock) = server_with_user().await;
    options.config.prefix = "other".to_owned();
    assert!(redis::open(options).await.is_err(), "another store's keys");
}
