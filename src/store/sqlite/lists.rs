//! The lists that people look at: events, one event with everything that happened to it, and deliveries.

use bytes::Bytes;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params_from_iter};

use crate::event::frame;
use crate::lifecycle::State;
use crate::store::query::{
    Cursor, DeliveryDetail, DeliveryQuery, DeliveryView, EventDetail, EventLookup, EventMeta, EventQuery,
    EventRef, Page, Paged, Payload,
};

use super::attempts;
use super::codes;
use super::fault::Fault;
use super::select::{self, From, Place, Selection};
use super::targets::{self, Standing};

/// Rows that one page looks at, some 0.1 s; where few of them fit, the page is short and tells where to go on.
const LOOKED_AT_MAX: usize = 20_000;

macro_rules! meta_columns {
    () => {
        "id, source, svix_id, type, subject, body_bytes"
    };
}

/// Events, newest first.
///
/// # Errors
/// Where SQLite fails.
pub fn events(conn: &Connection, query: &EventQuery, page: &Page) -> Result<Paged<EventMeta>, Fault> {
    let below = Place::of(conn, page.cursor())?.event;
    let since = query.since.map_or(0, codes::first_at);
    let until = query.until.map_or(i64::MAX, codes::first_at).min(below);
    let mut params: Vec<Value> = vec![since.into(), until.into()];
    let narrowed = match (&query.subject, &query.event_type) {
        (Some(subject), _) => {
            params.push(subject.as_str().to_owned().into());
            "INDEXED BY event_subject WHERE subject = ?3 AND"
        }
        (None, Some(event_type)) => {
            params.push(event_type.clone().into());
            "INDEXED BY event_type WHERE type = ?3 AND"
        }
        (None, None) => "WHERE",
    };
    let columns = meta_columns!();
    let sql = format!("SELECT {columns} FROM event {narrowed} id >= ?1 AND id < ?2 ORDER BY id DESC");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(params))?;
    let (mut found, mut looked_at, mut last) = (Vec::new(), 0, None);
    while let Some(row) = rows.next()? {
        if looked_at == LOOKED_AT_MAX || found.len() == page.rows_max() as usize {
            return Ok(Paged { rows: found, next: last.map(Cursor::Event) });
        }
        let meta = meta(row)?;
        looked_at += 1;
        last = Some(meta.id);
        let fits = query.event_type.as_ref().is_none_or(|wanted| *wanted == meta.event_type)
            && query.source.as_ref().is_none_or(|wanted| *wanted == meta.source);
        found.extend(fits.then_some(meta));
    }
    Ok(Paged { rows: found, next: None })
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
    let found = statement.query_row([id], |row| Ok((meta(row), row.get::<_, Vec<u8>>(6)?))).optional()?;
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
    };
    let (found, next) = select::select(conn, &selection)?;
    let next = next.map(|place| select::cursor(conn, place)).transpose()?;
    Ok(Paged { rows: found.into_iter().filter_map(|found| Some(found.view()?.1)).collect(), next })
}
