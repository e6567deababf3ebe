//! The law of paging: while events come, deliveries change and old events go, a walk over all pages of a list misses
//! nothing that was there all the time, and shows nothing twice.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;

use clerk_relay::event::{EventId, Subject};
use clerk_relay::lifecycle::State;
use clerk_relay::store::query::{DeliveryQuery, EventQuery, Page, Redrive, RedriveAction};

use super::harness::{DAY, Kind, Lab, MINUTE, name, new, redrive};
use crate::support::events;

/// Few, so that much happens between the first page and the last.
const ROWS: u32 = 7;

/// Events that stay: dead at one target, delivered to the other.
async fn staying(lab: &Lab) -> Vec<EventId> {
    let mut all = Vec::new();
    for _ in 0..60 {
        all.push(new(lab.ingest("staging", &lab.svix_id(), &events::body("user.deleted", "user_1")).await));
    }
    for (target, is_dead) in [("app", true), ("web", false)] {
        loop {
            let leases = lab.claim(target).await;
            if leases.is_empty() {
                break;
            }
            for lease in leases {
                if is_dead { lab.die(lease).await } else { lab.deliver(lease).await }
            }
        }
    }
    // Old enough to be swept, were they not dead letters.
    lab.clock.advance(8 * DAY);
    all
}

/// Changes whatever does not stay, without an end.
async fn change(lab: &Lab) {
    for round in 0_usize.. {
        let event_type = ["user.deleted", "user.updated"][round % 2];
        let source = ["clerk", "staging"][round % 3 % 2];
        let body = events::body(event_type, &format!("user_{}", round % 4));
        let id = new(lab.ingest(source, &lab.svix_id(), &body).await);
        for target in ["app", "web"] {
            for (number, lease) in lab.claim(target).await.into_iter().enumerate() {
                match (round + number) % 4 {
                    0 => lab.die(lease).await,
                    1 => lab.fail(lease, MINUTE).await,
                    _ => lab.deliver(lease).await,
                }
            }
        }
        if round % 3 == 0 {
            lab.redrive(Redrive { event: Some(id), ..redrive(RedriveAction::Retry) }).await;
        }
        lab.store.sweep(3).await.unwrap();
    }
}

/// Holds what was shown against what was there all the time.
fn judge<T: Eq + Hash + Debug>(shown: Vec<T>, there: impl IntoIterator<Item = T>, what: &dyn Debug) {
    let count = shown.len();
    let shown: HashSet<T> = shown.into_iter().collect();
    assert_eq!(shown.len(), count, "{what:?} shows something twice");
    for one in there {
        assert!(shown.contains(&one), "{what:?} misses {one:?}");
    }
}

async fn walk_events(lab: &Lab, query: EventQuery, there: &[EventId]) {
    let (mut shown, mut page) = (Vec::new(), Page::first(ROWS));
    loop {
        let paged = lab.store.events(query.clone(), page).await.unwrap();
        shown.extend(paged.rows.iter().map(|meta| meta.id));
        let Some(next) = paged.next else { break };
        page = Page::after(ROWS, next.to_string().parse().unwrap());
    }
    judge(shown, there.iter().copied(), &query);
}

async fn walk_deliveries(lab: &Lab, query: DeliveryQuery, there: &[EventId]) {
    let (mut shown, mut page) = (Vec::new(), Page::first(ROWS));
    loop {
        let paged = lab.store.deliveries(query.clone(), page).await.unwrap();
        shown.extend(paged.rows.iter().map(|view| (view.event_id, view.target.to_string())));
        let Some(next) = paged.next else { break };
        page = Page::after(ROWS, next.to_string().parse().unwrap());
    }
    judge(shown, there.iter().map(|id| (*id, "app".to_owned())), &query);
}

pub async fn pages_miss_nothing_and_show_nothing_twice_while_everything_changes(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app", "web"]).await;
    let there = staying(&lab).await;
    let event_type = || Some("user.deleted".to_owned());
    let (subject, source) = (|| Subject::of("user_1"), || Some("staging".parse().unwrap()));
    let all_events = EventQuery::default;
    let all = DeliveryQuery::default;
    let walks = async {
        for query in [
            all_events(),
            EventQuery { event_type: event_type(), ..all_events() },
            EventQuery { subject: subject(), ..all_events() },
            EventQuery { source: source(), ..all_events() },
            EventQuery { source: source(), event_type: event_type(), ..all_events() },
            EventQuery { payload: Some("user_1".parse().unwrap()), ..all_events() },
        ] {
            walk_events(&lab, query, &there).await;
        }
        for query in [
            all(),
            DeliveryQuery { states: vec![State::Dead], ..all() },
            DeliveryQuery { states: vec![State::Dead, State::Waiting, State::InFlight], ..all() },
            DeliveryQuery { target: Some(name("app")), states: vec![State::Dead, State::Delivered], ..all() },
            DeliveryQuery { event_type: event_type(), ..all() },
            DeliveryQuery { subject: subject(), ..all() },
            DeliveryQuery { source: source(), states: vec![State::Dead], ..all() },
        ] {
            walk_deliveries(&lab, query, &there).await;
        }
    };
    tokio::select! {
        () = walks => {}
        () = change(&lab) => {}
    }
}
