//! The lists that people look at: events, one event with everything that happened to it, and deliveries.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params_from_iter};

use crate::event::frame;
use crate::event::payload::PayloadMatch;
use crate::lifecycle::State;
use crate::store::query::{
    Cursor, DeliveryDetail, DeliveryQuery, DeliveryView, EventDetail, EventLookup, EventMeta, EventQuery,
    EventRef, Page, Paged, Payload,
};

use super::attempts;
use super::codes;
use super::fault::Fault;
use super::keys;
use super::select::{self, From, Place, Selection};
use super::targets::{self, Standing};

/// The longest that one page looks at rows; where few of them fit, the page is short and tells where to go on.
const LOOK_MAX: Duration = Duration::from_millis(50);
/// Rows that one page looks at, however fast that goes.
const LOOKED_AT_MAX: usize = 200_000;
/// Payloads that one page looks at.
const PAYLOADS_MAX: usize = 2_000;
/// And how many bytes of them.
const PAYLOAD_BYTES_MAX: usize = 16 * 1024 * 1024;

macro_rules! meta_columns {
    () => {
        "id, source, svix_id, type, subject, body_bytes"
    };
}
/// How many they are.
const META_COLUMNS: usize = 6;

/// Events, newest first.
///
/// # Errors
/// Where SQLite fails.
pub fn events(conn: &Connection, query: &EventQuery, page: &Page) -> Result<Paged<EventMeta>, Fault> {
    let (sql, params) = event_rows(conn, query, page)?;
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(params))?;
    let until = Instant::now() + LOOK_MAX;
    let (mut found, mut looked_at, mut last) = (Vec::new(), 0, None);
    let mut payloads = Payloads::default();
    while let Some(row) = rows.next()? {
        let is_late = looked_at >= select::LOOKED_AT_MIN && Instant::now() >= until;
        let is_over = is_late || looked_at == LOOKED_AT_MAX || payloads.are_over();
        if is_over || found.len() == page.rows_max() as usize {
            return Ok(Paged { rows: found, next: last.map(Cursor::Event) });
        }
        looked_at += 1;
        last = Some(codes::unpack(row.get(0)?));
        let meta = meta(row)?;
        let fits = query.event_type.as_ref().is_none_or(|wanted| *wanted == meta.event_type)
            && query.source.as_ref().is_none_or(|wanted| *wanted == meta.source)
            && payloads.fits(query.payload.as_ref(), row)?;
        found.extend(fits.then_some(meta));
    }
    Ok(Paged { rows: found, next: None })
}

/// The statement that gives the events of a list one after the other, from the index that fits best.
fn event_rows(conn: &Connection, query: &EventQuery, page: &Page) -> Result<(String, Vec<Value>), Fault> {
    let [since, until] = keys::range(query.since, query.until);
    let until = until.min(Place::of(conn, page.cursor())?.event);
    let source = query.source.as_ref().map(|source| source.as_str());
    let subject = query.subject.as_ref().map(|subject| subject.as_str());
    let narrowed = keys::narrowed(conn, subject, query.event_type.as_deref(), source, [since, until])?;
    let mut params: Vec<Value> = vec![since.into(), until.into()];
    let narrowed = match narrowed {
        Some((keys::Narrowed { index, column, value }, _)) => {
            params.push(value);
            format!("{index} WHERE {column} = ?3 AND")
        }
        None => "WHERE".to_owned(),
    };
    let frame = if query.payload.is_some() { ", frame" } else { "" };
    let columns = meta_columns!();
    let sql = format!("SELECT {columns}{frame} FROM event {narrowed} id >= ?1 AND id < ?2 ORDER BY id DESC");
    Ok((sql, params))
}

/// The payloads that a page has looked at.
#[derive(Default)]
struct Payloads {
    count: usize,
    bytes: usize,
}

impl Payloads {
    fn are_over(&self) -> bool {
        self.count >= PAYLOADS_MAX || self.bytes >= PAYLOAD_BYTES_MAX
    }

    /// Whether the payload of the event in `row` fulfils the condition, where there is one.
    fn fits(&mut self, wanted: Option<&PayloadMatch>, row: &Row<'_>) -> Result<bool, Fault> {
        let Some(wanted) = wanted else { return Ok(true) };
        let frame = row.get_ref(META_COLUMNS)?.as_blob().map_err(|_| Fault::Unreadable("frame"))?;
        self.count += 1;
        self.bytes += frame.len();
        Ok(frame::body(frame).is_some_and(|body| wanted.matches(body)))
    }
}

fn meta(row: &Row<'_>) -> Result<EventMeta, Fault> {
    Ok(EventMeta {
        id: codes::unpack(row.get(0)?),
        source: row.get::<_, String>(1)?.parse().map_err(|_| Fault::Unreadable("source"))?,
        svix_id: row.get(2)?,
        event_type: row.get(3)?,
        subject: row.get(4)?,
        body_bytes: u64::try_from(row.get::<_, i64>(5)?).unwrap_or_default(),
        payload: Payload::Kept,
    })
}

/// One event with its deliveries and their attempts.
///
/// # Errors
/// Where SQLite fails.
pub fn event(conn: &Connection, wanted: &EventRef) -> Result<EventLookup, Fault> {
    let ids = match wanted {
        EventRef::Id(id) => codes::pack(*id).into_iter().collect(),
        EventRef::SvixId(svix_id) => by_svix_id(conn, svix_id)?,
    };
    let id = match *ids {
        [] => return Ok(EventLookup::None),
        [id] => id,
        [..] => return Ok(EventLookup::Many(ids.into_iter().map(codes::unpack).collect())),
    };
    let sql = concat!("SELECT ", meta_columns!(), ", frame FROM event WHERE id = ?1");
    let mut statement = conn.prepare_cached(sql)?;
    let found =
        statement.query_row([id], |row| Ok((meta(row), row.get::<_, Vec<u8>>(META_COLUMNS)?))).optional()?;
    let Some((meta, bytes)) = found else { return Ok(EventLookup::None) };
    let meta = meta?;
    let deliveries = deliveries_of(conn, id, &meta)?;
    let event = frame::decode(&Bytes::from(bytes)).ok();
    Ok(EventLookup::One(Box::new(EventDetail { meta, event, deliveries })))
}

/// Marks outlive their window for as long as their event is kept, so that it can be found by either id.
fn by_svix_id(conn: &Connection, svix_id: &str) -> Result<Vec<i64>, Fault> {
    let mut statement = conn.prepare_cached(
        "SELECT m.event FROM mark m JOIN event e ON e.id = m.event WHERE m.svix_id = ?1 ORDER BY m.event",
    )?;
    let ids = statement.query_map([svix_id], |row| row.get(0))?;
    Ok(ids.collect::<rusqlite::Result<_>>()?)
}

fn deliveries_of(conn: &Connection, event: i64, meta: &EventMeta) -> Result<Vec<DeliveryDetail>, Fault> {
    let mut details = Vec::new();
    for target in targets::all(conn)? {
        if let Some(found) = select::load(conn, Place { event, target: target.num })?
            && let Some((record, view)) = found.view()
        {
            details.push(DeliveryDetail { view, attempts: attempts::list(conn, &record)? });
        } else if target.standing != Standing::Forgotten && target.cursor < event {
            let view = DeliveryView {
                event_id: meta.id,
                target: target.name,
                event_type: meta.event_type.clone(),
                subject: meta.subject.clone(),
                state: State::Queued,
                reason: None,
                attempts: 0,
                last_status: None,
                last_error: None,
                last_hint: None,
                due_at: None,
                updated_at: codes::accepted_at(event),
                takeovers: 0,
            };
            details.push(DeliveryDetail { view, attempts: Vec::new() });
        }
    }
    Ok(details)
}

/// Deliveries that have a record, newest event first.
///
/// # Errors
/// Where SQLite fails.
pub fn deliveries(
    conn: &Connection, query: &DeliveryQuery, page: &Page,
) -> Result<Paged<DeliveryView>, Fault> {
    let selection = Selection {
        event: None,
        query,
        from: From::Records,
        below: Place::of(conn, page.cursor())?,
        rows_max: page.rows_max() as usize,
        looked_at_max: LOOKED_AT_MAX,
        until: Some(Instant::now() + LOOK_MAX),
    };
    let (found, next) = select::select(conn, &selection)?;
    let next = next.map(|place| select::cursor(conn, place)).transpose()?;
    Ok(Paged { rows: found.into_iter().filter_map(|found| Some(found.view()?.1)).collect(), next })
}
