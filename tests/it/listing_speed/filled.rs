//! A store with many events and deliveries in every state, of which the test knows what is where.

use std::collections::HashMap;

use clerk_relay::event::EventId;
use clerk_relay::lifecycle::{DeadReason, SkipReason, State, Transition};
use clerk_relay::store::query::{Redrive, RedriveAction};
use clerk_relay::store::{ClaimWanted, Ingested, Lease, Settle, Settled};
use futures_util::StreamExt as _;

use crate::contract::harness::{DAY, Kind, Lab, name, redrive, wanted};
use crate::support::events;

const TYPES: [&str; 8] = [
    "user.created",
    "user.updated",
    "session.created",
    "session.ended",
    "email.created",
    "organization.updated",
    "organizationMembership.created",
    "role.updated",
];
/// A type and a source that only a few events have.
pub const RARE_TYPE: &str = "waitlistEntry.created";
pub const RARE_SOURCE: &str = "staging";
/// What stands in the payload of the oldest event alone.
pub const HIDDEN: &str = "jane@example.com";
/// Deliveries left in flight.
const IN_FLIGHT: usize = 10;

/// What is known of an event by its number.
pub struct Facts {
    pub event_type: &'static str,
    pub source: &'static str,
    pub subject: String,
}

pub fn facts(number: usize, count: usize) -> Facts {
    Facts {
        event_type: if number % (count / 5) == 7 { RARE_TYPE } else { TYPES[number % TYPES.len()] },
        source: if number % (count / 8) == 9 { RARE_SOURCE } else { "clerk" },
        subject: format!("user_{}", number % 997),
    }
}

pub fn svix_id(number: usize) -> String {
    format!("msg_{number:08}")
}

/// Where the delivery to a target is of the event at this place among all, from the oldest on; `None`: it has no record.
fn state(target: &str, place: usize, count: usize) -> Option<State> {
    match target {
        "app" if place >= count - IN_FLIGHT => Some(State::InFlight),
        "app" => Some(match (place % 20, place % (count / 10)) {
            (0, _) => State::Dead,
            (1, _) => State::Waiting,
            (_, 2) => State::Skipped,
            (_, 3) => State::Cancelled,
            (_, _) => State::Delivered,
        }),
        // It lags far behind.
        "crm" if place < count / 10 => Some(State::Delivered),
        _ => None,
    }
}

/// The store and what is in it.
pub struct Filled {
    pub lab: Lab,
    /// Of the events, from the oldest on.
    pub ids: Vec<EventId>,
    /// Their numbers: the order in which they were sent, which is roughly that in which they were kept.
    pub numbers: Vec<usize>,
    /// The deliveries that have a record, by event's place among the ids, then by target.
    pub deliveries: Vec<(usize, &'static str, State)>,
    /// Those in flight.
    _held: Vec<Lease>,
}

impl Filled {
    pub async fn new(kind: &dyn Kind, count: usize) -> Self {
        let lab = Lab::with_targets(kind, &["app", "crm", "idle"]).await;
        let (ids, numbers): (Vec<EventId>, Vec<usize>) = ingest(&lab, count).await.into_iter().unzip();
        let places: HashMap<EventId, usize> =
            ids.iter().enumerate().map(|(place, id)| (*id, place)).collect();
        let mut held = Vec::new();
        for target in ["app", "crm"] {
            settle(&lab, target, &places, &mut held).await;
        }
        let mut deliveries = Vec::new();
        for (place, id) in ids.iter().enumerate() {
            for target in ["app", "crm"] {
                deliveries.extend(state(target, place, count).map(|state| (place, target, state)));
            }
            if state("app", place, count) == Some(State::Cancelled) {
                let cancel = Redrive { event: Some(*id), ..redrive(RedriveAction::Cancel) };
                assert_eq!(lab.redrive(cancel).await.moved, 1);
            }
        }
        Self { lab, ids, numbers, deliveries, _held: held }
    }
}

/// Keeps events with bodies of the size of most of Clerk's; returns their ids and numbers, the oldest first.
async fn ingest(lab: &Lab, count: usize) -> Vec<(EventId, usize)> {
    let one = |number: usize| {
        let Facts { event_type, source, subject } = facts(number, count);
        let email = if number == 0 { HIDDEN } else { "john@example.com" };
        let fill = "x".repeat(1_000);
        let body = format!(
            r#"{{"type":"{event_type}","data":{{"id":"{subject}","user_id":"{subject}","email":"{email}","fill":"{fill}"}}}}"#
        );
        let event = events::verified(source, &svix_id(number), &body, lab.clock.now());
        async move {
            match lab.store.ingest(event).await {
                Ok(Ingested::New(id)) => (id, number),
                other @ (Ok(Ingested::Duplicate(_)) | Err(_)) => panic!("{other:?}"),
            }
        }
    };
    let mut kept: Vec<_> =
        futures_util::stream::iter(0..count).map(one).buffer_unordered(256).collect().await;
    kept.sort_unstable();
    kept
}

async fn settle(lab: &Lab, target: &str, places: &HashMap<EventId, usize>, held: &mut Vec<Lease>) {
    let count = places.len();
    let mut left = (0..count).filter(|place| state(target, *place, count).is_some()).count();
    while left > 0 {
        let leases_max = left.min(256);
        let claim = ClaimWanted { leases_max, bytes_max: 1 << 30, target: name(target), ..wanted(target) };
        let leases = lab.claim_with(claim).await.leases;
        assert!(!leases.is_empty(), "{left} are left");
        left -= leases.len();
        let mut settles = Vec::new();
        for lease in leases {
            let transition = match state(target, places[&lease.event_id()], count) {
                Some(State::Dead | State::Cancelled) => Transition::Die(DeadReason::Exhausted),
                Some(State::Waiting) => Transition::Wait { after: DAY },
                Some(State::Skipped) => Transition::Skip(SkipReason::EventType),
                Some(State::InFlight) => {
                    held.push(lease);
                    continue;
                }
                Some(_) | None => Transition::Deliver,
            };
            let attempt = transition.counts().then(|| lab.attempt(&lease, transition));
            settles.push(lab.store.settle(Settle { lease, transition, attempt }));
        }
        for settled in futures_util::future::join_all(settles).await {
            assert_eq!(settled.unwrap(), Settled::Done);
        }
    }
}
