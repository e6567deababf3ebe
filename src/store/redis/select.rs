//! Which deliveries a query means. Where it names states of exceptions, the keys come from their indexes; else from a walk
//! over the events. Every selection is bounded by what it looks at, and tells where to go on.

use std::collections::{HashMap, HashSet};

use crate::clock::Timestamp;
use crate::event::{EventId, TargetName};
use crate::lifecycle::State;
use crate::store::StoreError;
use crate::store::query::{Cursor, DeliveryQuery};

use super::core::Core;
use super::entries::{self, Entry};
use super::keys::Part;
use super::record::Record;
use super::walk::{self, TOP, Walk};
use super::{audit, codes, targets};

/// Ids that are read from one index at once.
const INDEX_PAGE: usize = 500;

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
    /// After looking at this many.
    pub looked_at_max: usize,
}

/// One selected delivery.
#[derive(Debug)]
pub struct Found {
    /// Its target.
    pub target: TargetName,
    /// Its event.
    pub entry: std::sync::Arc<Entry>,
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
    let is_held_only = !selection.query.states.is_empty()
        && selection.query.states.iter().all(|state| index(*state).is_some());
    if selection.event.is_none()
        && selection.query.subject.is_none()
        && selection.from == From::Records
        && is_held_only
    {
        by_index(core, selection, &look).await
    } else {
        by_walk(core, selection, &look).await
    }
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

/// What is looked up for each event: the targets, in descending order, and what is pending in their groups.
#[derive(Debug)]
pub struct Look {
    names: Vec<TargetName>,
    pending: HashMap<TargetName, HashMap<EventId, u64>>,
    now: Timestamp,
}

impl Look {
    /// For these targets.
    ///
    /// # Errors
    /// Where Redis cannot be reached.
    pub async fn new(core: &Core, names: Vec<TargetName>) -> Result<Self, StoreError> {
        let mut pending = HashMap::new();
        for name in &names {
            pending.insert(name.clone(), audit::pending(core, name, None).await?.into_iter().collect());
        }
        Ok(Self { names, pending, now: core.clock.now() })
    }

    /// The records of these events for each target, in the order of the targets; what is in flight from the log gets one.
    ///
    /// # Errors
    /// Where Redis cannot be reached.
    pub async fn records(
        &self, core: &Core, ids: &[EventId],
    ) -> Result<Vec<(TargetName, Vec<Option<Record>>)>, StoreError> {
        let mut all = Vec::new();
        for name in &self.names {
            let mut records = audit::records(core, name, ids).await?;
            for (id, record) in ids.iter().zip(&mut records) {
                if let Some(idle_ms) = self.pending.get(name).and_then(|pending| pending.get(id)) {
                    let since = self.now.minus(std::time::Duration::from_millis(*idle_ms));
                    *record = Some(Record::in_flight(since));
                }
            }
            all.push((name.clone(), records));
        }
        Ok(all)
    }
}

/// Rows as they are found, within their bounds.
struct Rows<'s, 'q> {
    selection: &'s Selection<'q>,
    found: Vec<Found>,
    looked_at: usize,
    last: Option<Place>,
    is_cut: bool,
}

impl<'s, 'q> Rows<'s, 'q> {
    fn new(selection: &'s Selection<'q>) -> Self {
        Self { selection, found: Vec::new(), looked_at: 0, last: None, is_cut: false }
    }

    fn selected(self) -> Selected {
        let next = if self.is_cut { self.last } else { None };
        (self.found, next)
    }

    /// Looks at the event's deliveries; false once the bounds are reached.
    fn look(&mut self, entry: &std::sync::Arc<Entry>, records: Vec<(TargetName, Option<Record>)>) -> bool {
        let Selection { query, below, from, .. } = self.selection;
        for (target, record) in records {
            let place = (entry.id, Some(target.clone()));
            if !is_below(&place, below) || (record.is_none() && *from == From::Records) {
                continue;
            }
            if self.found.len() == self.selection.rows_max || self.looked_at == self.selection.looked_at_max {
                self.is_cut = true;
                return false;
            }
            self.looked_at += 1;
            self.last = Some(place);
            if matches(entry, record.as_ref(), query) {
                self.found.push(Found { target, entry: std::sync::Arc::clone(entry), record });
            }
        }
        true
    }
}

/// Whether `place` comes behind `below`; a place without a target is before all deliveries of its event.
fn is_below(place: &Place, below: &Place) -> bool {
    place.0 < below.0 || (place.0 == below.0 && below.1.is_some() && place.1 < below.1)
}

fn matches(entry: &Entry, record: Option<&Record>, query: &DeliveryQuery) -> bool {
    let state_fits = match record {
        Some(record) => query.states.is_empty() || query.states.contains(&record.state),
        None => query.states.is_empty(),
    };
    let at = codes::accepted_at(entry.id);
    state_fits
        && query.since.is_none_or(|since| at >= since)
        && query.until.is_none_or(|until| at < until)
        && query.event_type.as_ref().is_none_or(|wanted| *wanted.as_bytes() == *entry.kind)
        && query
            .subject
            .as_ref()
            .is_none_or(|wanted| codes::lane_text(Some(wanted)).as_bytes() == &*entry.subject)
}

async fn by_walk(core: &Core, selection: &Selection<'_>, look: &Look) -> Result<Selected, StoreError> {
    let query = selection.query;
    let mut rows = Rows::new(selection);
    // The place's own event may have deliveries below it.
    let (id, target) = &selection.below;
    let below = if target.is_some() { next_above(*id) } else { *id };
    let mut walk = match selection.event {
        Some(id) => Walk::one(id),
        None => Walk::new(core, query.subject.as_ref(), below, query.since, query.until).await?,
    };
    let mut events = 0;
    while let Some(page) = walk.page(core).await? {
        let ids: Vec<EventId> = page.iter().map(|entry| entry.id).collect();
        let records = look.records(core, &ids).await?;
        let mut columns: Vec<_> =
            records.into_iter().map(|(name, records)| (name, records.into_iter())).collect();
        for entry in page {
            let entry = std::sync::Arc::new(entry);
            let row =
                columns.iter_mut().map(|(name, column)| (name.clone(), column.next().flatten())).collect();
            if !rows.look(&entry, row) {
                return Ok(rows.selected());
            }
            events += 1;
            if events >= selection.looked_at_max {
                return Ok((rows.found, Some((entry.id, None))));
            }
        }
    }
    Ok(rows.selected())
}

/// The least id above this one.
fn next_above(id: EventId) -> EventId {
    match id.seq.checked_add(1) {
        Some(seq) => EventId { seq, ..id },
        None => EventId { ms: id.ms.saturating_add(1), seq: 0 },
    }
}

async fn by_index(core: &Core, selection: &Selection<'_>, look: &Look) -> Result<Selected, StoreError> {
    let query = selection.query;
    let parts: Vec<Part> = query.states.iter().filter_map(|state| index(*state)).collect();
    let mut rows = Rows::new(selection);
    let (id, target) = &selection.below;
    let mut place = if target.is_some() { next_above(*id) } else { *id };
    if let Some(until) = query.until {
        place = place.min(walk::first_at(until));
    }
    loop {
        let (ids, frontier) = candidates(core, look, &parts, query, place).await?;
        for step in ids.chunks(walk::PAGE) {
            let entries = entries::of(core, step).await?;
            let records = look.records(core, step).await?;
            for (at, entry) in entries.into_iter().enumerate() {
                let Some(entry) = entry.map(std::sync::Arc::new) else { continue };
                let row = records.iter().map(|(name, column)| (name.clone(), column[at].clone())).collect();
                if !rows.look(&entry, row) {
                    return Ok(rows.selected());
                }
            }
        }
        match frontier {
            Some(frontier) if query.since.is_none_or(|since| codes::accepted_at(frontier) >= since) => {
                place = frontier;
            }
            Some(_) | None => return Ok(rows.selected()),
        }
    }
}

/// The ids below `place` in the indexes of these states, newest first, and how far down they are complete: to the end, or
/// to the id that is returned.
async fn candidates(
    core: &Core, look: &Look, parts: &[Part], query: &DeliveryQuery, place: EventId,
) -> Result<(Vec<EventId>, Option<EventId>), StoreError> {
    let (mut ids, mut frontier) = (HashSet::new(), None);
    for name in &look.names {
        for part in parts {
            let found = walk::below(core, &core.keys.of_target(name, *part), place, INDEX_PAGE).await?;
            if found.len() == INDEX_PAGE {
                frontier = frontier.max(found.last().copied());
            }
            ids.extend(found);
        }
        if query.states.contains(&State::InFlight) {
            ids.extend(
                look.pending.get(name).into_iter().flatten().map(|(id, _)| *id).filter(|id| *id < place),
            );
        }
    }
    let mut ids: Vec<EventId> =
        ids.into_iter().filter(|id| frontier.is_none_or(|frontier| *id >= frontier)).collect();
    ids.sort_unstable_by(|a, b| b.cmp(a));
    Ok((ids, frontier))
}
