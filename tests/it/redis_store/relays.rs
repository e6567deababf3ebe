//! Two relays on one Redis: what one does the other sees, and what one leaves the other takes over.

use std::collections::HashSet;
use std::time::Duration;

use clerk_relay::lifecycle::breaker::Phase;
use clerk_relay::lifecycle::{Start, State, Transition};
use clerk_relay::store::query::TargetStatus;
use clerk_relay::store::redis::Options;
use clerk_relay::store::{
    ClaimWanted, Control, Controlled, Lease, PauseReason, Settled, TargetChange, TargetSpec, Turn,
};

use super::{At, lab_on, options, short_lived};
use crate::contract::harness::{Lab, MINUTE, name, wanted, wanted_in_order};
use crate::support::events;
use crate::support::proxy::{Mode, Proxy};
use crate::support::redis::{RedisServer, tcp_url};
use crate::support::relay::{PATIENCE, eventually};

#[tokio::test]
async fn an_event_is_leased_by_one_relay_only() {
    let server = RedisServer::start().await;
    let (one, other) = (lab_on(&server, &["app"]).await, lab_on(&server, &["app"]).await);
    let added: HashSet<_> = one.add_many(120).await.into_iter().collect();
    let all_of = async |lab: &Lab| {
        let mut leases = Vec::new();
        loop {
            let claimed = lab.claim_with(ClaimWanted { leases_max: 5, ..wanted("app") }).await;
            if claimed.leases.is_empty() {
                return leases;
            }
            leases.extend(claimed.leases);
            tokio::task::yield_now().await;
        }
    };
    let (ours, theirs) = tokio::join!(all_of(&one), all_of(&other));
    assert_eq!(ours.len() + theirs.len(), added.len());
    assert!(!ours.is_empty() && !theirs.is_empty(), "{} and {}", ours.len(), theirs.len());
    let leased: HashSet<_> = ours.iter().chain(&theirs).map(Lease::event_id).collect();
    assert_eq!(leased, added);
    for lease in theirs {
        other.fail(lease, MINUTE).await;
    }
    for lease in ours {
        one.deliver(lease).await;
    }
}

#[tokio::test]
async fn a_control_by_one_relay_rings_and_is_obeyed_at_the_other() {
    let server = RedisServer::start().await;
    let (one, other) = (lab_on(&server, &["app"]).await, lab_on(&server, &["app"]).await);
    one.add_many(2).await;
    let rung = async |control: Control| {
        let mut bell = other.store.bell();
        bell.mark_unchanged();
        assert_eq!(one.store.control(&name("app"), control).await.unwrap(), Controlled::Changed);
        tokio::time::timeout(PATIENCE, bell.changed()).await.expect("the bell rings").unwrap();
    };
    rung(Control::Pause(PauseReason::Gone)).await;
    let claimed = other.claim_with(wanted("app")).await;
    assert_eq!(claimed.status, TargetStatus::Paused(PauseReason::Gone));
    assert!(claimed.leases.is_empty());
    rung(Control::Resume).await;
    rung(Control::Turn { from: 0, to: Turn::Open { probe_after: MINUTE } }).await;
    let claimed = other.claim_with(wanted("app")).await;
    assert!(matches!(claimed.breaker.phase, Phase::Open { .. }) && claimed.leases.is_empty());
    let late = Control::Turn { from: 0, to: Turn::Close { spread: MINUTE } };
    assert_eq!(other.store.control(&name("app"), late).await.unwrap(), Controlled::Refused);
    let mut bell = one.store.bell();
    bell.mark_unchanged();
    let body = events::body("user.created", "user_9");
    other.ingest("clerk", "msg_of_the_other", &body).await;
    tokio::time::timeout(PATIENCE, bell.changed()).await.expect("an event rings everywhere").unwrap();
}

#[tokio::test]
async fn of_all_relays_one_probes_at_a_time() {
    let server = RedisServer::start().await;
    let (one, other) = (lab_on(&server, &["app"]).await, lab_on(&server, &["app"]).await);
    one.add_many(20).await;
    let open = Turn::Open { probe_after: Duration::ZERO };
    one.store.control(&name("app"), Control::Turn { from: 0, to: open }).await.unwrap();
    for round in 0..5 {
        let claim = || (one.claim("app"), other.claim("app"));
        let ((first, second), (third, fourth)) = (claim(), claim());
        let claims = tokio::join!(first, second, third, fourth);
        let claims = [claims.0, claims.1, claims.2, claims.3];
        let mut probes: Vec<Lease> = claims.into_iter().flatten().collect();
        assert_eq!(probes.len(), 1, "round {round}");
        // It fails, and the next one may go out at once.
        one.fail(probes.remove(0), MINUTE).await;
        let turned = Control::Turn { from: round + 1, to: Turn::Open { probe_after: Duration::ZERO } };
        assert_eq!(other.store.control(&name("app"), turned).await.unwrap(), Controlled::Changed);
    }
}

/// A relay behind a proxy, whose lease runs out soon where nothing gets through.
async fn cut_off_soon(server: &RedisServer, proxy: &Proxy) -> Lab {
    let url = tcp_url(&[proxy.port()], clerk_relay::config::redis_url::Topology::Standalone);
    Lab::new(&At(Options { url, ..short_lived(server) })).await
}

fn cut_off(proxy: &Proxy) {
    proxy.set(Mode::Refuse);
    proxy.cut();
}

/// Ticks until something has changed.
async fn changes(lab: &Lab) -> Vec<TargetChange> {
    eventually("something changes", async || {
        let changes = lab.store.tick().await.ok()?.changes;
        (!changes.is_empty()).then_some(changes)
    })
    .await
}

#[tokio::test]
async fn a_target_is_an_orphan_when_no_living_relay_declares_it() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to_port(server.port()).await;
    let one = cut_off_soon(&server, &proxy).await;
    one.declare(&["app", "web"]).await;
    let other = Lab::new(&At(short_lived(&server))).await;
    assert_eq!(other.declare(&["app"]).await, [], "the first relay still declares web");
    assert_eq!(other.store.tick().await.unwrap().changes, []);
    assert_eq!(other.target("web").await.status, TargetStatus::Active);
    cut_off(&proxy);
    assert_eq!(changes(&other).await, [TargetChange::Orphaned(name("web"))], "its lease has run out");
    assert_eq!(other.target("web").await.status, TargetStatus::Orphan);
    proxy.set(Mode::Pass);
    assert_eq!(changes(&one).await, [TargetChange::Returned(name("web"))], "it is back under another lease");
    assert_eq!(other.target("web").await.status, TargetStatus::Active);
    let Lab { store, .. } = one;
    drop(store); // says farewell
    assert_eq!(changes(&other).await, [TargetChange::Orphaned(name("web"))]);
}

fn at_another_url(digest: &str) -> TargetSpec {
    TargetSpec { name: name("app"), start: Start::Now, url_digest: digest.to_owned() }
}

#[tokio::test]
async fn two_urls_for_one_target_are_told_once_on_each_side() {
    let server = RedisServer::start().await;
    let (one, other) = (Lab::new(&At(options(&server))).await, Lab::new(&At(options(&server))).await);
    let disputed = [TargetChange::Disputed(name("app"))];
    one.store.declare(&[at_another_url("1111111111111111")]).await.unwrap();
    one.store.tick().await.unwrap();
    assert_eq!(other.store.declare(&[at_another_url("2222222222222222")]).await.unwrap(), disputed);
    assert_eq!(one.store.tick().await.unwrap().changes, disputed);
    for _ in 0..3 {
        assert_eq!(one.store.tick().await.unwrap().changes, []);
        assert_eq!(other.store.tick().await.unwrap().changes, []);
    }
    // A relay that agrees with one of them changes nothing for those that know.
    let third = Lab::new(&At(options(&server))).await;
    assert_eq!(third.store.declare(&[at_another_url("1111111111111111")]).await.unwrap(), disputed);
    assert_eq!(one.store.tick().await.unwrap().changes, []);
    assert_eq!(other.store.tick().await.unwrap().changes, []);
}

#[tokio::test]
async fn of_two_orderings_that_of_the_later_declaration_holds() {
    let server = RedisServer::start().await;
    let one = lab_on(&server, &["app"]).await;
    let other = lab_on(&server, &["app"]).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(one.add("user.updated", "user_1").await);
    }
    let first = other.claim_with(wanted_in_order("app")).await.leases;
    assert_eq!(first.len(), 1);
    for _ in 0..3 {
        assert!(one.claim("app").await.is_empty(), "its unordered claims do not undo the later ordering");
        assert!(other.claim_with(wanted_in_order("app")).await.leases.is_empty());
    }
    assert_eq!(one.target("app").await.parked, 3);
    // Its configuration is read anew: now its word is the later one.
    one.declare(&["app"]).await;
    assert_eq!(one.claim("app").await.len(), 3);
    let last = one.add("user.updated", "user_1").await;
    assert_eq!(
        other.claim_with(wanted_in_order("app")).await.leases[0].event_id(),
        last,
        "unordered for both"
    );
}

#[tokio::test]
async fn a_relay_that_was_away_too_long_finds_its_work_redone_and_goes_on_under_a_new_lease() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to_port(server.port()).await;
    let away = cut_off_soon(&server, &proxy).await;
    away.declare(&["app"]).await;
    let other = Lab::new(&At(short_lived(&server))).await;
    other.declare(&["app"]).await;
    other.add_many(3).await;
    let mut held = away.claim("app").await;
    assert_eq!(held.len(), 3);
    let with_record = held.pop().unwrap();
    away.fail(with_record, std::time::Duration::ZERO).await;
    held.extend(away.claim("app").await);
    cut_off(&proxy);
    let mut taken_over = 0;
    eventually("its leases are taken over", async || {
        taken_over += other.store.tick().await.unwrap().taken_over;
        (taken_over > 0 || other.target("app").await.in_flight == 0).then_some(())
    })
    .await;
    let redone = other.claim("app").await;
    assert_eq!(redone.len(), 3);
    assert!(redone.iter().all(|lease| lease.progress().takeovers == 1));
    proxy.set(Mode::Pass);
    let relays = eventually("it is back", async || away.store.tick().await.ok()).await.relays;
    assert_eq!(relays, 2);
    eventually("it settles again", async || away.store.overview().await.ok()).await;
    let mut old = held.into_iter();
    let first = old.next().unwrap();
    let settle = clerk_relay::store::Settle { lease: first, transition: Transition::Return, attempt: None };
    eventually("it claims again", async || away.store.claim(wanted("app")).await.ok()).await;
    let settled = eventually("it settles", async || away.store.settle(settle.again()).await.ok()).await;
    assert_eq!(settled, Settled::Lost);
    for lease in old {
        assert_eq!(away.settle(lease, Transition::Deliver).await, Settled::Lost);
    }
    for lease in redone {
        let id = lease.event_id();
        assert_eq!(other.state(id, "app").await, State::InFlight, "what is lost changes nothing");
        other.deliver(lease).await;
    }
    let next = other.add("user.created", "user_9").await;
    let lease = away.claim_one("app").await;
    assert_eq!(lease.event_id(), next);
    away.deliver(lease).await;
    assert_eq!(other.state(next, "app").await, State::Delivered);
}

#[tokio::test]
async fn a_relay_under_a_new_lease_still_declares_its_targets() {
    let server = RedisServer::start().await;
    let one = lab_on(&server, &["app", "web"]).await;
    one.store.tick().await.unwrap();
    // Its lease is gone, as after a long silence.
    server.command(&["DEL", "{relay}:relays", "{relay}:declared"]).await;
    one.store.tick().await.unwrap();
    let other = lab_on(&server, &["app"]).await;
    assert_eq!(other.target("web").await.status, TargetStatus::Active);
    let Lab { store, .. } = other;
    drop(store);
}
