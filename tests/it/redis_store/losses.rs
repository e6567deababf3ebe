//! What a server loses or refuses while the relay runs: its data, a group, its scripts, its connections, its memory, its
//! durability.

use std::time::Duration;

use clerk_relay::lifecycle::{State, Transition};
use clerk_relay::store::{ClaimWanted, Ingested, More, Settle, Settled, StoreError};

use super::{assert_unavailable, lab_on, options};
use crate::contract::harness::{DAY, Lab, MINUTE, ids, new, wanted, wanted_in_order};
use crate::support::events;
use crate::support::redis::RedisServer;
use crate::support::relay::eventually;

#[tokio::test]
async fn after_a_flush_targets_begin_again_with_the_oldest_event_that_is_kept() {
    let server = RedisServer::start().await;
    let lab = lab_on(&server, &["app", "web"]).await;
    let before = lab.add_many(4).await;
    let old = lab.claim_one("app").await;
    server.command(&["FLUSHALL"]).await;
    let after = lab.add_many(3).await;
    assert!(before.iter().max() < after.iter().min(), "ids go on");
    assert_eq!(ids(&lab.claim("app").await), after);
    assert_eq!(lab.settle(old, Transition::Deliver).await, Settled::Lost);
    let more = lab.add_many(2).await;
    let of_web = lab.claim("web").await;
    assert_eq!(ids(&of_web), [after, more.clone()].concat(), "every target begins at the oldest");
    assert_eq!(ids(&lab.claim("app").await), more);
    let ticked = lab.store.tick().await.unwrap();
    assert_eq!((ticked.relays, ticked.taken_over), (1, 0), "the lease goes on");
    for lease in of_web {
        lab.deliver(lease).await;
    }
    let lab = lab.reopen().await;
    assert_eq!(lab.target("web").await.queued, 0);
    assert_eq!(lab.claim("app").await.len(), 5, "what was in flight comes again");
}

#[tokio::test]
async fn a_flush_that_only_a_tick_notices_puts_the_targets_back() {
    let server = RedisServer::start().await;
    let lab = lab_on(&server, &["app", "web"]).await;
    lab.store.tick().await.unwrap();
    server.command(&["FLUSHALL"]).await;
    let after = lab.add_many(2).await;
    lab.store.tick().await.unwrap();
    let overview = lab.store.overview().await.unwrap();
    let queued: Vec<_> = overview.targets.iter().map(|one| (one.name.as_str(), one.queued)).collect();
    assert_eq!(queued, [("app", 2), ("web", 2)]);
    assert_eq!(ids(&lab.claim("web").await), after);
}

#[tokio::test]
async fn a_group_that_is_gone_is_made_again_and_nothing_is_skipped() {
    let server = RedisServer::start().await;
    let lab = lab_on(&server, &["web"]).await;
    lab.add_many(3).await;
    lab.declare(&["app", "web"]).await;
    let mut added = lab.add_many(6).await;
    let mut leases = lab.claim("app").await;
    assert_eq!(leases.len(), 6);
    let held = leases.split_off(2); // a crash of the group must not hide what is in flight
    for lease in leases {
        lab.deliver(lease).await;
    }
    server.command(&["XGROUP", "DESTROY", "{relay}:ev", "app"]).await;
    added.extend(lab.add_many(2).await);
    let mut found = lab.claim("app").await;
    found.extend(lab.claim("app").await);
    let mut again = ids(&found);
    again.sort_unstable();
    assert_eq!(again, added[2..], "what was in flight, and what is new; nothing from before it began");
    for lease in found {
        lab.deliver(lease).await;
    }
    for lease in held {
        assert_eq!(lab.settle(lease, Transition::Deliver).await, Settled::Lost);
    }
    for id in added {
        assert_eq!(lab.state(id, "app").await, State::Delivered);
    }
    assert_eq!(lab.claim("web").await.len(), 11, "another target's group is its own");
    let app = lab.target("app").await;
    assert_eq!((app.queued, app.in_flight), (0, 0));
}

#[tokio::test]
async fn a_group_of_an_ordered_target_that_is_gone_keeps_the_order() {
    let server = RedisServer::start().await;
    let lab = lab_on(&server, &["app"]).await;
    let first = lab.add("user.updated", "user_1").await;
    let second = lab.add("user.updated", "user_1").await;
    let claim = async || lab.claim_with(wanted_in_order("app")).await.leases;
    assert_eq!(ids(&claim().await), [first]);
    server.command(&["XGROUP", "DESTROY", "{relay}:ev", "app"]).await;
    let third = lab.add("user.updated", "user_1").await;
    for id in [first, second, third] {
        let mut leases = claim().await;
        assert_eq!(ids(&leases), [id]);
        lab.deliver(leases.remove(0)).await;
    }
    assert!(claim().await.is_empty());
}

#[tokio::test]
async fn a_log_that_is_gone_leaves_no_claim_that_asks_for_ever() {
    let server = RedisServer::start().await;
    let lab = lab_on(&server, &["app"]).await;
    lab.add_many(5).await;
    let held = lab.claim_with(ClaimWanted { leases_max: 1, ..wanted("app") }).await.leases.remove(0);
    server.command(&["DEL", "{relay}:ev"]).await;
    let claimed = lab.claim_with(wanted("app")).await;
    assert_eq!((claimed.leases.len(), claimed.more, claimed.next_due), (0, More::None, None));
    assert_eq!(lab.target("app").await.queued, 0);
    let next = lab.add("user.created", "user_9").await;
    assert_eq!(ids(&lab.claim("app").await), [next]);
    assert_eq!(lab.settle(held, Transition::Deliver).await, Settled::Lost);
}

/// One event's way through everything that a store does.
async fn everything_works(lab: &Lab) {
    let id = new(lab.ingest("clerk", &lab.svix_id(), &events::body("user.created", "user_1")).await);
    let lease = lab.claim_one("app").await;
    assert_eq!(lease.event_id(), id);
    lab.fail(lease, MINUTE).await;
    lab.clock.advance(MINUTE);
    let lease = lab.claim_one("app").await;
    lab.deliver(lease).await;
    lab.store.tick().await.unwrap();
    lab.store.sweep(100).await.unwrap();
    assert_eq!(lab.delivery(id, "app").await.view.attempts, 2);
}

#[tokio::test]
async fn scripts_and_connections_that_the_server_drops_are_made_anew() {
    let server = RedisServer::start().await;
    let lab = lab_on(&server, &["app"]).await;
    everything_works(&lab).await;
    server.command(&["SCRIPT", "FLUSH"]).await;
    everything_works(&lab).await;
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    // A killed connection may cost the first call on each lane.
    eventually("the bell is looked at again", async || lab.store.overview().await.ok()).await;
    let svix_id = lab.svix_id();
    let body = events::body("user.created", "user_1");
    let event = || events::verified("clerk", &svix_id, &body, lab.clock.now());
    eventually("it is kept", async || lab.store.ingest(event()).await.ok()).await;
    let claimed = eventually("it is claimed", async || {
        lab.store.claim(wanted("app")).await.ok().filter(|claimed| !claimed.leases.is_empty())
    });
    for lease in claimed.await.leases {
        let settle = Settle { lease, transition: Transition::Return, attempt: None };
        eventually("it is settled", async || lab.store.settle(settle.again()).await.ok()).await;
    }
    let lease = lab.claim_one("app").await;
    lab.deliver(lease).await;
    everything_works(&lab).await;
}

#[tokio::test]
async fn a_full_server_takes_nothing_new_and_finishes_what_it_has() {
    let server = RedisServer::start().await;
    let lab = lab_on(&server, &["app"]).await;
    let body = events::body("user.created", "user_1");
    let kept = new(lab.ingest("clerk", "msg_kept", &body).await);
    let event = |svix_id: &str| events::verified("clerk", svix_id, &body, lab.clock.now());
    server.config_set("maxmemory", "1mb").await; // below what an empty server uses
    for _ in 0..2 {
        // At first by the server's own refusal, then by what it says of its memory.
        assert!(matches!(lab.store.ingest(event("msg_more")).await, Err(StoreError::Full)));
        let Ingested::Duplicate(known) = lab.store.ingest(event("msg_kept")).await.unwrap() else { panic!() };
        assert_eq!(known.id, kept);
        lab.store.overview().await.unwrap(); // asks how full it is
    }
    let lease = lab.claim_one("app").await;
    lab.fail(lease, MINUTE).await;
    lab.clock.advance(MINUTE);
    let lease = lab.claim_one("app").await;
    lab.deliver(lease).await;
    lab.store.tick().await.unwrap();
    lab.clock.advance(8 * DAY);
    assert_eq!(lab.store.sweep(100).await.unwrap().events, 1);
    server.config_set("maxmemory", "0").await;
    let again = eventually("there is room", async || lab.store.ingest(event("msg_more")).await.ok());
    new(again.await);
}

#[tokio::test]
async fn a_server_that_comes_back_less_durable_gets_no_event_answered_until_it_is_put_right() {
    let mut server = RedisServer::start().await;
    let lab = lab_on(&server, &["app"]).await;
    let body = events::body("user.created", "user_1");
    let event = |svix_id: &str| events::verified("clerk", svix_id, &body, lab.clock.now());
    new(lab.ingest("clerk", "msg_1", &body).await);
    server.restart_with(&["--appendfsync", "everysec"]).await;
    for _ in 0..3 {
        assert_unavailable(lab.store.ingest(event("msg_2")).await);
        assert_unavailable(lab.store.ingest(event("msg_1")).await); // no duplicate is vouched for either
    }
    // Work on what is kept goes on.
    let claimed = eventually("it is claimed", async || lab.store.claim(wanted("app")).await.ok());
    assert!(!claimed.await.leases.is_empty());
    // Nor while it is full.
    server.config_set("maxmemory", "1mb").await;
    lab.store.overview().await.unwrap(); // asks how full it is
    assert_unavailable(lab.store.ingest(event("msg_3")).await);
    assert_unavailable(lab.store.ingest(event("msg_1")).await);
    server.config_set("maxmemory", "0").await;
    server.config_set("appendfsync", "always").await;
    eventually("it is good again", async || lab.store.ingest(event("msg_4")).await.ok()).await;
    assert!(matches!(lab.store.ingest(event("msg_1")).await, Ok(Ingested::Duplicate(_))));
    assert_eq!(redis_refuses(&server, "everysec").await, "refused at start");
}

/// Opening a store on a server with this setting.
async fn redis_refuses(server: &RedisServer, appendfsync: &str) -> &'static str {
    server.config_set("appendfsync", appendfsync).await;
    let opened =
        tokio::time::timeout(Duration::from_secs(10), clerk_relay::store::redis::open(options(server)));
    if opened.await.expect("in time").is_err() { "refused at start" } else { "opened" }
}
