//! Replies that never come: the work was done, or not, and nobody knows. Whatever is asked again is done once.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clerk_relay::event::EventId;
use clerk_relay::lifecycle::attempt::{Attempt, ErrorClass, ReplyRead};
use clerk_relay::lifecycle::{State, Transition};
use clerk_relay::store::{ClaimWanted, Ingested, Lease, Settle, Settled};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::{assert_unavailable, lab_through};
use crate::contract::harness::{Lab, MINUTE, ids, new, wanted, wanted_in_order};
use crate::support::events;
use crate::support::proxy::{Mode, Proxy};
use crate::support::redis::RedisServer;
use crate::support::relay::eventually;

/// Stands in the request of a claim alone.
const CLAIM: &str = "$5\r\nready";
/// Stands in the request that settles an attempt with this status alone.
const SETTLE_204: &str = ";0;0;204;";
const SETTLE_503: &str = ";0;0;503;";

/// A script's first call is answered that the server does not know it: that reply is not the one to lose.
async fn server_knows_its_scripts(lab: &Lab) {
    lab.add("user.created", "user_0").await;
    let lease = lab.claim_one("app").await;
    lab.deliver(lease).await;
}

fn attempt(lab: &Lab, lease: &Lease, status: u16) -> Attempt {
    Attempt {
        number: lease.progress().attempts_total + 1,
        at: lab.clock.now(),
        took: Duration::from_millis(3),
        status: Some(status),
        error: (status != 204).then_some(ErrorClass::Status),
        hint: None,
        reply: bytes::Bytes::new(),
        reply_read: ReplyRead::Whole,
    }
}

fn delivered(lab: &Lab, lease: Lease) -> Settle {
    let attempt = Some(attempt(lab, &lease, 204));
    Settle { lease, transition: Transition::Deliver, attempt }
}

fn failed(lab: &Lab, lease: Lease, after: Duration) -> Settle {
    let attempt = Some(attempt(lab, &lease, 503));
    Settle { lease, transition: Transition::Wait { after }, attempt }
}

#[tokio::test]
async fn what_a_lost_claim_leased_is_given_by_the_next_one_uncounted() {
    for wanted in [wanted("app"), wanted_in_order("app")] {
        let server = RedisServer::start().await;
        let proxy = Proxy::to_port(server.port()).await;
        let lab = lab_through(&proxy, &server, &["app"]).await;
        let mut added = lab.add_many(2).await;
        for lease in lab.claim_with(wanted.clone()).await.leases {
            lab.fail(lease, Duration::ZERO).await; // so that some of what is lost has a record
        }
        added.extend([lab.add("user.updated", "x").await, lab.add("user.updated", "y").await]);
        let lost = proxy.lose_reply(CLAIM);
        assert_unavailable(lab.store.claim(wanted.clone()).await.map(drop));
        lost.await.unwrap();
        assert_eq!(lab.target("app").await.in_flight, 4);
        let mut leases = lab.claim_with(wanted.clone()).await.leases;
        leases.sort_by_key(Lease::event_id);
        assert_eq!(ids(&leases), added);
        assert!(
            lab.claim_with(wanted.clone()).await.leases.is_empty(),
            "nothing is given twice while it is held"
        );
        lab.store.tick().await.unwrap(); // audits once more
        for (lease, attempts) in leases.into_iter().zip([1, 1, 0, 0]) {
            assert_eq!((lease.progress().attempts, lease.progress().takeovers), (attempts, 0));
            lab.deliver(lease).await;
        }
    }
}

#[tokio::test]
async fn a_settle_whose_reply_was_lost_is_applied_once() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to_port(server.port()).await;
    let lab = lab_through(&proxy, &server, &["app"]).await;
    server_knows_its_scripts(&lab).await;
    let id = lab.add("user.created", "user_1").await;
    let failing = failed(&lab, lab.claim_one("app").await, MINUTE);
    let lost = proxy.lose_reply(SETTLE_503);
    assert_unavailable(lab.store.settle(failing.again()).await);
    lost.await.unwrap();
    assert_eq!(lab.store.settle(failing).await.unwrap(), Settled::Lost, "it was applied");
    let view = lab.delivery(id, "app").await.view;
    assert_eq!((view.state, view.attempts), (State::Waiting, 1));
    lab.clock.advance(MINUTE);
    let delivering = delivered(&lab, lab.claim_one("app").await);
    let lost = proxy.lose_reply(SETTLE_204);
    assert_unavailable(lab.store.settle(delivering.again()).await);
    lost.await.unwrap();
    assert_eq!(lab.store.settle(delivering).await.unwrap(), Settled::Lost);
    let delivery = lab.delivery(id, "app").await;
    assert_eq!((delivery.view.state, delivery.view.attempts), (State::Delivered, 2));
    assert_eq!(delivery.attempts.len(), 2);
}

#[tokio::test]
async fn a_settle_that_never_arrived_is_done_by_its_repetition() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to_port(server.port()).await;
    let lab = lab_through(&proxy, &server, &["app"]).await;
    let id = lab.add("user.created", "user_1").await;
    let settle = delivered(&lab, lab.claim_one("app").await);
    proxy.set(Mode::Refuse);
    proxy.cut();
    assert_unavailable(lab.store.settle(settle.again()).await);
    proxy.set(Mode::Pass);
    let settled = eventually("the settle arrives", async || lab.store.settle(settle.again()).await.ok());
    assert_eq!(settled.await, Settled::Done);
    eventually("it is asked", async || lab.store.overview().await.ok()).await;
    assert_eq!(lab.state(id, "app").await, State::Delivered);
}

#[tokio::test]
async fn an_event_whose_answer_was_lost_is_a_duplicate_when_it_comes_again() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to_port(server.port()).await;
    let lab = lab_through(&proxy, &server, &["app"]).await;
    server_knows_its_scripts(&lab).await;
    let body = events::body("user.created", "user_1");
    let event = || events::verified("clerk", "msg_lost", &body, lab.clock.now());
    let lost = proxy.lose_reply("msg_lost");
    assert_unavailable(lab.store.ingest(event()).await);
    lost.await.unwrap();
    let Ingested::Duplicate(kept) = lab.store.ingest(event()).await.unwrap() else { panic!("it was kept") };
    let lease = lab.claim_one("app").await;
    assert_eq!(lease.event_id(), kept.id);
    lab.deliver(lease).await;
    assert!(lab.claim("app").await.is_empty(), "it was kept once");
}

/// What the wire does at a random moment.
async fn disturb(proxy: &Proxy, random: &mut SmallRng) {
    let moment = Duration::from_millis(random.random_range(1..40));
    match random.random_range(0..6) {
        0 => proxy.cut(),
        1 => drop(proxy.lose_reply("")),
        2 => drop(proxy.lose_reply(CLAIM)),
        3 => drop(proxy.lose_reply(if random.random() { SETTLE_204 } else { SETTLE_503 })),
        4 => proxy.set(Mode::Delay(moment / 8)),
        _ => {
            proxy.set(Mode::Refuse);
            proxy.cut();
            tokio::time::sleep(moment).await;
        }
    }
    tokio::time::sleep(moment).await;
    proxy.set(Mode::Pass);
    tokio::time::sleep(moment * 4).await; // some work gets through
}

/// Asks until the store answers, as senders and flows do.
async fn insist<T, E>(mut ask: impl AsyncFnMut() -> Result<T, E>) -> T {
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Sends events, each until it is answered; returns their ids.
async fn send(lab: &Lab, count: usize) -> HashSet<EventId> {
    let mut sent = HashSet::new();
    for number in 0..count {
        let (svix_id, body) = (lab.svix_id(), events::body("user.updated", &format!("user_{}", number % 7)));
        let ingested = insist(async || {
            lab.store.ingest(events::verified("clerk", &svix_id, &body, lab.clock.now())).await
        });
        let id = match ingested.await {
            Ingested::New(id) => id,
            Ingested::Duplicate(duplicate) => duplicate.id,
        };
        assert!(sent.insert(id), "two events share {id}");
        tokio::time::sleep(Duration::from_millis(2)).await; // so that the disturbances meet all of it
    }
    sent
}

/// Delivers until as many have been delivered as there are events; returns how many attempts were counted for each.
async fn deliver(lab: &Lab, count: usize, random: &mut SmallRng) -> HashMap<EventId, u32> {
    let (mut held, mut counted, mut delivered_ones) = (HashSet::new(), HashMap::new(), HashSet::new());
    while delivered_ones.len() < count {
        let wanted = ClaimWanted { leases_max: random.random_range(1..9), ..wanted_in_order("app") };
        let leases = insist(async || lab.store.claim(wanted.clone()).await).await.leases;
        if leases.is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        for lease in &leases {
            assert!(held.insert(lease.event_id()), "{} is given twice while it is held", lease.event_id());
            assert!(!delivered_ones.contains(&lease.event_id()), "{} was delivered", lease.event_id());
            assert_eq!(lease.progress().takeovers, 0);
        }
        for lease in leases {
            let id = lease.event_id();
            let settle = match random.random_range(0..4) {
                0 => failed(lab, lease, Duration::ZERO),
                1 => Settle { lease, transition: Transition::Return, attempt: None },
                _ => delivered(lab, lease),
            };
            held.remove(&id);
            insist(async || lab.store.settle(settle.again()).await).await;
            if settle.attempt.is_some() {
                *counted.entry(id).or_default() += 1;
            }
            if settle.transition == Transition::Deliver {
                delivered_ones.insert(id);
            }
        }
    }
    counted
}

#[tokio::test]
async fn over_a_wire_that_fails_at_any_moment_nothing_is_lost_or_done_twice() {
    const EVENTS: usize = 300;
    let seed = std::env::var("CLERK_RELAY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    println!("CLERK_RELAY_SEED={seed}");
    let server = RedisServer::start().await;
    let proxy = Proxy::to_port(server.port()).await;
    let lab = lab_through(&proxy, &server, &["app"]).await;
    let (mut of_wire, mut of_flow) = (SmallRng::seed_from_u64(seed), SmallRng::seed_from_u64(!seed));
    let is_over = AtomicBool::new(false);
    let disturbing = async {
        while !is_over.load(Ordering::Relaxed) {
            disturb(&proxy, &mut of_wire).await;
        }
    };
    let working = async {
        let both = tokio::join!(send(&lab, EVENTS), deliver(&lab, EVENTS, &mut of_flow));
        is_over.store(true, Ordering::Relaxed);
        both
    };
    let both = async { tokio::join!(working, disturbing) };
    let both = tokio::time::timeout(MINUTE, both).await;
    proxy.set(Mode::Pass);
    let app = insist(async || lab.store.overview().await).await.targets.remove(0);
    let ((sent, counted), ()) = both.unwrap_or_else(|_| panic!("not all are delivered in the end: {app:?}"));
    drop(proxy.lose_reply("no request holds this"));
    let lab = insist_on_reopening(lab).await;
    assert_eq!(sent, counted.keys().copied().collect(), "what was answered was delivered, and nothing else");
    for (id, attempts) in counted {
        let view = lab.delivery(id, "app").await.view;
        assert_eq!((view.state, view.attempts, view.takeovers), (State::Delivered, attempts, 0), "{id}");
    }
    let app = lab.target("app").await;
    assert_eq!((app.queued, app.in_flight, app.waiting, app.parked, app.dead), (0, 0, 0, 0, 0));
    new(lab.ingest("clerk", "msg_after", &events::body("user.created", "user_1")).await);
}

/// The first call by each connection may still fall to what the wire did last.
async fn insist_on_reopening(lab: Lab) -> Lab {
    insist(async || lab.store.overview().await).await;
    lab.reopen().await
}
