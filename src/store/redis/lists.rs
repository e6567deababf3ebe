//! The lists that people look at: events, one event with everything that happened to it, deliveries.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::event::{EventId, SourceName, TargetName, frame};
use crate::lifecycle::State;
use crate::store::StoreError;
use crate::store::query::{
    Cursor, DeliveryDetail, DeliveryQuery, DeliveryView, EventDetail, EventLookup, EventMeta, EventQuery,
    EventRef, Page, Paged, Payload,
};

use super::codes;
use super::core::Core;
use super::entries::{self, Entry};
use super::keys::Part;
use super::link::Lane;
use super::listed::Kind;
use super::look::Look;
use super::record::Record;
use super::reply;
use super::select::{self, Found, From, Place, Selection};
use super::targets;
use super::walk::Walk;

/// The longest that one page looks at events; where few of them fit, the page is short and tells where to go on.
const LOOK_MAX: Duration = Duration::from_millis(50);
/// Events that one page fetches: some MB from Redis.
const FETCHED_MAX: usize = 2_000;
/// Bytes of events that one page of a search by payload fetches.
const FETCHED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Events that one page of deliveries looks at: by their ids and records, which are small.
const LOOKED_AT_MAX: usize = 50_000;

/// Events, newest first.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn events(core: &Core, query: &EventQuery, page: &Page) -> Result<Paged<EventMeta>, StoreError> {
    let (below, _) = select::place_of(page.cursor());
    let kind = Kind {
        subject: query.subject.as_ref(),
        event_type: query.event_type.as_deref(),
        source: query.source.as_ref(),
    };
    let mut walk = Walk::new(core, kind, below, query.since, query.until).await?;
    let until = Instant::now() + LOOK_MAX;
    let (mut rows, mut looked_at, mut bytes, mut last) = (Vec::new(), 0, 0, None);
    while let Some(found) = walk.page(core).await? {
        for entry in found {
            let is_late = looked_at >= select::LOOKED_AT_MIN && Instant::now() >= until;
            let is_over = is_late || looked_at == FETCHED_MAX || bytes >= FETCHED_BYTES_MAX;
            if is_over || rows.len() == page.rows_max() as usize {
                return Ok(Paged { rows, next: last.map(Cursor::Event) });
            }
            looked_at += 1;
            bytes += entry.frame.len();
            last = Some(entry.id);
            if fits(&entry, query) {
                let meta = meta(&entry);
                let is_of_source = query.source.as_ref().is_none_or(|wanted| *wanted == meta.source);
                rows.extend(is_of_source.then_some(meta));
            }
        }
    }
    Ok(Paged { rows, next: None })
}

/// Whether the event is what is asked for, as far as that can be told without reading its facts.
fn fits(entry: &Entry, query: &EventQuery) -> bool {
    let body = || frame::body(&entry.frame);
    query.event_type.as_ref().is_none_or(|wanted| *wanted.as_bytes() == *entry.kind)
        && query.payload.as_ref().is_none_or(|wanted| body().is_some_and(|body| wanted.matches(body)))
}

/// What is known of an event without its payload; of one whose frame cannot be read, only what stands beside it.
fn meta(entry: &Entry) -> EventMeta {
    match frame::decode(&entry.frame) {
        Ok(event) => EventMeta {
            id: entry.id,
            source: event.source,
            svix_id: event.svix_id.to_string(),
            event_type: event.event_type.to_string(),
            subject: event.subject.map(|subject| subject.as_str().to_owned()),
            body_bytes: event.body.len() as u64,
            payload: Payload::Kept,
        },
        Err(_) => EventMeta {
            id: entry.id,
            source: unknown_source(),
            svix_id: String::new(),
            event_type: String::from_utf8_lossy(&entry.kind).into_owned(),
            subject: Some(String::from_utf8_lossy(&entry.subject).into_owned())
                .filter(|text| !text.is_empty()),
            body_bytes: 0,
            payload: Payload::Kept,
        },
    }
}

fn unknown_source() -> SourceName {
    "unknown".parse().expect("it is a name")
}

/// One event with its deliveries and their attempts.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn event(core: &Core, wanted: &EventRef) -> Result<EventLookup, StoreError> {
    let ids = match wanted {
        EventRef::Id(id) => vec![*id],
        EventRef::SvixId(svix_id) => by_svix_id(core, svix_id).await?,
    };
    let mut entries: Vec<Entry> = entries::of(core, &ids).await?.into_iter().flatten().collect();
    let Some(entry) = entries.pop() else { return Ok(EventLookup::None) };
    if !entries.is_empty() {
        return Ok(EventLookup::Many(entries.iter().chain([&entry]).map(|one| one.id).collect()));
    }
    let meta = meta(&entry);
    let deliveries = deliveries_of(core, &entry, &meta).await?;
    let event = frame::decode(&entry.frame).ok();
    Ok(EventLookup::One(Box::new(EventDetail { meta, event, deliveries })))
}

/// The events that any source had under this `svix-id`.
async fn by_svix_id(core: &Core, svix_id: &str) -> Result<Vec<EventId>, StoreError> {
    let mut command = redis::cmd("SMEMBERS");
    command.arg(core.keys.sources());
    let mut marks = redis::cmd("MGET");
    let sources = reply::array(core.link.command(Lane::Admin, &command).await?, "sources")?;
    if sources.is_empty() {
        return Ok(Vec::new());
    }
    for source in sources {
        let source: SourceName =
            reply::text(source, "a source")?.parse().map_err(|_| reply::Odd("a source's name"))?;
        marks.arg(core.keys.mark(&source, svix_id));
    }
    let mut ids = Vec::new();
    for mark in reply::array(core.link.command(Lane::Admin, &marks).await?, "marks")? {
        let mark = reply::some_bytes(mark, "a mark")?;
        ids.extend(mark.and_then(|mark| codes::from_hex(mark.get(..20)?)));
    }
    ids.sort_unstable();
    Ok(ids)
}

async fn deliveries_of(
    core: &Core, entry: &Entry, meta: &EventMeta,
) -> Result<Vec<DeliveryDetail>, StoreError> {
    let names = targets::all(core).await?;
    let look = Look::new(core, names.clone()).await?;
    let mut details = Vec::new();
    for (target, mut records) in names.into_iter().zip(look.records(core, &[entry.id]).await?) {
        let Some(record) = records.pop().flatten() else {
            if !has_passed(core, &target, entry.id).await? {
                let record =
                    Record { state: State::Queued, ..Record::in_flight(codes::accepted_at(entry.id)) };
                let mut view = view(target, meta, &record);
                view.due_at = None; // it waits in the log
                details.push(DeliveryDetail { view, attempts: Vec::new() });
            }
            continue;
        };
        let mut command = redis::cmd("HGET");
        command.arg(core.keys.of_target(&target, Part::Attempts)).arg(codes::hex(entry.id));
        let kept = reply::some_bytes(core.link.command(Lane::Admin, &command).await?, "attempts")?;
        let attempts = record.attempts(&kept.unwrap_or_else(Bytes::new));
        details.push(DeliveryDetail { view: view(target, meta, &record), attempts });
    }
    Ok(details)
}

/// Whether nothing of this event will come to the target by itself: it has passed it, or is forgotten.
async fn has_passed(core: &Core, target: &TargetName, id: EventId) -> Result<bool, StoreError> {
    let mut command = redis::cmd("HMGET");
    command.arg(core.keys.of_target(target, Part::Own)).arg("standing").arg("cursor");
    let mut own = reply::array(core.link.command(Lane::Admin, &command).await?, "a target")?;
    let cursor = own.pop().map(|value| reply::some_bytes(value, "a cursor")).transpose()?.flatten();
    let standing = own.pop().map(|value| reply::some_bytes(value, "a standing")).transpose()?.flatten();
    let cursor = cursor.and_then(|text| codes::from_stream(&text));
    let is_there = standing.is_some_and(|standing| *standing != *b"forgotten");
    Ok(!is_there || cursor.is_some_and(|cursor| id <= cursor))
}

/// What people see of a delivery.
fn view(target: TargetName, meta: &EventMeta, record: &Record) -> DeliveryView {
    let due_at = record.state.is_due_some_day().then(|| crate::clock::Timestamp::from_ms(record.due));
    DeliveryView {
        event_id: meta.id,
        target,
        event_type: meta.event_type.clone(),
        subject: meta.subject.clone(),
        state: record.state,
        reason: record.reason.clone(),
        attempts: record.progress.attempts_total,
        last_status: record.status,
        last_error: record.error,
        last_hint: record.hint,
        due_at,
        updated_at: record.updated,
        takeovers: record.progress.takeovers,
    }
}

/// Deliveries that are in flight or have a record, newest event first.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn deliveries(
    core: &Core, query: &DeliveryQuery, page: &Page,
) -> Result<Paged<DeliveryView>, StoreError> {
    let selection = Selection {
        event: None,
        query,
        from: From::Records,
        below: select::place_of(page.cursor()),
        rows_max: page.rows_max() as usize,
        looked_at_max: LOOKED_AT_MAX,
        until: Some(Instant::now() + LOOK_MAX),
    };
    let (found, next) = select::select(core, &selection).await?;
    let row = |found: Found| Some(view(found.target, &meta(&found.entry), &found.record?));
    Ok(Paged { rows: found.into_iter().filter_map(row).collect(), next: next.map(cursor) })
}

/// The cursor behind this place.
pub fn cursor(place: Place) -> Cursor {
    match place {
        (id, Some(target)) => Cursor::Delivery(id, target),
        (id, None) => Cursor::Event(id),
    }
}
