//! Laws of erasing, as far as they are about the log: who has not reached an erased event, what stands beside it there, and
//! how long its facts stay.

use clerk_relay::event::{EventId, Subject};
use clerk_relay::lifecycle::{Start, State};
use clerk_relay::store::query::{EventQuery, Page, Payload};
use clerk_relay::store::{ClaimWanted, Control, Lease};

use super::erasing::{JANE, assert_nothing_is_left, done, end, erase_now, erased};
use super::harness::{DAY, Kind, Lab, ids, name, wanted, wanted_in_order};

pub async fn a_target_that_has_not_reached_it_never_gets_it(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app", "crm"]).await;
    let mut others = Vec::new();
    for number in 0..40 {
        lab.add("user.updated", JANE).await;
        others.push(lab.add("user.updated", &format!("user_{number}")).await);
    }
    let last = lab.add("user.updated", JANE).await;
    assert_eq!(erase_now(&lab).await, done(41, 0));
    assert_eq!(end(&lab, last, "crm").await, erased());
    let lab = lab.reopen().await;
    for target in ["app", "crm"] {
        let seen = lab.target(target).await;
        assert_eq!((seen.queued, seen.oldest_unfinished.is_some()), (40, true));
        let mut given = Vec::new();
        for _ in 0..3 {
            let leases = lab.claim(target).await;
            given.extend(ids(&leases));
            for lease in leases {
                lab.deliver(lease).await;
            }
        }
        assert_eq!(given, others, "the others come, in their order");
    }
    assert_nothing_is_left(&lab).await;
    let next = lab.add("user.updated", JANE).await;
    assert_eq!(lab.claim_one("app").await.event_id(), next, "what comes later is not erased");
}

pub async fn its_neighbours_in_the_log_are_delivered_all_the_same(kind: &dyn Kind) {
    let targets = ["done", "flying", "ordered", "unreached"];
    let lab = Lab::with_targets(kind, &targets).await;
    let mut others = Vec::new();
    for number in 0..30 {
        lab.add("user.updated", if number % 3 == 1 { JANE } else { "user_john" }).await;
        others.push(lab.add("user.updated", &format!("user_{}", number % 4)).await);
        if number % 3 == 2 {
            others.push(lab.add("email.created", "user_john").await);
        }
    }
    let all = lab.store.events(EventQuery::default(), Page::first(100)).await.unwrap().rows;
    let kept: Vec<EventId> =
        all.iter().rev().filter(|meta| meta.subject.as_deref() != Some(JANE)).map(|meta| meta.id).collect();
    let many = |target| ClaimWanted { leases_max: 200, ..wanted(target) };
    for lease in lab.claim_with(many("done")).await.leases {
        lab.deliver(lease).await;
    }
    let mut flying = lab.claim_with(ClaimWanted { leases_max: 17, ..wanted("flying") }).await.leases;
    let ordered = |leases_max| ClaimWanted { leases_max, ..wanted_in_order("ordered") };
    let first = lab.claim_with(ordered(2)).await.leases;
    let erased = erase_now(&lab).await;
    assert_eq!(erased.events, 10);
    let seen = lab.target("unreached").await;
    assert_eq!(seen.queued, kept.len() as u64);
    let mut given = ids(&flying);
    given.retain(|id| kept.contains(id));
    flying.extend(lab.claim_with(many("flying")).await.leases);
    let mut rest = ids(&flying);
    rest.retain(|id| kept.contains(id));
    assert_eq!(rest, kept, "each once");
    for lease in flying {
        lab.deliver(lease).await;
    }
    assert_eq!(ids(&lab.claim_with(many("unreached")).await.leases), kept);
    in_order(&lab, first, ordered(5), &kept).await;
}

/// Delivers what is ready until nothing is left, and checks that each subject's events came in order, each once.
async fn in_order(lab: &Lab, first: Vec<Lease>, wanted: ClaimWanted, kept: &[EventId]) {
    let mut given: Vec<(Option<Subject>, EventId)> = Vec::new();
    let mut leases = first;
    loop {
        for lease in leases {
            let event = lease.event().unwrap();
            if &*event.event_type != "email.created" && kept.contains(&lease.event_id()) {
                given.push((event.subject.clone(), lease.event_id()));
            }
            lab.deliver(lease).await;
        }
        leases = lab.claim_with(wanted.clone()).await.leases;
        if leases.is_empty() {
            break;
        }
    }
    let mut sorted = given.clone();
    sorted.sort();
    let mut by_subject = given;
    by_subject.sort_by(|one, other| one.0.cmp(&other.0)); // stable: as they came
    assert_eq!(by_subject, sorted);
    let parked = lab.target("ordered").await;
    assert_eq!((parked.parked, parked.queued, parked.waiting, parked.in_flight), (0, 0, 0, 0));
}

pub async fn a_target_that_comes_back_does_not_get_it(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app", "old"]).await;
    let settled = lab.add("user.updated", JANE).await;
    let lease = lab.claim_one("old").await;
    lab.deliver(lease).await;
    lab.add("user.updated", JANE).await;
    let kept = lab.add("user.updated", "user_john").await;
    lab.declare(&["app"]).await;
    lab.store.control(&name("old"), Control::Forget).await.unwrap();
    assert_eq!(erase_now(&lab).await, done(2, 0));
    lab.declare_from(&["app", "old"], Start::Beginning).await;
    assert_eq!(lab.target("old").await.queued, 1);
    assert_eq!(ids(&lab.claim("old").await), [kept]);
    assert_eq!(lab.target("old").await.queued, 0);
    assert_eq!(end(&lab, settled, "old").await, (State::Delivered, None));
    let next = lab.add("user.updated", "user_john").await;
    assert_eq!(ids(&lab.claim("old").await), [next], "its backlog is counted right");
}

pub async fn its_facts_go_with_their_retention(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app", "crm"]).await;
    let old = lab.add("user.updated", JANE).await;
    let other = lab.add("user.updated", "user_john").await;
    let late = lab.add("user.updated", JANE).await;
    for target in ["app", "crm"] {
        for lease in lab.claim_with(ClaimWanted { leases_max: 2, ..wanted(target) }).await.leases {
            lab.deliver(lease).await;
        }
    }
    assert_eq!(erase_now(&lab).await, done(2, 0));
    lab.store.sweep(100).await.unwrap();
    assert!(lab.is_kept(old).await && lab.is_kept(late).await, "not before its time");
    lab.clock.advance(8 * DAY);
    let kept = lab.add("user.updated", JANE).await;
    let mut removed = 0;
    for _ in 0..4 {
        removed += lab.store.sweep(100).await.unwrap().events;
    }
    assert_eq!(removed, 3);
    for id in [old, other, late] {
        assert!(!lab.is_kept(id).await);
    }
    let lab = lab.reopen().await;
    assert_eq!(lab.store.overview().await.unwrap().events, 1);
    lab.declare_from(&["app", "crm", "new"], Start::Beginning).await;
    for target in ["app", "crm", "new"] {
        assert_eq!(lab.target(target).await.queued, 1);
        assert_eq!(ids(&lab.claim(target).await), [kept]);
    }
}

pub async fn a_dead_letter_beyond_its_retention_is_erased_too(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let id = lab.add("user.updated", JANE).await;
    let lease = lab.claim_one("app").await;
    lab.die(lease).await;
    let other = lab.add("user.updated", "user_john").await;
    let lease = lab.claim_one("app").await;
    lab.die(lease).await;
    lab.clock.advance(8 * DAY);
    for _ in 0..3 {
        lab.store.sweep(100).await.unwrap();
    }
    assert!(lab.event(id).await.event.is_some(), "a dead letter holds its event");
    assert_eq!(erase_now(&lab).await, done(1, 0));
    assert_eq!(end(&lab, id, "app").await, erased());
    assert_eq!(lab.event(id).await.meta.payload, Payload::Erased);
    assert!(lab.event(other).await.event.is_some());
    for _ in 0..3 {
        lab.store.sweep(100).await.unwrap();
    }
    assert!(!lab.is_kept(id).await, "nothing holds it any more");
    assert!(lab.is_kept(other).await);
}
