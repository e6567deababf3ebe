//! Laws of erasing: what is kept of a subject goes, the facts stay, nothing of it is ever sent again, and nothing else is
//! touched.

use std::time::Duration;

use clerk_relay::clock::Timestamp;
use clerk_relay::event::{EventId, Subject};
use clerk_relay::lifecycle::{DeadReason, Ordering, SkipReason, Start, State, Transition};
use clerk_relay::store::ledger::{Refusal, RefusalQuery};
use clerk_relay::store::query::{
    DeliveryQuery, Erase, Erased, EventQuery, Mode, Page, Payload, Redrive, RedriveAction,
};
use clerk_relay::store::{ClaimScope, ClaimWanted, Ingested};

use super::harness::{DAY, Kind, Lab, MINUTE, ids, name, redrive, wanted, wanted_in_order};
use crate::support::events;

pub const JANE: &str = "user_jane";

/// An erasure of everything about Jane until now, in one step.
fn erase(lab: &Lab) -> Erase {
    Erase {
        subject: Subject::of(JANE).unwrap(),
        as_of: lab.clock.now(),
        mode: Mode::Apply,
        max: 100,
        after: None,
    }
}

pub async fn erase_now(lab: &Lab) -> Erased {
    lab.store.erase(erase(lab)).await.unwrap()
}

pub fn done(events: u64, in_flight: u64) -> Erased {
    Erased { events, in_flight, next: None }
}

/// State and reason of this delivery.
pub async fn end(lab: &Lab, id: EventId, target: &str) -> (State, Option<String>) {
    let view = lab.delivery(id, target).await.view;
    (view.state, view.reason)
}

pub fn erased() -> (State, Option<String>) {
    (State::Cancelled, Some("erased".to_owned()))
}

/// Nothing of any target is unfinished or dead.
pub async fn assert_nothing_is_left(lab: &Lab) {
    for target in lab.store.overview().await.unwrap().targets {
        let counts = [target.queued, target.in_flight, target.waiting, target.parked, target.dead];
        assert_eq!(counts, [0; 5], "{}", target.name);
        assert_eq!(target.oldest_unfinished, None, "{}", target.name);
    }
}

pub async fn the_payload_goes_and_the_facts_stay(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let body = r#"{"type":"user.created","data":{"id":"user_jane","email":"jane@example.com"}}"#;
    let Ingested::New(id) = lab.ingest("clerk", "msg_jane", body).await else { panic!("it is new") };
    let other = lab.add("user.created", "user_john").await;
    let before = lab.event(id).await;
    for lease in lab.claim("app").await {
        lab.fail(lease, MINUTE).await;
    }
    lab.clock.advance(MINUTE);
    for lease in lab.claim("app").await {
        lab.deliver(lease).await;
    }
    assert_eq!(erase_now(&lab).await, done(1, 0));
    let lab = lab.reopen().await;
    let after = lab.event(id).await;
    assert!(after.event.is_none());
    assert_eq!((after.meta.payload, after.meta.body_bytes), (Payload::Erased, 0));
    let facts = |meta: &clerk_relay::store::query::EventMeta| {
        let meta = meta.clone();
        (meta.id, meta.source, meta.svix_id, meta.event_type, meta.subject)
    };
    assert_eq!(facts(&after.meta), facts(&before.meta));
    assert_eq!(end(&lab, id, "app").await, (State::Delivered, None));
    let attempts = &after.deliveries[0].attempts;
    assert_eq!(attempts.iter().map(|one| one.status).collect::<Vec<_>>(), [Some(503), Some(204)]);
    assert!(attempts.iter().all(|one| one.reply.is_empty()), "{attempts:?}");
    let kept = lab.event(other).await;
    assert!(kept.event.is_some() && kept.meta.payload == Payload::Kept);
    assert_eq!(&*kept.deliveries[0].attempts[0].reply, b"try again later");
    let listed = lab.store.events(EventQuery::default(), Page::first(10)).await.unwrap().rows;
    let listed: Vec<_> = listed.iter().map(|meta| (meta.id, meta.payload)).collect();
    assert_eq!(listed, [(other, Payload::Kept), (id, Payload::Erased)]);
    let again = lab.ingest("clerk", "msg_jane", body).await;
    assert!(matches!(again, Ingested::Duplicate(duplicate) if duplicate.id == id), "it does not rise again");
}

pub async fn what_is_unfinished_or_dead_ends_cancelled(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let mut all = Vec::new();
    for state in
        [State::Waiting, State::Dead, State::Delivered, State::Skipped, State::Cancelled, State::Queued]
    {
        let id = lab.add("user.updated", JANE).await;
        let lease = lab.claim_one("app").await;
        match state {
            State::Waiting => lab.fail(lease, DAY).await,
            State::Dead => lab.die(lease).await,
            State::Delivered => lab.deliver(lease).await,
            State::Skipped => drop(lab.settle(lease, Transition::Skip(SkipReason::EventType)).await),
            State::Cancelled => {
                lab.die(lease).await;
                lab.redrive(Redrive { event: Some(id), ..redrive(RedriveAction::Cancel) }).await;
            }
            State::Queued | State::InFlight | State::Parked => {
                lab.settle(lease, Transition::Return).await;
            }
        }
        all.push((id, state));
    }
    let unreached = lab.add("user.updated", JANE).await;
    assert_eq!(erase_now(&lab).await, done(7, 0));
    for (id, state) in all {
        let expected = match state {
            State::Delivered => (state, None),
            State::Skipped => (state, Some("event_type".to_owned())),
            State::Cancelled => (state, None),
            State::Waiting | State::Dead | State::Queued | State::InFlight | State::Parked => erased(),
        };
        assert_eq!(end(&lab, id, "app").await, expected, "{state:?}");
    }
    assert_eq!(end(&lab, unreached, "app").await, erased());
    assert_nothing_is_left(&lab).await;
    lab.clock.advance(2 * DAY);
    assert!(lab.claim("app").await.is_empty());
}

pub async fn a_parked_follower_is_let_go(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    lab.add("user.updated", JANE).await;
    let claim = async || lab.claim_with(wanted_in_order("app")).await.leases;
    let mut head = claim().await;
    lab.fail(head.remove(0), DAY).await;
    let second = lab.add("user.updated", JANE).await;
    assert!(claim().await.is_empty());
    assert_eq!(lab.state(second, "app").await, State::Parked);
    let until = lab.clock.now();
    lab.clock.advance(MINUTE);
    let follower = lab.add("user.updated", JANE).await;
    assert!(claim().await.is_empty());
    assert_eq!(lab.state(follower, "app").await, State::Parked);
    let mut bell = lab.store.bell();
    bell.mark_unchanged();
    let erased_until = lab.store.erase(Erase { as_of: until, ..erase(&lab) }).await.unwrap();
    assert_eq!(erased_until, done(2, 0));
    assert!(bell.has_changed().unwrap());
    assert_eq!(end(&lab, second, "app").await, erased());
    assert_eq!(ids(&claim().await), [follower]);
}

pub async fn what_is_in_flight_ends_with_its_attempt(kind: &dyn Kind) {
    let transitions = [
        Transition::Wait { after: Duration::ZERO },
        Transition::Die(DeadReason::Exhausted),
        Transition::Postpone { after: MINUTE },
        Transition::Return,
        Transition::Deliver,
        Transition::Skip(SkipReason::Source),
    ];
    for tried_before in [false, true] {
        let lab = Lab::with_targets(kind, &["app"]).await;
        let mut all = Vec::new();
        for _ in transitions {
            all.push(lab.add("user.updated", JANE).await);
        }
        let mut leases = lab.claim("app").await;
        if tried_before {
            for lease in leases {
                lab.fail(lease, Duration::ZERO).await;
            }
            leases = lab.claim("app").await;
            leases.sort_by_key(clerk_relay::store::Lease::event_id);
        }
        assert_eq!(erase_now(&lab).await, done(6, 6));
        assert_eq!(erase_now(&lab).await, done(0, 6), "they are still in flight");
        assert_eq!(lab.target("app").await.in_flight, 6);
        for ((lease, transition), id) in leases.into_iter().zip(transitions).zip(&all) {
            assert_eq!(end(&lab, *id, "app").await, (State::InFlight, Some("erased".to_owned())));
            lab.settle(lease, transition).await;
            let expected = match transition {
                Transition::Deliver => (State::Delivered, None),
                Transition::Skip(_) => (State::Skipped, Some("source".to_owned())),
                Transition::Wait { .. }
                | Transition::Die(_)
                | Transition::Postpone { .. }
                | Transition::Return
                | Transition::Erase => erased(),
            };
            assert_eq!(end(&lab, *id, "app").await, expected, "{transition:?}");
            let attempts = lab.delivery(*id, "app").await.attempts;
            assert_eq!(attempts.len(), usize::from(transition.counts()) + usize::from(tried_before));
            assert!(attempts.iter().all(|one| one.reply.is_empty()), "{transition:?}: {attempts:?}");
        }
        assert_eq!(erase_now(&lab).await, done(0, 0));
        assert_nothing_is_left(&lab).await;
        lab.clock.advance(DAY);
        assert!(lab.claim("app").await.is_empty());
    }
}

pub async fn what_is_taken_over_is_not_sent_again(kind: &dyn Kind) {
    for tried_before in [false, true] {
        let lab = Lab::with_targets(kind, &["app"]).await;
        let id = lab.add("user.updated", JANE).await;
        let mut lease = lab.claim_with(wanted_in_order("app")).await.leases.remove(0);
        if tried_before {
            lab.fail(lease, Duration::ZERO).await;
            lease = lab.claim_with(wanted_in_order("app")).await.leases.remove(0);
        }
        let until = lab.clock.now();
        lab.clock.advance(MINUTE);
        let follower = lab.add("user.updated", JANE).await;
        assert!(lab.claim_with(wanted_in_order("app")).await.leases.is_empty());
        let erased_until = lab.store.erase(Erase { as_of: until, ..erase(&lab) }).await.unwrap();
        assert_eq!(erased_until, done(1, 1));
        let lab = lab.reopen().await;
        lab.declare(&["app"]).await;
        lab.store.tick().await.unwrap();
        assert_eq!(end(&lab, id, "app").await, erased());
        assert_eq!(ids(&lab.claim_with(wanted_in_order("app")).await.leases), [follower]);
        let stale = lab.settle(lease, Transition::Wait { after: Duration::ZERO }).await;
        assert_eq!(stale, clerk_relay::store::Settled::Lost);
        assert_eq!(end(&lab, id, "app").await, erased());
    }
}

pub async fn nothing_brings_it_back(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let delivered = lab.add("user.updated", JANE).await;
    let lease = lab.claim_one("app").await;
    lab.deliver(lease).await;
    let dead = lab.add("user.updated", JANE).await;
    let lease = lab.claim_one("app").await;
    lab.die(lease).await;
    let unreached = lab.add("user.updated", JANE).await;
    let kept = lab.add("user.updated", "user_john").await;
    assert_eq!(erase_now(&lab).await, done(3, 0));
    lab.declare_from(&["app", "new"], Start::Beginning).await;
    assert_eq!(lab.target("new").await.queued, 1);
    for action in [RedriveAction::Retry, RedriveAction::Replay, RedriveAction::Cancel] {
        for event in [None, Some(delivered), Some(dead), Some(unreached)] {
            for target in [None, Some(name("app")), Some(name("new"))] {
                let query = DeliveryQuery { target, ..DeliveryQuery::default() };
                let moved = lab.redrive(Redrive { event, query, ..redrive(action) }).await.moved;
                assert_eq!(moved, 0, "{action:?} {event:?}");
            }
        }
    }
    for target in ["app", "new"] {
        assert_eq!(ids(&lab.claim(target).await), [kept]);
        assert!(lab.claim(target).await.is_empty());
        let older = ClaimWanted { scope: ClaimScope::OlderThan(Duration::ZERO), ..wanted(target) };
        lab.clock.advance(MINUTE);
        assert!(lab.claim_with(older).await.leases.is_empty());
    }
    assert_eq!(end(&lab, delivered, "app").await, (State::Delivered, None));
    let seen = lab.event(dead).await.deliveries;
    assert_eq!(seen.len(), 1, "no delivery of a target that began later");
}

pub async fn what_came_later_and_what_others_did_is_untouched(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let before = lab.add("user.updated", JANE).await;
    let until = lab.clock.now();
    lab.clock.advance(MINUTE);
    let after = lab.add("user.updated", JANE).await;
    let nobody = lab.ingest("clerk", "msg_nobody", r#"{"type":"sms.created","data":{}}"#).await;
    let counted = lab.store.erase(Erase { mode: Mode::Count, ..erase(&lab) }).await.unwrap();
    assert_eq!(counted, done(2, 0));
    assert_eq!(lab.event(before).await.meta.payload, Payload::Kept, "a count changes nothing");
    assert_eq!(lab.target("app").await.queued, 3);
    assert_eq!(lab.store.erase(Erase { as_of: until, ..erase(&lab) }).await.unwrap(), done(1, 0));
    assert_eq!(lab.event(before).await.meta.payload, Payload::Erased);
    assert!(lab.event(after).await.event.is_some());
    let nobody = super::harness::new(nobody);
    assert!(lab.event(nobody).await.event.is_some());
    assert_eq!(ids(&lab.claim("app").await), [after, nobody]);
    let stranger = Erase { subject: Subject::of("user_unknown").unwrap(), ..erase(&lab) };
    assert_eq!(lab.store.erase(stranger).await.unwrap(), done(0, 0));
    let counted = lab.store.erase(Erase { mode: Mode::Count, ..erase(&lab) }).await.unwrap();
    assert_eq!(counted, done(1, 1));
}

pub async fn steps_go_on_where_they_stopped_and_may_be_repeated(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    for _ in 0..5 {
        lab.add("user.updated", JANE).await;
    }
    for (mode, expected) in [(Mode::Count, [2, 2, 1]), (Mode::Apply, [2, 2, 1]), (Mode::Apply, [0, 0, 0])] {
        let (mut after, mut counts) = (None, Vec::new());
        for _ in 0..3 {
            let step = Erase { max: 2, mode, after, ..erase(&lab) };
            let erased = lab.store.erase(step.clone()).await.unwrap();
            if mode == Mode::Apply {
                assert_eq!(lab.store.erase(step).await.unwrap().events, 0, "a step that is repeated");
            }
            counts.push(erased.events);
            after = erased.next;
        }
        assert_eq!((counts.as_slice(), after), (&expected[..], None));
    }
    assert_nothing_is_left(&lab).await;
}

pub async fn refusals_of_its_id_go(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    lab.ingest("clerk", "msg_jane", &events::body("user.updated", JANE)).await;
    let refusal = |svix_id: Option<&str>| Refusal {
        at: lab.clock.now(),
        source: None,
        status: 401,
        code: "invalid_signature".to_owned(),
        cause: "none matches".to_owned(),
        remote: Some("192.0.2.7".to_owned()),
        svix_id: svix_id.map(str::to_owned),
        user_agent: None,
        body_bytes: 7,
    };
    let all = [Some("msg_other"), Some("msg_jane"), None, Some("msg_jane")].map(refusal).to_vec();
    lab.store.refusals(RefusalQuery::Append(all)).await.unwrap();
    lab.store.erase(Erase { mode: Mode::Count, ..erase(&lab) }).await.unwrap();
    let listed = async || {
        let rows = lab.store.refusals(RefusalQuery::List(Page::first(10))).await.unwrap().rows;
        rows.into_iter().map(|row| row.svix_id).collect::<Vec<_>>()
    };
    assert_eq!(listed().await.len(), 4);
    erase_now(&lab).await;
    assert_eq!(listed().await, [None, Some("msg_other".to_owned())]);
}

pub async fn an_ordering_that_changes_later_meets_no_ghost(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    lab.add("user.updated", JANE).await;
    let lease = lab.claim_one("app").await;
    lab.add("user.updated", JANE).await;
    let john = lab.add("user.updated", "user_john").await;
    let now: Timestamp = lab.clock.now();
    assert_eq!(lab.store.erase(Erase { as_of: now, ..erase(&lab) }).await.unwrap(), done(2, 1));
    let in_order = ClaimWanted { ordering: Ordering::Subject, ..wanted_in_order("app") };
    assert_eq!(ids(&lab.claim_with(in_order.clone()).await.leases), [john]);
    lab.clock.advance(MINUTE);
    let next = lab.add("user.updated", JANE).await;
    assert!(lab.claim_with(in_order.clone()).await.leases.is_empty(), "never beside what is in flight");
    lab.settle(lease, Transition::Wait { after: Duration::ZERO }).await;
    assert_eq!(ids(&lab.claim_with(in_order).await.leases), [next]);
}
