//! Laws of order by subject: one unfinished delivery of a subject after the other, and nobody else held up.

use std::collections::HashMap;
use std::time::Duration;

use clerk_relay::event::EventId;
use clerk_relay::lifecycle::{DeadReason, SkipReason, State, Transition};
use clerk_relay::store::query::{DeliveryQuery, Redrive, RedriveAction};
use clerk_relay::store::{ClaimWanted, Lease, Settled};
use proptest::prelude::*;

use super::harness::{Kind, Lab, MINUTE, OnSqlite, ids, redrive, wanted_in_order};
use crate::support::events;

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

#[derive(Debug, Clone)]
enum Step {
    Add { subject: u8, exempt: bool },
    Claim { leases_max: usize },
    Settle { which: prop::sample::Index, how: u8 },
    Pass { seconds: u64 },
    Retry,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0..3_u8, prop::bool::weighted(0.1)).prop_map(|(subject, exempt)| Step::Add { subject, exempt }),
        4 => (1..5_usize).prop_map(|leases_max| Step::Claim { leases_max }),
        6 => (any::<prop::sample::Index>(), 0..8_u8).prop_map(|(which, how)| Step::Settle { which, how }),
        2 => (1..90_u64).prop_map(|seconds| Step::Pass { seconds }),
        1 => Just(Step::Retry),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..60)
}

/// What the order promises, seen from outside.
#[derive(Default)]
struct Seen {
    subjects: HashMap<EventId, String>,
    in_flight: Vec<Lease>,
    ended: Vec<EventId>,
    retried: Vec<EventId>,
}

impl Seen {
    fn check(&self, lease: &Lease) {
        let id = lease.event_id();
        let Some(subject) = self.subjects.get(&id) else { return };
        let same = |other: EventId| self.subjects.get(&other) == Some(subject);
        for other in &self.in_flight {
            assert!(!same(other.event_id()), "{id} runs beside {}", other.event_id());
        }
        if self.retried.contains(&id) {
            return; // outside the order promise
        }
        for (earlier, _) in self.subjects.iter().filter(|(earlier, _)| **earlier < id && same(**earlier)) {
            assert!(self.ended.contains(earlier), "{id} passed {earlier}");
        }
    }
}

fn transition(how: u8) -> Transition {
    match how {
        0..=2 => Transition::Deliver,
        3 => Transition::Wait { after: Duration::from_secs(30) },
        4 => Transition::Die(DeadReason::Exhausted),
        5 => Transition::Skip(SkipReason::Source),
        6 => Transition::Postpone { after: Duration::from_secs(5) },
        _ => Transition::Return,
    }
}

async fn run(steps: Vec<Step>) {
    let mut lab = Lab::with_targets(&OnSqlite, &["app"]).await;
    let mut seen = Seen::default();
    for step in steps {
        match step {
            Step::Add { subject, exempt } => {
                let subject = format!("user_{subject}");
                let event_type = if exempt { "email.created" } else { "user.updated" };
                let id = lab.ingest("clerk", &lab.svix_id(), &events::body(event_type, &subject)).await;
                if !exempt {
                    seen.subjects.insert(super::harness::new(id), subject);
                }
            }
            Step::Claim { leases_max } => take(&lab, &mut seen, leases_max).await,
            Step::Settle { which, how } if !seen.in_flight.is_empty() => {
                let lease = seen.in_flight.swap_remove(which.index(seen.in_flight.len()));
                end(&lab, &mut seen, lease, transition(how)).await;
            }
            Step::Settle { .. } => {}
            Step::Pass { seconds } => lab.clock.advance(Duration::from_secs(seconds)),
            Step::Retry => {
                // Only those that died: an unfinished one that is retried by hand leaves the promise as well.
                let query = DeliveryQuery { states: vec![State::Dead], ..DeliveryQuery::default() };
                lab.redrive(Redrive { query, ..redrive(RedriveAction::Retry) }).await;
                seen.retried.extend(seen.ended.iter());
            }
            Step::Reopen => {
                seen.in_flight.clear();
                lab = lab.reopen().await;
            }
        }
    }
    // Whatever happened, everything ends.
    for _ in 0..400 {
        take(&lab, &mut seen, 8).await;
        let leases: Vec<Lease> = seen.in_flight.drain(..).collect();
        for lease in leases {
            end(&lab, &mut seen, lease, Transition::Deliver).await;
        }
        let target = lab.target("app").await;
        if target.queued + target.waiting + target.parked + target.in_flight == 0 {
            return;
        }
        lab.clock.advance(Duration::from_secs(10));
    }
    panic!("something never ended: {:?}", lab.target("app").await);
}

async fn take(lab: &Lab, seen: &mut Seen, leases_max: usize) {
    let claim = lab.claim_with(ClaimWanted { leases_max, ..wanted_in_order("app") }).await;
    for lease in claim.leases {
        seen.check(&lease);
        seen.in_flight.push(lease);
    }
}

async fn end(lab: &Lab, seen: &mut Seen, lease: Lease, transition: Transition) {
    let id = lease.event_id();
    assert_eq!(lab.settle(lease, transition).await, Settled::Done);
    if lab.state(id, "app").await.is_ended() {
        seen.ended.push(id);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn order_holds_over_any_interleaving(steps in steps()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run(steps));
    }
}
