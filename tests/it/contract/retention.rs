//! Laws of retention: what has ended goes in time, and nothing that has not.

use std::time::Duration;

use clerk_relay::lifecycle::{Start, State, Transition};
use clerk_relay::store::query::RedriveAction;
use clerk_relay::store::{Control, Ingested, Settled, Swept};

use super::harness::{DAY, Kind, Lab, MINUTE, Setup, ids, name, new, redrive, wanted_in_order};
use crate::support::events;

async fn sweep_all(lab: &Lab) -> Swept {
    let mut all = Swept::default();
    for _ in 0..20 {
        let swept = lab.store.sweep(500).await.unwrap();
        all.events += swept.events;
        all.deliveries += swept.deliveries;
        all.marks += swept.marks;
    }
    all
}

pub async fn nothing_unfinished_is_ever_removed(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let delivered = lab.add("user.updated", "user_1").await;
    let waiting = lab.add("user.updated", "user_2").await;
    let parked = lab.add("user.updated", "user_2").await;
    let queued = lab.add("user.updated", "user_3").await;
    for lease in lab.claim_with(wanted_in_order("app")).await.leases {
        match lease.event_id() {
            id if id == delivered => lab.deliver(lease).await,
            id if id == waiting => lab.fail(lease, 90 * DAY).await,
            _ => assert_eq!(lab.settle(lease, Transition::Return).await, Settled::Done),
        }
    }
    lab.clock.advance(60 * DAY);
    let in_flight = lab.claim_with(wanted_in_order("app")).await.leases.remove(0);
    assert_eq!(in_flight.event_id(), queued);
    assert_eq!(sweep_all(&lab).await.events, 1);
    assert!(!lab.is_kept(delivered).await);
    for (id, state) in [(waiting, State::Waiting), (parked, State::Parked), (queued, State::InFlight)] {
        assert_eq!(lab.state(id, "app").await, state);
    }
    lab.deliver(in_flight).await;
    assert_eq!(sweep_all(&lab).await.events, 1, "it goes once it has ended");
}

pub async fn a_target_that_lags_holds_the_log(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["fast", "slow"]).await;
    let added = lab.add_many(3).await;
    for lease in lab.claim("fast").await {
        lab.deliver(lease).await;
    }
    lab.declare(&["fast"]).await;
    lab.clock.advance(10 * DAY);
    assert_eq!(sweep_all(&lab).await.events, 0, "an orphan holds the log, too");
    lab.declare(&["fast", "slow"]).await;
    let leases = lab.claim("slow").await;
    assert_eq!(ids(&leases), added);
    for lease in leases {
        lab.deliver(lease).await;
    }
    let swept = sweep_all(&lab).await;
    assert_eq!((swept.events, swept.deliveries), (3, 6));
}

pub async fn dead_letters_are_kept_longer(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app", "fine"]).await;
    let id = new(lab.ingest("clerk", "msg_1", &events::body("user.created", "user_1")).await);
    let lease = lab.claim_one("fine").await;
    lab.deliver(lease).await;
    lab.clock.advance(5 * DAY);
    let lease = lab.claim_one("app").await;
    lab.die(lease).await;
    lab.clock.advance(29 * DAY);
    assert_eq!(sweep_all(&lab).await.events, 0);
    assert_eq!(lab.state(id, "app").await, State::Dead);
    let again = lab.ingest("clerk", "msg_1", &events::body("user.created", "user_1")).await;
    assert!(matches!(again, Ingested::Duplicate(_)), "as long as it is kept it is known");
    lab.clock.advance(2 * DAY);
    let swept = sweep_all(&lab).await;
    assert_eq!((swept.events, swept.deliveries), (1, 2));
    assert!(!lab.is_kept(id).await);
}

pub async fn a_sweep_is_bounded_and_goes_on(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let added = lab.add_many(60).await;
    let mut dead = Vec::new();
    for _ in 0..4 {
        for lease in lab.claim("app").await {
            if dead.len() < 30 {
                dead.push(lease.event_id());
                lab.die(lease).await;
            } else {
                lab.deliver(lease).await;
            }
        }
    }
    assert_eq!(dead, added[..30]);
    lab.clock.advance(8 * DAY);
    let mut removed = Vec::new();
    for _ in 0..30 {
        let swept = lab.store.sweep(5).await.unwrap();
        assert!(swept.events <= 5 && swept.deliveries <= 10 && swept.marks <= 5, "{swept:?}");
        removed.push(swept.events);
    }
    assert_eq!(removed.iter().sum::<u64>(), 30, "the dead ones in front stop no sweep");
    assert_eq!(lab.redrive(redrive(RedriveAction::Cancel)).await.moved, 30);
    assert_eq!(sweep_all(&lab).await.events, 30);
}

pub async fn marks_go_after_their_window(kind: &dyn Kind) {
    let setup = Setup { retention: DAY, dedupe: 3 * DAY, ..Setup::default() };
    let lab = Lab::with(kind, setup).await;
    lab.add_many(5).await;
    lab.clock.advance(2 * DAY);
    let swept = sweep_all(&lab).await;
    assert_eq!((swept.events, swept.marks), (5, 0), "a mark outlives its event");
    let body = events::body("user.created", "user_1");
    assert!(matches!(lab.ingest("clerk", "msg_00000000", &body).await, Ingested::Duplicate(_)));
    lab.clock.advance(2 * DAY);
    sweep_all(&lab).await;
    new(lab.ingest("clerk", "msg_00000000", &body).await);
}

pub async fn counts_stay_right_after_a_sweep(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let old = lab.add_many(10).await;
    let leases = lab.claim("app").await;
    let held = leases[3].event_id();
    for lease in leases {
        if lease.event_id() == held {
            lab.fail(lease, Duration::ZERO).await;
        } else {
            lab.deliver(lease).await;
        }
    }
    lab.clock.advance(8 * DAY);
    assert_eq!(sweep_all(&lab).await.events, 9);
    lab.add_many(2).await;
    lab.declare_from(&["app", "all"], Start::Beginning).await;
    assert_eq!(lab.store.overview().await.unwrap().events, 3);
    assert_eq!((lab.target("app").await.queued, lab.target("all").await.queued), (2, 3));
    assert_eq!(lab.claim("all").await.len(), 3);
    assert_eq!(lab.target("all").await.queued, 0);

    // With every event gone, ids and counts still go on from where they were.
    for lease in lab.claim("app").await {
        lab.deliver(lease).await;
    }
    lab.declare(&["app"]).await;
    let lab = lab.reopen().await;
    lab.store.control(&name("all"), Control::Forget).await.unwrap();
    lab.clock.advance(8 * DAY);
    assert_eq!(sweep_all(&lab).await.events, 3);
    assert_eq!(lab.store.overview().await.unwrap().events, 0);
    let lab = lab.reopen().await;
    lab.clock.advance(MINUTE);
    let next = lab.add("user.created", "user_1").await;
    assert!(old.iter().all(|id| *id < next));
    assert_eq!(lab.store.overview().await.unwrap().events, 1);
    assert_eq!(lab.target("app").await.queued, 1);
}
