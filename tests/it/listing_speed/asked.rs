//! What people ask of the lists, and which rows are due.

use std::fmt;

use clerk_relay::clock::Timestamp;
use clerk_relay::event::{EventId, Subject};
use clerk_relay::lifecycle::State;
use clerk_relay::store::Store;
use clerk_relay::store::query::{Cursor, DeliveryQuery, EventQuery, Page};

use super::filled::{Facts, Filled, HIDDEN, RARE_SOURCE, RARE_TYPE, facts};
use crate::contract::harness::name;

/// An event or, with its target, a delivery.
pub type Row = (EventId, Option<String>);

/// One list.
pub enum Asked {
    Events(&'static str, EventQuery),
    Deliveries(&'static str, DeliveryQuery),
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Events(what, _) => write!(f, "events {what}"),
            Self::Deliveries(what, _) => write!(f, "deliveries {what}"),
        }
    }
}

impl Asked {
    pub async fn page(&self, store: &dyn Store, page: Page) -> (Vec<Row>, Option<Cursor>) {
        match self {
            Self::Events(_, query) => {
                let paged = store.events(query.clone(), page).await.unwrap();
                (paged.rows.into_iter().map(|meta| (meta.id, None)).collect(), paged.next)
            }
            Self::Deliveries(_, query) => {
                let paged = store.deliveries(query.clone(), page).await.unwrap();
                let row = |view: clerk_relay::store::query::DeliveryView| {
                    (view.event_id, Some(view.target.to_string()))
                };
                (paged.rows.into_iter().map(row).collect(), paged.next)
            }
        }
    }

    /// The rows of the whole list, below an event.
    pub fn due(&self, filled: &Filled, below: Option<EventId>) -> Vec<Row> {
        let count = filled.ids.len();
        let is_below = |id: EventId| below.is_none_or(|below| id < below);
        match self {
            Self::Events(_, query) => (0..count)
                .rev()
                .filter(|place| {
                    let (id, number) = (filled.ids[*place], filled.numbers[*place]);
                    is_below(id)
                        && Asked::fits(query, id, &facts(number, count))
                        && (query.payload.is_none() || number == 0)
                })
                .map(|place| (filled.ids[place], None))
                .collect(),
            Self::Deliveries(_, query) => {
                let of_events = EventQuery {
                    event_type: query.event_type.clone(),
                    subject: query.subject.clone(),
                    source: query.source.clone(),
                    since: query.since,
                    until: query.until,
                    payload: None,
                };
                let fits = |(place, target, state): &&(usize, &str, State)| {
                    let (id, number) = (filled.ids[*place], filled.numbers[*place]);
                    is_below(id)
                        && query.target.as_ref().is_none_or(|wanted| wanted.as_str() == *target)
                        && (query.states.is_empty() || query.states.contains(state))
                        && Asked::fits(&of_events, id, &facts(number, count))
                };
                let rows = filled.deliveries.iter().rev().filter(fits);
                rows.map(|(place, target, _)| (filled.ids[*place], Some((*target).to_owned()))).collect()
            }
        }
    }

    fn fits(query: &EventQuery, id: EventId, facts: &Facts) -> bool {
        query.event_type.as_ref().is_none_or(|wanted| wanted == facts.event_type)
            && query.source.as_ref().is_none_or(|wanted| wanted.as_str() == facts.source)
            && query.subject.as_ref().is_none_or(|wanted| wanted.as_str() == facts.subject)
            && query.since.is_none_or(|since| id.ms as i64 >= since.as_ms())
            && query.until.is_none_or(|until| (id.ms as i64) < until.as_ms())
    }
}

/// Every list that is looked at.
pub fn all(filled: &Filled) -> Vec<Asked> {
    let count = filled.ids.len();
    let at = |place: usize| Some(Timestamp::from_ms(filled.ids[place].ms as i64));
    let mut all = events(at(count / 4), at(count / 3));
    all.extend(deliveries(at(count / 4), at(count / 3)));
    all
}

fn events(since: Option<Timestamp>, until: Option<Timestamp>) -> Vec<Asked> {
    let q = EventQuery::default;
    let of_type = |event_type: &str| Some(event_type.to_owned());
    let of_source = |source: &str| Some(source.parse().unwrap());
    let list = [
        ("newest", q()),
        ("by type", EventQuery { event_type: of_type("user.updated"), ..q() }),
        ("by a rare type", EventQuery { event_type: of_type(RARE_TYPE), ..q() }),
        ("by no known type", EventQuery { event_type: of_type("no.such"), ..q() }),
        ("by subject", EventQuery { subject: Subject::of("user_7"), ..q() }),
        ("by source", EventQuery { source: of_source("clerk"), ..q() }),
        ("by a rare source", EventQuery { source: of_source(RARE_SOURCE), ..q() }),
        (
            "by a rare type and source",
            EventQuery { event_type: of_type(RARE_TYPE), source: of_source(RARE_SOURCE), ..q() },
        ),
        (
            "by type and a rare source",
            EventQuery { event_type: of_type("user.updated"), source: of_source(RARE_SOURCE), ..q() },
        ),
        ("by time", EventQuery { since, until, ..q() }),
        ("by type and time", EventQuery { event_type: of_type("user.updated"), since, until, ..q() }),
        ("by payload (the oldest one)", EventQuery { payload: Some(HIDDEN.parse().unwrap()), ..q() }),
        (
            "by payload and subject",
            EventQuery { payload: Some(HIDDEN.parse().unwrap()), subject: Subject::of("user_0"), ..q() },
        ),
    ];
    list.into_iter().map(|(what, query)| Asked::Events(what, query)).collect()
}

fn deliveries(since: Option<Timestamp>, until: Option<Timestamp>) -> Vec<Asked> {
    use State::{Cancelled, Dead, Delivered, InFlight, Parked, Skipped, Waiting};
    let q = DeliveryQuery::default;
    let to = |target: &str| DeliveryQuery { target: Some(name(target)), ..q() };
    let of = |states: &[State]| DeliveryQuery { states: states.to_vec(), ..q() };
    let of_type = |event_type: &str| Some(event_type.to_owned());
    let rare_source = || Some(RARE_SOURCE.parse().unwrap());
    let list = [
        ("newest", q()),
        ("to a target", to("app")),
        ("to one that lags", to("crm")),
        ("to one without any", to("idle")),
        ("dead", of(&[Dead])),
        ("dead, to a target", DeliveryQuery { states: vec![Dead], ..to("app") }),
        ("dead, to one that lags", DeliveryQuery { states: vec![Dead], ..to("crm") }),
        ("waiting", of(&[Waiting])),
        ("in flight", of(&[InFlight])),
        ("parked", of(&[Parked])),
        ("unfinished and dead", of(&[Dead, Waiting, InFlight, Parked])),
        ("delivered", of(&[Delivered])),
        ("delivered, to one that lags", DeliveryQuery { states: vec![Delivered], ..to("crm") }),
        ("skipped", of(&[Skipped])),
        ("cancelled", of(&[Cancelled])),
        ("by type", DeliveryQuery { event_type: of_type("user.updated"), ..q() }),
        ("by a rare type", DeliveryQuery { event_type: of_type(RARE_TYPE), ..q() }),
        ("dead, by type", DeliveryQuery { event_type: of_type("user.created"), ..of(&[Dead]) }),
        ("dead, by a rare type", DeliveryQuery { event_type: of_type(RARE_TYPE), ..of(&[Dead]) }),
        ("by subject", DeliveryQuery { subject: Subject::of("user_7"), ..q() }),
        ("dead, by subject", DeliveryQuery { subject: Subject::of("user_7"), ..of(&[Dead]) }),
        ("by a rare source", DeliveryQuery { source: rare_source(), ..q() }),
        ("dead, by a rare source", DeliveryQuery { source: rare_source(), ..of(&[Dead]) }),
        ("by time", DeliveryQuery { since, until, ..q() }),
        ("dead, by time", DeliveryQuery { since, until, ..of(&[Dead]) }),
    ];
    list.into_iter().map(|(what, query)| Asked::Deliveries(what, query)).collect()
}
