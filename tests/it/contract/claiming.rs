//! Laws of claiming: whatever is ready comes, once, in order and within bounds.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use clerk_relay::event::EventId;
use clerk_relay::lifecycle::{DeadReason, State, Transition};
use clerk_relay::store::{ClaimScope, ClaimWanted, Control, Lease, More, PauseReason, Settled};

use super::harness::{DAY, Kind, Lab, MINUTE, ids, name, wanted, wanted_in_order};

pub async fn new_ones_come_in_the_order_of_acceptance(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let added = lab.add_many(40).await;
    let mut claimed = Vec::new();
    for expected in [More::Ready, More::Ready, More::None] {
        let claim = lab.claim_with(wanted("app")).await;
        assert_eq!(claim.more, expected);
        claimed.extend(ids(&claim.leases));
    }
    assert_eq!(claimed, added);
}

pub async fn a_claim_gives_nothing_twice(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    lab.add_many(100).await;
    let claim = || lab.claim_with(ClaimWanted { leases_max: 30, ..wanted("app") });
    let claims = tokio::join!(claim(), claim(), claim(), claim(), claim());
    let claims = [claims.0, claims.1, claims.2, claims.3, claims.4];
    let claimed: Vec<EventId> = claims.iter().flat_map(|claim| ids(&claim.leases)).collect();
    assert_eq!(claimed.len(), 100);
    assert_eq!(claimed.iter().collect::<HashSet<_>>().len(), 100);
    assert!(lab.claim("app").await.is_empty());
}

pub async fn new_and_due_ones_take_turns(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let old: HashSet<EventId> = lab.add_many(16).await.into_iter().collect();
    for lease in lab.claim("app").await {
        lab.fail(lease, Duration::ZERO).await;
    }
    lab.add_many(16).await;
    let (mut due, mut new) = (0, 0);
    for _ in 0..8 {
        let lease = lab.claim_one("app").await;
        if old.contains(&lease.event_id()) { due += 1 } else { new += 1 }
    }
    assert_eq!((due, new), (4, 4));
}

pub async fn due_ones_come_in_the_order_of_due_times(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let added = lab.add_many(3).await;
    for (lease, minutes) in lab.claim("app").await.into_iter().zip([3, 1, 2]) {
        lab.fail(lease, minutes * MINUTE).await;
    }
    assert!(lab.claim("app").await.is_empty());
    lab.clock.advance(2 * MINUTE);
    assert_eq!(ids(&lab.claim("app").await), [added[1], added[2]]);
    lab.clock.advance(MINUTE);
    assert_eq!(ids(&lab.claim("app").await), [added[0]]);
}

pub async fn a_claim_keeps_its_bounds(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let body = |n: usize| format!(r#"{{"type":"a.b","data":{{"id":"x{n}","x":"{}"}}}}"#, "x".repeat(10_000));
    for number in 0..10 {
        lab.ingest("clerk", &lab.svix_id(), &body(number)).await;
    }
    let by_bytes = lab.claim_with(ClaimWanted { bytes_max: 35_000, ..wanted("app") }).await;
    assert_eq!((by_bytes.leases.len(), by_bytes.more), (3, More::Ready));
    let by_count = lab.claim_with(ClaimWanted { leases_max: 2, ..wanted("app") }).await;
    assert_eq!((by_count.leases.len(), by_count.more), (2, More::Ready));
    let nothing = lab.claim_with(ClaimWanted { leases_max: 0, ..wanted("app") }).await;
    assert_eq!((nothing.leases.len(), nothing.more), (0, More::Ready));
    for lease in by_bytes.leases {
        lab.fail(lease, Duration::ZERO).await;
    }
    let due = lab.claim_with(ClaimWanted { bytes_max: 25_000, ..wanted("app") }).await;
    assert_eq!((due.leases.len(), due.more), (2, More::Ready));
}

pub async fn a_claim_of_one_large_event_gives_it(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    lab.add_many(2).await;
    let claim = lab.claim_with(ClaimWanted { bytes_max: 1, ..wanted("app") }).await;
    assert_eq!((claim.leases.len(), claim.more), (1, More::Ready));
}

pub async fn the_next_due_time_is_told_when_nothing_is_ready(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    assert_eq!(lab.claim_with(wanted("app")).await.next_due, None);
    lab.add_many(2).await;
    let leases = lab.claim("app").await;
    for (lease, minutes) in leases.into_iter().zip([7, 5]) {
        lab.fail(lease, minutes * MINUTE).await;
    }
    let due = lab.claim_with(wanted("app")).await.next_due.unwrap();
    assert!(due <= 5 * MINUTE && due > 4 * MINUTE, "{due:?}");
    lab.add_many(1).await;
    let claim = lab.claim_with(ClaimWanted { leases_max: 0, ..wanted("app") }).await;
    assert_eq!((claim.next_due, claim.more), (None, More::Ready));
}

pub async fn an_unknown_target_gets_nothing(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    lab.add_many(1).await;
    let claim = lab.claim_with(wanted("nobody")).await;
    assert!(claim.leases.is_empty() && claim.more == More::None && claim.next_due.is_none());
}

pub async fn targets_do_not_disturb_each_other(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["one", "two"]).await;
    let added = lab.add_many(3).await;
    for lease in lab.claim("one").await {
        lab.die(lease).await;
    }
    let other = lab.claim("two").await;
    assert_eq!(ids(&other), added);
    for lease in other {
        lab.deliver(lease).await;
    }
    let (one, two) = (lab.target("one").await, lab.target("two").await);
    assert_eq!((one.dead, one.queued), (3, 0));
    assert_eq!((two.dead, two.queued, two.in_flight), (0, 0, 0));
}

pub async fn what_is_older_is_claimed_whatever_the_target_does(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let waiting = lab.add("user.created", "user_1").await;
    let head = lab.claim_with(wanted_in_order("app")).await.leases.remove(0);
    let parked = lab.add("user.updated", "user_1").await;
    lab.claim_with(wanted_in_order("app")).await;
    lab.fail(head, 20 * DAY).await;
    let unreached = lab.add("user.updated", "user_2").await;
    lab.store.control(&name("app"), Control::Pause(PauseReason::Operator)).await.unwrap();
    lab.clock.advance(10 * DAY);
    let young = lab.add("user.updated", "user_3").await;

    let older =
        |days: u32| ClaimWanted { scope: ClaimScope::OlderThan(days * DAY), ..wanted_in_order("app") };
    assert!(lab.claim_with(older(11)).await.leases.is_empty());
    let claim = lab.claim_with(older(9)).await;
    let claimed: HashSet<EventId> = ids(&claim.leases).into_iter().collect();
    assert_eq!(claimed, [waiting, parked, unreached].into_iter().collect());
    assert_eq!(claim.more, More::None);
    assert!(lab.claim_with(older(9)).await.leases.is_empty(), "what is in flight is not given again");
    for lease in claim.leases {
        let died = lab.settle(lease, Transition::Die(DeadReason::TooOld)).await;
        assert_eq!(died, Settled::Done);
    }
    assert_eq!(lab.state(parked, "app").await, State::Dead);
    assert_eq!(lab.delivery(parked, "app").await.view.reason.as_deref(), Some("too_old"));
    assert_eq!(lab.state(young, "app").await, State::Queued);
    let bounded = ClaimWanted { leases_max: 1, ..older(0) };
    lab.clock.advance(MINUTE);
    lab.add_many(2).await;
    lab.clock.advance(MINUTE);
    assert_eq!(lab.claim_with(bounded).await.more, More::Ready);
}

pub async fn the_bell_rings_for_new_work_and_only_after_it_is_there(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let mut bell = lab.store.bell();
    bell.mark_unchanged();
    let id = lab.add("user.created", "user_1").await;
    assert!(bell.has_changed().unwrap(), "an event rings");
    bell.mark_unchanged();
    let lease = lab.claim_one("app").await;
    assert_eq!(lease.event_id(), id);
    lab.settle(lease, Transition::Return).await;
    assert!(bell.has_changed().unwrap(), "a return rings");
    bell.mark_unchanged();
    lab.store.control(&name("app"), Control::Pause(PauseReason::Operator)).await.unwrap();
    lab.store.control(&name("app"), Control::Resume).await.unwrap();
    assert!(bell.has_changed().unwrap(), "a control rings");
    bell.mark_unchanged();
    let waiter = tokio::spawn(async move { bell.changed().await.unwrap() });
    lab.add("user.created", "user_2").await;
    tokio::time::timeout(MINUTE, waiter).await.unwrap().unwrap();
}

pub async fn a_claim_that_nobody_waits_for_is_given_back(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let added: HashSet<EventId> = lab.add_many(64).await.into_iter().collect();
    let store = Arc::clone(&lab.store);
    for _ in 0..16 {
        let store = Arc::clone(&store);
        let claim =
            tokio::spawn(async move { store.claim(wanted("app")).await.map(|claimed| claimed.leases) });
        tokio::task::yield_now().await;
        claim.abort(); // before, while or after it is answered
        if let Ok(Ok(leases)) = claim.await {
            for lease in leases {
                lab.settle(lease, Transition::Return).await;
            }
        }
    }
    let mut claimed: HashSet<EventId> = HashSet::new();
    let patience = std::time::Instant::now() + MINUTE;
    while claimed != added {
        assert!(std::time::Instant::now() < patience, "{} of 64 came back", claimed.len());
        lab.store.tick().await.unwrap();
        claimed.extend(lab.claim("app").await.iter().map(Lease::event_id));
    }
}
