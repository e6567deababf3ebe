//! Laws of redriving by hand: what was asked for happens, once, in bounded steps, and nothing else does.

use std::time::Duration;

use clerk_relay::event::EventId;
use clerk_relay::lifecycle::{SkipReason, State, TakenOver, Transition};
use clerk_relay::store::Settled;
use clerk_relay::store::query::{DeliveryQuery, Redrive, RedriveAction};

use super::harness::{DAY, Kind, Lab, MINUTE, ids, name, redrive, wanted_in_order};

/// The states of [`one_of_each`]; the queued one is the last, because it is ready.
const STATES: [State; 7] = [
    State::Waiting,
    State::Delivered,
    State::Dead,
    State::Skipped,
    State::Cancelled,
    State::InFlight,
    State::Queued,
];

/// One delivery in each state but parked, which takes an ordered target.
async fn one_of_each(lab: &Lab) -> Vec<EventId> {
    let mut all = Vec::new();
    for state in STATES {
        let id = lab.add("user.created", state.as_str()).await;
        let lease = lab.claim_one("app").await;
        match state {
            State::Waiting => lab.fail(lease, 10 * DAY).await,
            State::Delivered => lab.deliver(lease).await,
            State::Dead => lab.die(lease).await,
            State::Skipped => {
                assert_eq!(lab.settle(lease, Transition::Skip(SkipReason::EventType)).await, Settled::Done);
            }
            State::Cancelled => {
                lab.die(lease).await;
                lab.redrive(Redrive { event: Some(id), ..redrive(RedriveAction::Cancel) }).await;
            }
            State::Queued => assert_eq!(lab.settle(lease, Transition::Return).await, Settled::Done),
            State::InFlight | State::Parked => {}
        }
        all.push(id);
    }
    assert_eq!(states(lab, &all).await, STATES);
    all
}

async fn states(lab: &Lab, ids: &[EventId]) -> Vec<State> {
    let mut states = Vec::new();
    for id in ids {
        states.push(lab.state(*id, "app").await);
    }
    states
}

pub async fn a_retry_starts_the_budget_again(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let id = lab.add("user.created", "user_1").await;
    for _ in 0..2 {
        let lease = lab.claim_one("app").await;
        lab.fail(lease, Duration::ZERO).await;
    }
    let lease = lab.claim_one("app").await;
    lab.die(lease).await;
    lab.clock.advance(DAY);
    let mut bell = lab.store.bell();
    bell.mark_unchanged();
    let retried = lab.redrive(Redrive { event: Some(id), ..redrive(RedriveAction::Retry) }).await;
    assert_eq!((retried.moved, retried.next), (1, None));
    assert!(bell.has_changed().unwrap());
    let view = lab.delivery(id, "app").await.view;
    assert_eq!((view.state, view.attempts, view.reason), (State::Waiting, 3, None));
    let lease = lab.claim_one("app").await;
    let progress = *lease.progress();
    assert_eq!((progress.attempts, progress.attempts_total, progress.first_attempt_at), (0, 3, None));
    assert_eq!(progress.taken_over, TakenOver::No);
    assert!(lab.clock.now().since(progress.retried_at.unwrap()) < MINUTE);
    lab.fail(lease, MINUTE).await;
    let retried = lab.redrive(Redrive { event: Some(id), ..redrive(RedriveAction::Retry) }).await;
    assert_eq!(retried.moved, 1, "a waiting one is retried at once");
    let lease = lab.claim_one("app").await;
    lab.deliver(lease).await;
    assert_eq!(lab.redrive(redrive(RedriveAction::Retry)).await.moved, 0, "nothing is left to retry");
}

pub async fn a_replay_delivers_what_has_ended(kind: &dyn Kind) {
    use State::{InFlight, Queued, Waiting};
    let lab = Lab::with_targets(kind, &["app"]).await;
    let all = one_of_each(&lab).await;
    assert_eq!(lab.redrive(redrive(RedriveAction::Replay)).await.moved, 4);
    assert_eq!(states(&lab, &all).await, [Waiting, Waiting, Waiting, Waiting, Waiting, InFlight, Queued]);
    let mut claimed = ids(&lab.claim("app").await);
    claimed.sort_unstable();
    assert_eq!(claimed, [&all[1..5], &all[6..]].concat(), "the first is not due, the other is in flight");
    // The attempts of a success at once are still there when the replay has made another.
    let lab = lab.reopen().await;
    for lease in lab.claim("app").await {
        lab.deliver(lease).await;
    }
    let attempts = lab.delivery(all[1], "app").await.attempts;
    assert_eq!(attempts.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), [1, 2]);
}

pub async fn a_replay_to_a_named_target_reaches_before_its_beginning(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let before = lab.add_many(3).await;
    lab.declare(&["app", "new"]).await;
    let after = lab.add("user.created", "user_9").await;
    let query = || DeliveryQuery { target: Some(name("new")), ..DeliveryQuery::default() };
    let replayed = lab.redrive(Redrive { query: query(), ..redrive(RedriveAction::Replay) }).await;
    assert_eq!(replayed.moved, 3, "the fourth comes by itself");
    let again = lab.redrive(Redrive { query: query(), ..redrive(RedriveAction::Replay) }).await;
    assert_eq!(again.moved, 0, "it is on its way");
    assert_eq!(lab.target("new").await.queued, 4);
    let leases = lab.claim("new").await;
    let mut claimed = ids(&leases);
    claimed.sort_unstable();
    assert_eq!(claimed, [before.clone(), vec![after]].concat());
    for lease in leases {
        assert_eq!(lease.progress().retried_at.is_some(), lease.event_id() != after);
        lab.deliver(lease).await;
    }
    // By type and time, too.
    lab.clock.advance(MINUTE);
    let now = lab.clock.now();
    lab.add("session.ended", "user_1").await;
    for lease in lab.claim("new").await {
        lab.deliver(lease).await;
    }
    for (event_type, since, moved) in
        [("session.ended", None, 1), ("user.updated", None, 3), ("user.updated", Some(now), 0)]
    {
        let query = DeliveryQuery { event_type: Some(event_type.into()), since, ..query() };
        assert_eq!(lab.redrive(Redrive { query, ..redrive(RedriveAction::Replay) }).await.moved, moved);
    }
    assert_eq!(lab.target("app").await.queued, 5, "the other target was left alone");
}

pub async fn a_cancel_ends_what_is_unfinished(kind: &dyn Kind) {
    use State::{Cancelled, Delivered, InFlight, Skipped};
    let lab = Lab::with_targets(kind, &["app"]).await;
    let all = one_of_each(&lab).await;
    assert_eq!(lab.redrive(redrive(RedriveAction::Cancel)).await.moved, 3);
    let expected = [Cancelled, Delivered, Cancelled, Skipped, Cancelled, InFlight, Cancelled];
    assert_eq!(states(&lab, &all).await, expected);
    lab.clock.advance(20 * DAY);
    assert!(lab.claim("app").await.is_empty());

    let lab = Lab::with_targets(kind, &["app"]).await;
    for _ in 0..2 {
        lab.add("user.updated", "user_1").await;
    }
    lab.claim_with(wanted_in_order("app")).await;
    let query = DeliveryQuery { states: vec![State::Parked], ..DeliveryQuery::default() };
    assert_eq!(lab.redrive(Redrive { query, ..redrive(RedriveAction::Cancel) }).await.moved, 1);
}

pub async fn what_is_in_flight_or_not_reached_is_left_alone(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let in_flight = lab.add("user.created", "user_1").await;
    let lease = lab.claim_one("app").await;
    let unreached = lab.add("user.created", "user_2").await;
    for action in [RedriveAction::Retry, RedriveAction::Replay, RedriveAction::Cancel] {
        for event in [None, Some(in_flight), Some(unreached)] {
            for target in [None, Some(name("app"))] {
                let query = DeliveryQuery { target, ..DeliveryQuery::default() };
                assert_eq!(lab.redrive(Redrive { event, query, ..redrive(action) }).await.moved, 0);
            }
        }
    }
    assert_eq!(lab.state(in_flight, "app").await, State::InFlight);
    assert_eq!(lab.state(unreached, "app").await, State::Queued);
    lab.deliver(lease).await;
    assert_eq!(lab.claim_one("app").await.event_id(), unreached);
}

async fn dead(lab: &Lab, count: usize) -> Vec<EventId> {
    let added = lab.add_many(count).await;
    loop {
        let leases = lab.claim("app").await;
        if leases.is_empty() {
            return added;
        }
        for lease in leases {
            lab.die(lease).await;
        }
    }
}

pub async fn due_times_are_spread(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    dead(&lab, 10).await;
    let spread = 10 * MINUTE;
    assert_eq!(lab.redrive(Redrive { spread, ..redrive(RedriveAction::Retry) }).await.moved, 10);
    for _ in 0..10 {
        assert_eq!(lab.claim("app").await.len(), 1, "one a minute");
        lab.clock.advance(MINUTE);
    }
    assert!(lab.claim("app").await.is_empty());
}

pub async fn a_redrive_goes_on_where_it_stopped(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let added = dead(&lab, 25).await;
    let (mut after, mut moved) = (None, Vec::new());
    for _ in 0..3 {
        let step = Redrive { max: 10, after, ..redrive(RedriveAction::Retry) };
        let done = lab.redrive(step).await;
        moved.push(done.moved);
        after = done.next;
    }
    assert_eq!(moved, [10, 10, 5]);
    assert_eq!(after, None);
    let mut claimed = Vec::new();
    for _ in 0..2 {
        claimed.extend(ids(&lab.claim("app").await));
    }
    claimed.sort_unstable();
    assert_eq!(claimed, added);
    let spent = lab.redrive(redrive(RedriveAction::Retry)).await;
    assert_eq!((spent.moved, spent.next), (0, None));
}
