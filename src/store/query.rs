//! What can be asked of a store and what it answers: the read side of the port. Plain data, bounded pages.

mod durability;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::event::payload::PayloadMatch;
use crate::event::{Event, EventId, SourceName, Subject, TargetName};
use crate::lifecycle::State;
use crate::lifecycle::attempt::{Attempt, ErrorClass};
use crate::lifecycle::breaker::Breaker;
use crate::lifecycle::hint::Hint;

pub use durability::Durability;

/// The most rows of one page.
pub const PAGE_ROWS_MAX: u32 = 500;

/// Which part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    rows_max: u32,
    after: Option<Cursor>,
}

impl Page {
    /// The first page of 1 to [`PAGE_ROWS_MAX`] rows; other sizes are brought into that range.
    pub fn first(rows_max: u32) -> Self {
        Self { rows_max: rows_max.clamp(1, PAGE_ROWS_MAX), after: None }
    }

    /// The page behind `cursor`.
    pub fn after(rows_max: u32, cursor: Cursor) -> Self {
        Self { after: Some(cursor), ..Self::first(rows_max) }
    }

    /// At most this many rows.
    pub fn rows_max(&self) -> u32 {
        self.rows_max
    }

    /// The last row of the page before.
    pub fn cursor(&self) -> Option<&Cursor> {
        self.after.as_ref()
    }
}

/// The place behind a row: its key. Text for people, checked when it comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cursor {
    /// Behind this event.
    Event(EventId),
    /// Behind this delivery.
    Delivery(EventId, TargetName),
    /// Behind the refusal, audit entry or other row with this number.
    Number(u64),
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Event(id) => write!(f, "{id}"),
            Self::Delivery(id, target) => write!(f, "{id}~{target}"),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// Text that is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a cursor that a list gave")]
pub struct BadCursor;

impl std::str::FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        if let Ok(number) = text.parse() {
            return Ok(Self::Number(number));
        }
        match text.split_once('~') {
            Some((id, target)) => {
                Ok(Self::Delivery(id.parse().map_err(|_| BadCursor)?, target.parse().map_err(|_| BadCursor)?))
            }
            None => Ok(Self::Event(text.parse().map_err(|_| BadCursor)?)),
        }
    }
}

/// One page of a list.
#[derive(Debug, Clone)]
pub struct Paged<T> {
    /// In the list's order. Fewer than asked for need not be the last: what is looked at for a page is bounded too.
    pub rows: Vec<T>,
    /// The place to go on from, where more may follow.
    pub next: Option<Cursor>,
}

/// How a person names an event: by our id or by the sender's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventRef {
    /// The store's id.
    Id(EventId),
    /// The `svix-id`, which may name one event of each source.
    SvixId(String),
}

impl From<&str> for EventRef {
    fn from(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::SvixId(text.to_owned()), Self::Id)
    }
}

/// Which events. Every condition that is set must hold.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    /// Of this type.
    pub event_type: Option<String>,
    /// About this user or organization.
    pub subject: Option<Subject>,
    /// Through this source.
    pub source: Option<SourceName>,
    /// Accepted at or after.
    pub since: Option<Timestamp>,
    /// Accepted before.
    pub until: Option<Timestamp>,
    /// With a payload that fulfils this. No index helps: a page looks at a bounded number of payloads.
    pub payload: Option<PayloadMatch>,
}

/// Whether an event's payload is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// It is.
    Kept,
    /// It was erased with all others of its subject.
    Erased,
}

/// An event without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventMeta {
    /// The store's id, which holds the time of acceptance.
    pub id: EventId,
    /// Its source.
    pub source: SourceName,
    /// The sender's id.
    pub svix_id: String,
    /// Its type.
    pub event_type: String,
    /// Whom it is about.
    pub subject: Option<String>,
    /// The body's size.
    pub body_bytes: u64,
    /// Whether the body is there.
    pub payload: Payload,
}

/// What was found under an [`EventRef`].
#[derive(Debug)]
pub enum EventLookup {
    /// Nothing: never seen, or older than its retention.
    None,
    /// This event.
    One(Box<EventDetail>),
    /// A `svix-id` that several sources had: ask again by one of these ids.
    Many(Vec<EventId>),
}

/// One event and everything that happened to it.
#[derive(Debug)]
pub struct EventDetail {
    /// Its facts.
    pub meta: EventMeta,
    /// The event with its payload, where its frame can be read.
    pub event: Option<Event>,
    /// A delivery for every target, those that only wait in the log included.
    pub deliveries: Vec<DeliveryDetail>,
}

/// One delivery and its attempts.
#[derive(Debug)]
pub struct DeliveryDetail {
    /// Its state.
    pub view: DeliveryView,
    /// The newest attempts, oldest first.
    pub attempts: Vec<Attempt>,
}

/// Which deliveries. Every condition that is set must hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DeliveryQuery {
    /// To this target.
    pub target: Option<TargetName>,
    /// In one of these states; empty: in any. [`State::Queued`] only lists those that have a record of their own: what
    /// still waits in the log is counted by [`Overview`] and listed by [`super::Store::events`].
    pub states: Vec<State>,
    /// Of this type.
    pub event_type: Option<String>,
    /// About this user or organization.
    pub subject: Option<Subject>,
    /// Through this source.
    pub source: Option<SourceName>,
    /// Of events accepted at or after.
    pub since: Option<Timestamp>,
    /// Of events accepted before.
    pub until: Option<Timestamp>,
}

/// A delivery as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryView {
    /// Its event.
    pub event_id: EventId,
    /// Its target.
    pub target: TargetName,
    /// Its event's type.
    pub event_type: String,
    /// Whom its event is about.
    pub subject: Option<String>,
    /// Where it is.
    pub state: State,
    /// Why it is dead, skipped or cancelled, or nothing. In flight: `erased`, where its event was erased meanwhile.
    pub reason: Option<String>,
    /// Counted attempts in all.
    pub attempts: u32,
    /// The last reply's status.
    pub last_status: Option<u16>,
    /// What kept the last attempt from success.
    pub last_error: Option<ErrorClass>,
    /// What that looks like, where it is known.
    pub last_hint: Option<Hint>,
    /// When it is due, where it waits.
    pub due_at: Option<Timestamp>,
    /// When its state last changed.
    pub updated_at: Timestamp,
    /// How often its holder died.
    pub takeovers: u32,
}

/// What a redrive does with what it selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedriveAction {
    /// Dead and waiting ones become due; their budget starts again.
    Retry,
    /// Ended ones, delivered or not, become due; their budget starts again.
    Replay,
    /// Unfinished and dead ones end cancelled.
    Cancel,
}

impl RedriveAction {
    /// The states that it moves.
    pub const fn moves(self) -> &'static [State] {
        match self {
            Self::Retry => &[State::Dead, State::Waiting],
            Self::Replay => &[State::Delivered, State::Skipped, State::Cancelled, State::Dead],
            Self::Cancel => &[State::Queued, State::Waiting, State::Parked, State::Dead],
        }
    }
}

/// Whether something is done, or only counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Done.
    Apply,
    /// Counted: a dry run changes nothing.
    Count,
}

/// One bounded step of an erasure: of events about a subject the payloads, replies and refusals; what is unfinished or
/// dead of them ends cancelled, reason `erased`.
#[derive(Debug, Clone)]
pub struct Erase {
    /// Whose.
    pub subject: Subject,
    /// Only events accepted at or before this.
    pub as_of: Timestamp,
    /// Whether anything is changed.
    pub mode: Mode,
    /// At most this many events.
    pub max: u32,
    /// Behind this place.
    pub after: Option<Cursor>,
}

/// What one step of an erasure did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erased {
    /// Events whose payload was erased (or would be).
    pub events: u64,
    /// Of those: deliveries that are in flight with the payload in a relay's memory; they end when their attempt does.
    pub in_flight: u64,
    /// Where to go on, where more may follow.
    pub next: Option<Cursor>,
}

/// One bounded step of a redrive.
#[derive(Debug, Clone)]
pub struct Redrive {
    /// Only the deliveries of this event, where set.
    pub event: Option<EventId>,
    /// And of these.
    pub query: DeliveryQuery,
    /// What to do.
    pub action: RedriveAction,
    /// Whether anything is changed.
    pub mode: Mode,
    /// Only what has not changed since: deliveries whose state last changed at or before this, and those that have no
    /// record yet. So a repetition moves nothing twice.
    pub as_of: Option<Timestamp>,
    /// Due times are spread evenly over this long.
    pub spread: Duration,
    /// At most this many deliveries.
    pub max: u32,
    /// Behind this place.
    pub after: Option<Cursor>,
}

impl Redrive {
    /// What the step selects by: its query, in the states that its action moves. `None` where that can be nothing.
    pub fn narrowed(&self) -> Option<DeliveryQuery> {
        let mut query = self.query.clone();
        let moves = self.action.moves();
        if query.states.is_empty() {
            query.states = moves.to_vec();
        } else {
            query.states.retain(|state| moves.contains(state));
        }
        (!query.states.is_empty()).then_some(query)
    }

    /// The delay of the `index`-th of `count` deliveries: an equal share of the spread.
    pub fn share(&self, index: usize, count: usize) -> Duration {
        let most = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        self.spread / most(count).max(1) * most(index)
    }
}

/// What one step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redriven {
    /// Deliveries that were changed (or would be).
    pub moved: u64,
    /// Where to go on, where more may follow.
    pub next: Option<Cursor>,
}

/// The state of a store and its targets.
#[derive(Debug, Clone)]
pub struct Overview {
    /// One for each target, by name.
    pub targets: Vec<TargetOverview>,
    /// Events that are kept.
    pub events: u64,
    /// Bytes in use.
    pub size_bytes: u64,
    /// The limit on them.
    pub size_max_bytes: u64,
    /// How sure it is that an answered event survives.
    pub durability: Durability,
}

/// The state of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetOverview {
    /// Its name.
    pub name: TargetName,
    /// Whether it takes events.
    pub status: TargetStatus,
    /// Whether attempts are made.
    pub breaker: Breaker,
    /// Events in the log that it has not reached, plus queued records.
    pub queued: u64,
    /// In flight.
    pub in_flight: u64,
    /// Waiting for their next attempt.
    pub waiting: u64,
    /// Parked behind their subject.
    pub parked: u64,
    /// Dead letters.
    pub dead: u64,
    /// When the oldest unfinished delivery's event was accepted.
    pub oldest_unfinished: Option<Timestamp>,
}

/// Whether a target takes events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetStatus {
    /// It does.
    Active,
    /// It does not until it is resumed; everything is kept.
    Paused(super::PauseReason),
    /// It is gone from the configuration; everything is kept.
    Orphan,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_begin_at_once_and_stay_below_the_span() {
        let redrive = Redrive {
            event: None,
            query: DeliveryQuery::default(),
            action: RedriveAction::Retry,
            mode: Mode::Apply,
            as_of: None,
            spread: Duration::from_secs(10),
            max: 5,
            after: None,
        };
        let shares: Vec<Duration> = (0..5).map(|index| redrive.share(index, 5)).collect();
        assert_eq!(shares, [0, 2, 4, 6, 8].map(Duration::from_secs));
        assert_eq!(redrive.share(0, 0), Duration::ZERO);
    }
}
