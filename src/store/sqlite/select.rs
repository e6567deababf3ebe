//! Which deliveries a query means: keys in order from the index that fits best ([`super::keys`]), then the row behind each
//! key, judged here. Every selection is bounded by the rows it looks at, and by time where it may be, so that neither a
//! rare type nor a long history makes it slow; where a bound cuts it short it tells where to go on.

use std::time::Instant;

use rusqlite::{Connection, OptionalExtension as _, params_from_iter};

use crate::event::TargetName;
use crate::lifecycle::State;
use crate::store::query::{Cursor, DeliveryQuery, DeliveryView};

use super::codes;
use super::fault::Fault;
use super::keys;
use super::record::{COLUMN_COUNT, Record, columns};
use super::targets;

/// Rows that are looked at however slow that is, so that a page is short because of much to look at, not by chance.
pub const LOOKED_AT_MIN: usize = 500;

/// A key of the delivery table; lists go down from one to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its event.
    pub event: i64,
    /// Its target.
    pub target: i64,
}

impl Place {
    /// Above all rows.
    pub const TOP: Self = Self { event: i64::MAX, target: i64::MAX };
    /// Below all rows.
    const BOTTOM: Self = Self { event: 0, target: 0 };

    /// The place that `cursor` means; one of another list is below all rows.
    ///
    /// # Errors
    /// Where SQLite fails.
    pub fn of(conn: &Connection, cursor: Option<&Cursor>) -> Result<Self, Fault> {
        let (id, target) = match cursor {
            None => return Ok(Self::TOP),
            Some(Cursor::Event(id)) => (id, 0),
            Some(Cursor::Delivery(id, name)) => {
                (id, targets::find(conn, name)?.map_or(0, |target| target.num))
            }
            Some(Cursor::Number(_)) => return Ok(Self::BOTTOM),
        };
        Ok(codes::pack(*id).map_or(Self::BOTTOM, |event| Self { event, target }))
    }
}

/// From which side the keys come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// Deliveries that have a record.
    Records,
    /// Every event of the log, as a delivery to this target, whether that has a record or not.
    Log(i64),
}

/// What to select.
#[derive(Debug)]
pub struct Selection<'q> {
    /// Only of this event, where set.
    pub event: Option<i64>,
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
    /// Not much longer than this.
    pub until: Option<Instant>,
}

/// One selected delivery.
#[derive(Debug)]
pub struct Found {
    /// Its place.
    pub place: Place,
    /// Its record; `None` only where the selection was made from the log.
    pub record: Option<Record>,
    /// Its event's type.
    pub event_type: String,
    /// Whom its event is about.
    pub subject: Option<String>,
    /// Its event's source.
    pub source: String,
    /// Its target's name.
    pub target: TargetName,
}

/// The rows, in descending order, and the place to go on below where more may follow.
pub type Selected = (Vec<Found>, Option<Place>);

/// Selects deliveries.
///
/// # Errors
/// Where SQLite fails.
pub fn select(conn: &Connection, selection: &Selection<'_>) -> Result<Selected, Fault> {
    let target = match &selection.query.target {
        None => None,
        Some(name) => match targets::find(conn, name)? {
            None => return Ok((Vec::new(), None)),
            Some(target) => Some(target.num),
        },
    };
    let (sql, params) = keys::keys(conn, selection, target)?;
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(params))?;
    let (mut found, mut looked_at, mut last) = (Vec::new(), 0, None);
    while let Some(row) = rows.next()? {
        let is_late =
            looked_at >= LOOKED_AT_MIN && selection.until.is_some_and(|until| Instant::now() >= until);
        if looked_at == selection.looked_at_max || found.len() == selection.rows_max || is_late {
            return Ok((found, last));
        }
        let place = Place { event: row.get(0)?, target: row.get::<_, Option<i64>>(1)?.unwrap_or_default() };
        let state = row.get::<_, Option<i64>>(2)?.map(codes::state).transpose()?;
        looked_at += 1;
        last = Some(place);
        // What the key tells spares a look at the row.
        if place.target > 0
            && target.is_none_or(|num| num == place.target)
            && state.is_none_or(|state| is_wanted(state, selection.query))
        {
            found.extend(load(conn, place)?.filter(|found| matches(found, selection.query)));
        }
    }
    Ok((found, None))
}

fn is_wanted(state: State, query: &DeliveryQuery) -> bool {
    query.states.is_empty() || query.states.contains(&state)
}

fn matches(found: &Found, query: &DeliveryQuery) -> bool {
    let state_fits = match &found.record {
        Some(record) => is_wanted(record.state(), query),
        None => query.states.is_empty(),
    };
    state_fits
        && query.event_type.as_ref().is_none_or(|wanted| *wanted == found.event_type)
        && query.subject.as_ref().is_none_or(|wanted| Some(wanted.as_str()) == found.subject.as_deref())
        && query.source.as_ref().is_none_or(|wanted| wanted.as_str() == found.source)
}

/// The delivery at `place` with what people want to know of its event.
///
/// # Errors
/// Where SQLite fails.
pub fn load(conn: &Connection, place: Place) -> Result<Option<Found>, Fault> {
    const SQL: &str = concat!(
        "SELECT ",
        columns!(),
        ", e.type, e.subject, e.source, t.name FROM event e JOIN target t ON t.num = ?2 \
         LEFT JOIN delivery d ON d.event = e.id AND d.target = t.num WHERE e.id = ?1"
    );
    let mut statement = conn.prepare_cached(SQL)?;
    let found = statement.query_row([place.event, place.target], |row| {
        let has_record = row.get::<_, Option<i64>>(0)?.is_some();
        let record = if has_record { Record::read(row, 0).map(Some) } else { Ok(None) };
        let name: String = row.get(COLUMN_COUNT + 3)?;
        let facts = (row.get(COLUMN_COUNT)?, row.get(COLUMN_COUNT + 1)?, row.get(COLUMN_COUNT + 2)?);
        Ok((record, facts, name))
    });
    let Some((record, (event_type, subject, source), name)) = found.optional()? else { return Ok(None) };
    let target = name.parse().map_err(|_| Fault::Unreadable("name"))?;
    Ok(Some(Found { place, record: record?, event_type, subject, source, target }))
}

impl Found {
    /// What people see, where there is a record.
    pub fn view(self) -> Option<(Record, DeliveryView)> {
        let record = self.record?;
        let due_at = record.state().is_due_some_day().then(|| crate::clock::Timestamp::from_ms(record.due));
        let view = DeliveryView {
            event_id: codes::unpack(self.place.event),
            target: self.target,
            event_type: self.event_type,
            subject: self.subject,
            state: record.state(),
            reason: record.reason.clone(),
            attempts: record.progress.attempts_total,
            last_status: record.status,
            last_error: record.error,
            last_hint: record.hint,
            due_at,
            updated_at: record.updated,
            takeovers: record.progress.takeovers,
        };
        Some((record, view))
    }
}

/// The cursor for a place.
///
/// # Errors
/// Where SQLite fails.
pub fn cursor(conn: &Connection, place: Place) -> Result<Cursor, Fault> {
    if place.target == 0 {
        return Ok(Cursor::Event(codes::unpack(place.event)));
    }
    let name: Option<String> = conn
        .prepare_cached("SELECT name FROM target WHERE num = ?1")?
        .query_row([place.target], |row| row.get(0))
        .optional()?;
    let name = name.ok_or(Fault::Unreadable("target"))?.parse().map_err(|_| Fault::Unreadable("name"))?;
    Ok(Cursor::Delivery(codes::unpack(place.event), name))
}
