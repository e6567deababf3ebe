//! Keeping an event: mark and event in one step, at the same cost for any number of targets.

use rusqlite::{OptionalExtension as _, params};

use crate::event::Event;
use crate::store::{Duplicate, Ingested, Likeness};

use super::codes;
use super::fault::Fault;
use super::writer::Tx;

/// What indexes and page headers add to a frame, roughly, in bytes.
const OVERHEAD_BYTES: i64 = 300;

/// Keeps `event`, whose stored form is `frame`, unless its mark says that it was kept before. `None` where the store may
/// not grow: no failure, so that a full store does not undo its neighbours in the transaction.
///
/// # Errors
/// Where SQLite fails.
pub fn ingest(tx: &mut Tx<'_>, event: &Event, frame: &[u8]) -> Result<Option<Ingested>, Fault> {
    if tx.notes.used_bytes(tx.conn)? > tx.rules.size_max_bytes {
        // What is kept already costs nothing more, and its sender should stop sending it.
        return Ok(known(tx, event)?.map(Ingested::Duplicate));
    }
    let now_ms = tx.now.as_ms();
    let id = codes::first_at(tx.now).max(tx.notes.last_event + 1);
    let secret = i64::from(u32::from_be_bytes(event.secret_id.0));
    let body_hash = i64::from_be_bytes(event.body_hash.0);
    let expires = now_ms.saturating_add(tx.rules.mark_ms);
    let marked = tx
        .conn
        .prepare_cached(
            "INSERT INTO mark (svix_id, source, event, secret, body_hash, expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
             ON CONFLICT (svix_id, source) DO UPDATE SET event = excluded.event, secret = excluded.secret, \
             body_hash = excluded.body_hash, expires = excluded.expires WHERE mark.expires <= ?7",
        )?
        .execute(params![&*event.svix_id, event.source.as_str(), id, secret, body_hash, expires, now_ms])?;
    if marked == 0 {
        return known(tx, event)?.map(Ingested::Duplicate).map(Some).ok_or(Fault::Unreadable("mark"));
    }
    let number = tx.notes.last_number + 1;
    tx.conn
        .prepare_cached(
            "INSERT INTO event (id, number, source, svix_id, type, subject, body_bytes, frame) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            id,
            number,
            event.source.as_str(),
            &*event.svix_id,
            &*event.event_type,
            event.subject.as_ref().map(|subject| subject.as_str()),
            event.body.len() as i64,
            frame,
        ])?;
    tx.notes.last_event = id;
    tx.notes.last_number = number;
    tx.notes.add_bytes(frame.len() as i64 + OVERHEAD_BYTES);
    tx.notes.ring();
    Ok(Some(Ingested::New(codes::unpack(id))))
}

fn known(tx: &Tx<'_>, event: &Event) -> Result<Option<Duplicate>, Fault> {
    let sql = "SELECT event, secret, body_hash FROM mark WHERE svix_id = ?1 AND source = ?2 AND expires > ?3";
    let found = tx
        .conn
        .prepare_cached(sql)?
        .query_row(params![&*event.svix_id, event.source.as_str(), tx.now.as_ms()], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        })
        .optional()?;
    Ok(found.map(|(id, secret, body_hash)| Duplicate {
        id: codes::unpack(id),
        age: tx.now.since(codes::accepted_at(id)),
        secret: likeness(secret, i64::from(u32::from_be_bytes(event.secret_id.0))),
        body: likeness(body_hash, i64::from_be_bytes(event.body_hash.0)),
    }))
}

fn likeness(kept: i64, came: i64) -> Likeness {
    if kept == came { Likeness::Same } else { Likeness::Different }
}
