//! Which deliveries a query means. Ids come from the shortest of what holds them all: the indexes of states, or a list by
//! subject, type or source; then their records; and only of what these leave over, the events themselves. Every selection
//! is bounded by what it looks at, and by time where it may be, and tells where to go on.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use crate::event::{EventId, TargetName, frame};
use crate::lifecycle::State;
use crate::store::StoreError;
use crate::store::query::{Cursor, DeliveryQuery};

use super::core::Core;
use super::entries::{self, Entry};
use super::keys::Part;
use super::link::Lane;
use super::listed::{self, Kind, Listed};
use super::look::Look;
use super::record::Record;
use super::walk::{self, TOP, first_at};
use super::{codes, reply, targets};

/// Ids that are read from one index at once.
const INDEX_PAGE: usize = 500;
/// Events that are fetched at once: some hundred KB.
const FETCH: usize = 100;
/// Events that are fetched in all: some MB.
const FETCHED_MAX: usize = 2_000;
/// Events that are looked at however slow that is, so that a page is short because of much to look at, not by chance.
pub const LOOKED_AT_MIN: usize = 500;

/// A delivery's key; lists go down from one to the next: by event, then by target.
pub type Place = (EventId, Option<TargetName>);

/// From which side the keys come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// Deliveries that are in flight or have a record.
    Records,
    /// Every event, as a delivery to the query's one target, whether that has a record or not.
    Log,
}

/// What to select.
#[derive(Debug)]
pub struct Selection<'q> {
    /// Only of this event, where set.
    pub event: Option<EventId>,
    /// And of these.
    pub query: &'q DeliveryQuery,
    /// From which side.
    pub from: From,
    /// Strictly below this.
    pub below: Place,
    /// At most this many rows.
    pub rows_max: usize,
    /// After looking at not many more events than this.
    pub looked_at_max: usize,
    /// Not much longer than this.
    pub until: Option<Instant>,
}

/// One selected delivery.
#[derive(Debug)]
pub struct Found {
    /// Its target.
    pub target: TargetName,
    /// Its event.
    pub entry: Arc<Entry>,
    /// Its record; `None` only where the selection was made from the log.
    pub record: Option<Record>,
}

/// The place that a page's cursor means; a cursor of another list is below all rows.
pub fn place_of(cursor: Option<&Cursor>) -> Place {
    match cursor {
        None => (TOP, None),
        Some(Cursor::Event(id)) => (*id, None),
        Some(Cursor::Delivery(id, target)) => (*id, Some(target.clone())),
        Some(Cursor::Number(_)) => (EventId { ms: 0, seq: 0 }, None),
    }
}

/// The rows, in descending order, and the place to go on below where more may follow.
pub type Selected = (Vec<Found>, Option<Place>);

/// Selects deliveries.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn select(core: &Core, selection: &Selection<'_>) -> Result<Selected, StoreError> {
    let known = targets::all(core).await?;
    let mut names: Vec<TargetName> = match &selection.query.target {
        None => known,
        Some(name) => known.into_iter().filter(|one| one == name).collect(),
    };
    names.reverse();
    if names.is_empty() {
        return Ok((Vec::new(), None));
    }
    let look = Look::new(core, names).await?;
    let mut ids = Ids::new(core, selection, &look).await?;
    let mut rows = Rows::new(selection);
    while let Some(page) = ids.page(core, &look).await? {
        if !rows.look_at(core, &look, &page).await? {
            break;
        }
    }
    Ok(rows.selected())
}

/// The index of a state that has one.
const fn index(state: State) -> Option<Part> {
    match state {
        State::Queued => Some(Part::Queued),
        State::InFlight => Some(Part::Flying),
        State::Waiting => Some(Part::Waiting),
        State::Parked => Some(Part::Parked),
        State::Dead => Some(Part::Dead),
        State::Delivered | State::Skipped | State::Cancelled => None,
    }
}

/// Where the ids of a selection come from.
enum Ids<'q> {
    /// Lists of events.
    Listed(Listed),
    /// The indexes of these states, from this place down to that instant; and what is in flight, where that is wanted.
    Indexed { query: &'q DeliveryQuery, parts: Vec<Part>, place: Option<EventId> },
    /// One event.
    One(Option<EventId>),
}

impl<'q> Ids<'q> {
    async fn new(core: &Core, selection: &Selection<'q>, look: &Look) -> Result<Self, StoreError> {
        let Selection { query, from, below: (id, target), .. } = selection;
        if let Some(id) = selection.event {
            return Ok(Self::One(Some(id)));
        }
        // The place's own event may have deliveries below it.
        let below = if target.is_some() { next_above(*id) } else { *id };
        let below = query.until.map_or(below, |until| below.min(first_at(until)));
        let kind = Kind {
            subject: query.subject.as_ref(),
            event_type: query.event_type.as_deref(),
            source: query.source.as_ref(),
        };
        let list = listed::shortest(core, kind).await?;
        let parts: Vec<Part> = query.states.iter().filter_map(|state| index(*state)).collect();
        let is_indexed =
            *from == From::Records && !query.states.is_empty() && parts.len() == query.states.len();
        let is_indexed = is_indexed
            && match &list {
                None => true,
                Some((_, length)) => *length > 0 && indexed(core, &parts, look).await? < *length,
            };
        if is_indexed {
            return Ok(Self::Indexed { query, parts, place: Some(below) });
        }
        let lists = match list {
            Some((list, _)) => vec![list],
            None => listed::all(core).await?,
        };
        let since = query.since.unwrap_or(crate::clock::Timestamp::from_ms(0));
        Ok(Self::Listed(Listed::new(lists, below, since)))
    }

    /// The next ids, newest first; `None` at the end. A page may be empty.
    async fn page(&mut self, core: &Core, look: &Look) -> Result<Option<Vec<EventId>>, StoreError> {
        match self {
            Self::One(id) => Ok(id.take().map(|id| vec![id])),
            Self::Listed(listed) => listed.page(core).await,
            Self::Indexed { query, parts, place } => {
                let Some(below) = *place else { return Ok(None) };
                let (ids, frontier) = candidates(core, look, parts, query, below).await?;
                *place = frontier.filter(|frontier| {
                    query.since.is_none_or(|since| codes::accepted_at(*frontier) >= since)
                });
                Ok(Some(ids))
            }
        }
    }
}

/// The least id above this one.
fn next_above(id: EventId) -> EventId {
    match id.seq.checked_add(1) {
        Some(seq) => EventId { seq, ..id },
        None => EventId { ms: id.ms.saturating_add(1), seq: 0 },
    }
}

/// How many ids the indexes of these states hold.
async fn indexed(core: &Core, parts: &[Part], look: &Look) -> Result<u64, StoreError> {
    let mut pipeline = redis::pipe();
    for name in look.names() {
        for part in parts {
            pipeline.cmd("ZCARD").arg(core.keys.of_target(name, *part));
        }
    }
    let mut sum = 0;
    for count in core.link.pipeline(Lane::Admin, &pipeline).await? {
        sum += reply::number::<u64>(count, "an index's size")?;
    }
    Ok(sum)
}

/// The ids below `place` in the indexes of these states, newest first, and how far down they are complete: to the end, or
/// to the id that is returned.
async fn candidates(
    core: &Core, look: &Look, parts: &[Part], query: &DeliveryQuery, place: EventId,
) -> Result<(Vec<EventId>, Option<EventId>), StoreError> {
    let (mut ids, mut frontier) = (HashSet::new(), None);
    for name in look.names() {
        for part in parts {
            let found = walk::below(core, &core.keys.of_target(name, *part), place, INDEX_PAGE).await?;
            if found.len() == INDEX_PAGE {
                frontier = frontier.max(found.last().copied());
            }
            ids.extend(found);
        }
    }
    if query.states.contains(&State::InFlight) {
        ids.extend(look.pending().filter(|id| *id < place));
    }
    let mut ids: Vec<EventId> =
        ids.into_iter().filter(|id| frontier.is_none_or(|frontier| *id >= frontier)).collect();
    ids.sort_unstable_by(|a, b| b.cmp(a));
    Ok((ids, frontier))
}

/// Rows as they are found, within their bounds.
struct Rows<'s, 'q> {
    selection: &'s Selection<'q>,
    found: Vec<Found>,
    /// Events, by their ids.
    looked_at: usize,
    /// Events, by all that is kept of them.
    fetched: usize,
    last: Option<Place>,
    is_cut: bool,
}

impl<'s, 'q> Rows<'s, 'q> {
    fn new(selection: &'s Selection<'q>) -> Self {
        Self { selection, found: Vec::new(), looked_at: 0, fetched: 0, last: None, is_cut: false }
    }

    fn selected(self) -> Selected {
        let next = if self.is_cut { self.last } else { None };
        (self.found, next)
    }

    /// Looks at these events' deliveries; false once the bounds are reached.
    async fn look_at(&mut self, core: &Core, look: &Look, ids: &[EventId]) -> Result<bool, StoreError> {
        let records = look.records(core, ids).await?;
        let is_candidate = |at: &usize| {
            let records = look.names().iter().zip(&records);
            records.map(|(name, records)| (name, &records[*at])).any(|row| self.is_candidate(ids[*at], row))
        };
        let candidates: Vec<usize> = (0..ids.len()).filter(is_candidate).collect();
        for step in candidates.chunks(FETCH) {
            let step_ids: Vec<EventId> = step.iter().map(|at| ids[*at]).collect();
            let entries = entries::of(core, &step_ids).await?;
            for (at, entry) in step.iter().zip(entries) {
                let Some(entry) = entry.map(Arc::new) else { continue };
                let row = look.names().iter().zip(&records).map(|(name, records)| (name, &records[*at]));
                if !self.take(&entry, row) {
                    return Ok(false);
                }
                self.last = Some((entry.id, None));
            }
            self.fetched += step.len();
            if self.fetched >= FETCHED_MAX || self.is_late() {
                self.is_cut = true;
                return Ok(false);
            }
        }
        self.looked_at += ids.len();
        self.last = ids.last().map(|id| (*id, None)).or(self.last.take());
        self.is_cut =
            self.last.is_some() && (self.looked_at >= self.selection.looked_at_max || self.is_late());
        Ok(!self.is_cut)
    }

    fn is_late(&self) -> bool {
        self.looked_at + self.fetched >= LOOKED_AT_MIN
            && self.selection.until.is_some_and(|until| Instant::now() >= until)
    }

    /// Whether the delivery may be one of the selection, as far as that is told by its record.
    fn is_candidate(&self, id: EventId, (target, record): (&TargetName, &Option<Record>)) -> bool {
        let Selection { query, below, from, .. } = self.selection;
        let state_fits = match record {
            Some(record) => query.states.is_empty() || query.states.contains(&record.state),
            None => *from == From::Log,
        };
        state_fits && is_below(id, target, below)
    }

    /// Takes the event's deliveries; false where there is room for no more.
    fn take<'r>(
        &mut self, entry: &Arc<Entry>, row: impl Iterator<Item = (&'r TargetName, &'r Option<Record>)>,
    ) -> bool {
        for (target, record) in row {
            if !self.is_candidate(entry.id, (target, record)) || !matches(entry, self.selection.query) {
                continue;
            }
            if self.found.len() == self.selection.rows_max {
                self.is_cut = true;
                return false;
            }
            self.last = Some((entry.id, Some(target.clone())));
            let (target, record) = (target.clone(), record.clone());
            self.found.push(Found { target, entry: Arc::clone(entry), record });
        }
        true
    }
}

/// Whether a delivery comes behind `below`; a place without a target is behind all deliveries of its event.
fn is_below(id: EventId, target: &TargetName, below: &Place) -> bool {
    id < below.0 || (id == below.0 && below.1.as_ref().is_some_and(|name| target < name))
}

fn matches(entry: &Entry, query: &DeliveryQuery) -> bool {
    let at = codes::accepted_at(entry.id);
    query.since.is_none_or(|since| at >= since)
        && query.until.is_none_or(|until| at < until)
        && query.event_type.as_ref().is_none_or(|wanted| *wanted.as_bytes() == *entry.kind)
        && query
            .subject
            .as_ref()
            .is_none_or(|wanted| codes::lane_text(Some(wanted)).as_bytes() == &*entry.subject)
        && query
            .source
            .as_ref()
            .is_none_or(|wanted| frame::decode(&entry.frame).is_ok_and(|event| event.source == *wanted))
}
