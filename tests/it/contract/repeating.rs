//! Laws of redriving as of a moment: what was counted is what is moved, a step that is repeated moves nothing twice, and
//! two operators who press the same button do one thing.

use std::time::Duration;

use clerk_relay::clock::Timestamp;
use clerk_relay::event::EventId;
use clerk_relay::lifecycle::State;
use clerk_relay::store::query::{DeliveryQuery, Mode, Redrive, RedriveAction};

use super::harness::{DAY, Kind, Lab, MINUTE, ids, name, new, redrive, wanted_in_order};
use crate::support::events;

const ACTIONS: [RedriveAction; 3] = [RedriveAction::Retry, RedriveAction::Replay, RedriveAction::Cancel];

async fn delivered(lab: &Lab, count: usize) -> Vec<EventId> {
    let added = lab.add_many(count).await;
    for lease in lab.claim("app").await {
        lab.deliver(lease).await;
    }
    added
}

fn as_of(action: RedriveAction, at: Timestamp) -> Redrive {
    Redrive { as_of: Some(at), ..redrive(action) }
}

pub async fn a_repeated_step_moves_nothing_twice(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let added = delivered(&lab, 5).await;
    let at = lab.delivery(added[4], "app").await.view.updated_at;
    let step = || as_of(RedriveAction::Replay, at);
    assert_eq!(lab.redrive(step()).await.moved, 5);
    assert_eq!(lab.redrive(step()).await.moved, 0, "they wait");
    let leases = lab.claim("app").await;
    assert_eq!(leases.len(), 5);
    assert_eq!(lab.redrive(step()).await.moved, 0, "they are in flight");
    for lease in leases {
        lab.deliver(lease).await;
    }
    assert_eq!(lab.redrive(step()).await.moved, 0, "they have ended again");
    assert!(lab.claim("app").await.is_empty());
    assert_eq!(lab.redrive(redrive(RedriveAction::Replay)).await.moved, 5, "asked for anew");
}

pub async fn a_repeated_replay_still_reaches_what_never_had_a_record(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let before = lab.add_many(3).await;
    lab.declare(&["app", "new"]).await;
    let at = lab.clock.now();
    let query = || DeliveryQuery { target: Some(name("new")), ..DeliveryQuery::default() };
    let step = || Redrive { query: query(), max: 2, ..as_of(RedriveAction::Replay, at) };
    let first = lab.redrive(step()).await;
    assert_eq!(first.moved, 2);
    assert_eq!(lab.redrive(step()).await.moved, 0, "the same step again");
    let mut leases = lab.claim("new").await;
    assert_eq!(leases.len(), 2);
    let last = Redrive { after: first.next.clone(), ..step() };
    assert_eq!(lab.redrive(last.clone()).await.moved, 1);
    leases.extend(lab.claim("new").await);
    assert_eq!(leases.len(), 3);
    for lease in leases {
        assert!(before.contains(&lease.event_id()));
        lab.deliver(lease).await;
    }
    for step in [step(), last] {
        assert_eq!(lab.redrive(step).await.moved, 0, "they have ended");
    }
}

pub async fn what_has_changed_since_is_left_alone(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let (early, late) = (lab.add("user.created", "user_1").await, lab.add("user.created", "user_2").await);
    let mut leases = lab.claim("app").await.into_iter();
    let (first, second) = (leases.next().unwrap(), leases.next().unwrap());
    lab.die(first).await;
    let at = lab.delivery(early, "app").await.view.updated_at;
    lab.clock.advance(MINUTE);
    lab.die(second).await;
    for action in ACTIONS {
        let step = Redrive { event: Some(late), ..as_of(action, at) };
        assert_eq!(lab.redrive(step).await.moved, 0, "{action:?}");
    }
    assert_eq!(lab.redrive(as_of(RedriveAction::Retry, at)).await.moved, 1);
    assert_eq!(ids(&lab.claim("app").await), [early]);
}

/// One delivery in most states, some of them of another source, to two targets of which one is in order.
async fn something_of_everything(lab: &Lab) {
    for number in 0..24 {
        let body =
            events::body(["user.created", "user.updated"][number % 2], &format!("user_{}", number % 5));
        let source = if number % 3 == 0 { "staging" } else { "clerk" };
        new(lab.ingest(source, &lab.svix_id(), &body).await);
    }
    for lease in lab.claim("app").await.into_iter().enumerate() {
        match lease {
            (number, lease) if number % 4 == 0 => lab.die(lease).await,
            (number, lease) if number % 4 == 1 => lab.fail(lease, DAY).await,
            (number, lease) if number % 4 == 2 => lab.deliver(lease).await,
            (_, lease) => drop(lease),
        }
    }
    for (number, lease) in lab.claim_with(wanted_in_order("crm")).await.leases.into_iter().enumerate() {
        if number % 2 == 0 { lab.fail(lease, DAY).await } else { lab.die(lease).await }
    }
}

/// Every delivery that is listed, and where it is.
async fn all_states(lab: &Lab) -> Vec<(EventId, String, State)> {
    let page = clerk_relay::store::query::Page::first(500);
    let rows = lab.store.deliveries(DeliveryQuery::default(), page).await.unwrap().rows;
    rows.into_iter().map(|view| (view.event_id, view.target.to_string(), view.state)).collect()
}

/// The sum of all steps.
async fn in_all(lab: &Lab, redrive: Redrive) -> u64 {
    let (mut moved, mut after) = (0, None);
    loop {
        let done = lab.redrive(Redrive { max: 3, after, ..redrive.clone() }).await;
        moved += done.moved;
        let Some(next) = done.next else { return moved };
        after = Some(next.to_string().parse().unwrap());
    }
}

pub async fn a_count_is_what_apply_then_moves_and_changes_nothing(kind: &dyn Kind) {
    let queries = [
        DeliveryQuery::default(),
        DeliveryQuery { source: Some("staging".parse().unwrap()), ..DeliveryQuery::default() },
        DeliveryQuery {
            target: Some(name("app")),
            event_type: Some("user.created".into()),
            ..Default::default()
        },
        DeliveryQuery { target: Some(name("late")), ..DeliveryQuery::default() },
        DeliveryQuery { target: Some(name("crm")), states: vec![State::Dead], ..DeliveryQuery::default() },
    ];
    let lab = Lab::with_targets(kind, &["app", "crm"]).await;
    something_of_everything(&lab).await;
    lab.declare(&["app", "crm", "late"]).await;
    let mut counted = Vec::new();
    for action in ACTIONS {
        for query in &queries {
            lab.clock.advance(MINUTE);
            something_of_everything(&lab).await;
            let (at, before) = (lab.clock.now(), all_states(&lab).await);
            let step = Redrive { query: query.clone(), ..as_of(action, at) };
            let count = in_all(&lab, Redrive { mode: Mode::Count, ..step.clone() }).await;
            assert_eq!(all_states(&lab).await, before);
            assert_eq!(in_all(&lab, step).await, count, "{action:?} {query:?}");
            counted.push(count);
        }
    }
    assert_eq!(counted.iter().filter(|count| **count > 0).count(), 12, "{counted:?}");
}

pub async fn of_two_operators_who_retry_at_once_one_sends(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let id = lab.add("user.created", "user_1").await;
    let lease = lab.claim_one("app").await;
    lab.die(lease).await;
    for state in [State::Dead, State::Waiting] {
        let view = lab.delivery(id, "app").await.view;
        assert_eq!(view.state, state);
        let press = || {
            let query = DeliveryQuery { target: Some(name("app")), ..DeliveryQuery::default() };
            lab.redrive(Redrive { event: Some(id), query, ..as_of(RedriveAction::Retry, view.updated_at) })
        };
        let (first, second) = tokio::join!(press(), press());
        assert_eq!(first.moved + second.moved, 1);
        let lease = lab.claim_one("app").await;
        lab.fail(lease, DAY).await;
        assert_eq!(press().await.moved, 0, "who presses late finds that it was attempted meanwhile");
        assert!(lab.claim("app").await.is_empty());
    }
}

pub async fn a_clock_set_back_moves_nothing_twice(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    delivered(&lab, 3).await;
    let at = lab.clock.now().plus(Duration::from_secs(3_600));
    let step = || as_of(RedriveAction::Replay, at);
    assert_eq!(lab.redrive(step()).await.moved, 3, "as of what was later before the clock was set back");
    assert_eq!(lab.redrive(Redrive { action: RedriveAction::Retry, ..step() }).await.moved, 0);
    assert_eq!(lab.redrive(step()).await.moved, 0);
}
