//! Laws of order by subject: one unfinished delivery of a subject after the other, and nobody else held up.

use clerk_relay::lifecycle::{DeadReason, SkipReason, State, Transition};
use clerk_relay::store::query::{DeliveryQuery, Redrive, RedriveAction};
use clerk_relay::store::{ClaimWanted, Lease, Settled};

use super::harness::{Kind, Lab, MINUTE, ids, redrive, wanted_in_order};

async fn claim(lab: &Lab) -> Vec<Lease> {
    lab.claim_with(wanted_in_order("app")).await.leases
}

async fn claim_one(lab: &Lab) -> Lease {
    let mut leases = claim(lab).await;
    assert_eq!(leases.len(), 1);
    leases.remove(0)
}

pub async fn a_later_event_of_a_subject_waits_for_the_earlier_one(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let mut added = Vec::new();
    for _ in 0..3 {
        added.push(lab.add("user.updated", "user_1").await);
    }
    for (place, id) in added.iter().enumerate() {
        let lease = claim_one(&lab).await;
        assert_eq!(lease.event_id(), *id);
        assert_eq!(lab.target("app").await.parked, 2 - place as u64);
        lab.fail(lease, MINUTE).await;
        assert!(claim(&lab).await.is_empty(), "nothing may pass a head that waits");
        lab.clock.advance(MINUTE);
        let lease = claim_one(&lab).await;
        assert_eq!(lease.event_id(), *id);
        lab.deliver(lease).await;
    }
    assert!(claim(&lab).await.is_empty());
}

pub async fn a_parked_delivery_is_released_by_every_end_of_its_head(kind: &dyn Kind) {
    let ends = [
        Transition::Deliver,
        Transition::Die(DeadReason::Exhausted),
        Transition::Skip(SkipReason::EventType),
    ];
    for end in ends {
        let lab = Lab::with_targets(kind, &["app"]).await;
        lab.add("user.updated", "user_1").await;
        let parked = lab.add("user.updated", "user_1").await;
        let head = claim_one(&lab).await;
        assert_eq!(lab.state(parked, "app").await, State::Parked);
        let mut bell = lab.store.bell();
        bell.mark_unchanged();
        assert_eq!(lab.settle(head, end).await, Settled::Done);
        assert!(bell.has_changed().unwrap(), "{end:?} rings");
        assert_eq!(lab.state(parked, "app").await, State::Waiting);
        assert_eq!(claim_one(&lab).await.event_id(), parked);
    }
}

pub async fn a_failing_subject_holds_up_no_other(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    lab.add("user.updated", "user_1").await;
    let lease = claim_one(&lab).await;
    lab.fail(lease, MINUTE).await;
    for _ in 0..10 {
        lab.add("user.updated", "user_1").await;
    }
    let other = lab.add("user.updated", "user_2").await;
    assert_eq!(claim_one(&lab).await.event_id(), other);
    assert_eq!(lab.target("app").await.parked, 10);
}

pub async fn events_without_a_subject_and_exempt_types_are_never_held(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    lab.add("user.updated", "user_1").await;
    let mut free = Vec::new();
    for _ in 0..2 {
        free.push(lab.add("email.created", "user_1").await);
        let svix_id = lab.svix_id();
        free.push(super::harness::new(lab.ingest("clerk", &svix_id, r#"{"type":"a.b","data":{}}"#).await));
    }
    let claimed = claim(&lab).await;
    assert_eq!(ids(&claimed)[1..], free);
    // Nor do they hold others back.
    for lease in claimed {
        if free.contains(&lease.event_id()) {
            lab.fail(lease, MINUTE).await;
        } else {
            lab.deliver(lease).await;
        }
    }
    let next = lab.add("user.updated", "user_1").await;
    assert_eq!(claim_one(&lab).await.event_id(), next);
}

pub async fn a_cancelled_head_releases_its_subject(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let head = lab.add("user.updated", "user_1").await;
    let parked = lab.add("user.updated", "user_1").await;
    let lease = claim_one(&lab).await;
    lab.fail(lease, MINUTE).await;
    let cancelled = lab.redrive(Redrive { event: Some(head), ..redrive(RedriveAction::Cancel) }).await;
    assert_eq!(cancelled.moved, 1);
    assert_eq!(claim_one(&lab).await.event_id(), parked);
}

pub async fn a_redriven_delivery_never_runs_beside_its_subject(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let dead = lab.add("user.updated", "user_1").await;
    let lease = claim_one(&lab).await;
    lab.die(lease).await;
    let running = lab.add("user.updated", "user_1").await;
    let lease = claim_one(&lab).await;
    assert_eq!(lease.event_id(), running);
    lab.redrive(Redrive { event: Some(dead), ..redrive(RedriveAction::Retry) }).await;
    assert!(claim(&lab).await.is_empty(), "the subject has one in flight");
    lab.fail(lease, 10 * MINUTE).await;
    lab.clock.advance(MINUTE);
    let lease = claim_one(&lab).await;
    assert_eq!(lease.event_id(), dead);
    lab.deliver(lease).await;
    assert!(claim(&lab).await.is_empty());
    lab.clock.advance(10 * MINUTE);
    assert_eq!(claim_one(&lab).await.event_id(), running);
}

pub async fn a_parked_delivery_stays_while_its_subject_is_unfinished(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let dead = lab.add("user.updated", "user_1").await;
    let lease = claim_one(&lab).await;
    lab.die(lease).await;
    let head = lab.add("user.updated", "user_1").await;
    let lease = claim_one(&lab).await;
    lab.fail(lease, 10 * MINUTE).await;
    let parked = lab.add("user.updated", "user_1").await;
    lab.redrive(Redrive { event: Some(dead), ..redrive(RedriveAction::Retry) }).await;
    let lease = claim_one(&lab).await;
    assert_eq!(lease.event_id(), dead);
    lab.deliver(lease).await;
    assert_eq!(lab.state(parked, "app").await, State::Parked, "{head} is unfinished");
    lab.clock.advance(10 * MINUTE);
    let lease = claim_one(&lab).await;
    assert_eq!(lease.event_id(), head);
    lab.deliver(lease).await;
    assert_eq!(claim_one(&lab).await.event_id(), parked);
}

pub async fn an_unordered_target_parks_nothing(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    for _ in 0..5 {
        lab.add("user.updated", "user_1").await;
    }
    assert_eq!(lab.claim("app").await.len(), 5);
}

pub async fn a_target_that_becomes_ordered_or_unordered_loses_nothing(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let first = lab.add("user.updated", "user_1").await;
    let lease = lab.claim_one("app").await;
    lab.fail(lease, MINUTE).await;
    let second = lab.add("user.updated", "user_1").await;
    assert!(claim(&lab).await.is_empty(), "the first one is held to be before it");
    assert_eq!(lab.state(second, "app").await, State::Parked);
    let claimed = lab.claim("app").await;
    assert_eq!(ids(&claimed), [second], "unordered again: nothing is held");
    lab.clock.advance(MINUTE);
    assert_eq!(lab.claim_one("app").await.event_id(), first);
}

pub async fn a_crowded_subject_does_not_starve_the_others(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    for _ in 0..40 {
        lab.add("user.updated", "user_1").await;
        let lease = claim_one(&lab).await;
        lab.die(lease).await;
    }
    let other = lab.add("user.updated", "user_2").await;
    let lease = claim_one(&lab).await;
    lab.fail(lease, MINUTE).await;
    lab.clock.advance(MINUTE);
    // Forty retries of one subject are due before the other's; each claim may look at a few of them only.
    let query = DeliveryQuery { states: vec![State::Dead], ..DeliveryQuery::default() };
    assert_eq!(lab.redrive(Redrive { query, ..redrive(RedriveAction::Retry) }).await.moved, 40);
    let one = || lab.claim_with(ClaimWanted { leases_max: 2, ..wanted_in_order("app") });
    let mut held = Vec::new();
    for _ in 0..30 {
        let leases = one().await.leases;
        let found = ids(&leases).contains(&other);
        held.extend(leases);
        if found {
            assert!(held.len() <= 2, "the crowded subject has one in flight at most");
            return;
        }
    }
    panic!("the other subject never came");
}
