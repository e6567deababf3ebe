//! Erasing what is kept of a subject, one bounded step at a time. The event stays, as a fact; its payload, the replies to
//! it and the refusals of its id go, and what would still be sent ends cancelled.
//!
//! Invariants:
//! - An event that stands in `erased` has no payload, and only deliveries that have ended or are in flight. Those in
//!   flight have the reason `erased` already, and end by it unless their attempt succeeds.
//! - An erased event is in no target's backlog: `passed` counts it, whether the cursor has reached it or not.
//! - When the last step has returned, the bytes are neither in the file nor in the write-ahead log: deleted content is
//!   overwritten (`secure_delete`, see `schema`), the attempts are written anew, and the log is emptied.

use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::event::frame;
use crate::lifecycle::State;
use crate::store::StoreError;
use crate::store::ledger::TEXT_MAX;
use crate::store::query::{Cursor, Erase, Erased};

use super::checkpoint::Emptied;
use super::codes;
use super::fault::Fault;
use super::lanes;
use super::record::{Record, columns};
use super::select::Place;
use super::targets::{self, Standing, Target};
use super::writer::{Rest, Tx, Writer};
use super::{SMALL_BYTES, codes::first_at};

/// Events of one step at most: some 20 ms of the one thread that writes.
const EVENTS_MAX: u32 = 100;
/// How often the log is tried to be emptied at the end of an erasure, and how long between two tries: longer than a reader
/// may be in the way.
const EMPTY_TRIES: u32 = 30;
const EMPTY_EVERY: Duration = Duration::from_millis(100);

/// Attempts up to so many are written anew: below a second of the one thread that writes, however long the replies are.
const ATTEMPTS_MAX: i64 = 20_000;

/// The condition that a row of the table `event` was not erased.
macro_rules! kept {
    () => {
        "NOT EXISTS (SELECT 1 FROM erased WHERE erased.event = event.id)"
    };
}
pub(super) use kept;

/// Applies one step; after the last one the write-ahead log is emptied.
///
/// # Errors
/// Where SQLite fails; then nothing is changed.
pub async fn apply(writer: &Writer, erase: Erase) -> Result<Erased, StoreError> {
    let erased = writer.call(SMALL_BYTES, move |tx| step(tx, &erase)).await?;
    if erased.next.is_some() {
        return Ok(erased);
    }
    for _ in 0..EMPTY_TRIES {
        if writer.rest(Rest::Empty).await? == Emptied::Yes {
            return Ok(erased);
        }
        tokio::time::sleep(EMPTY_EVERY).await;
    }
    tracing::warn!(
        "store.log_not_emptied: something reads the store's file for long; what was erased leaves its log later"
    );
    Ok(erased)
}

/// What one step would do.
///
/// # Errors
/// Where SQLite fails.
pub fn count(conn: &Connection, erase: &Erase) -> Result<Erased, Fault> {
    let (found, next) = select(conn, erase)?;
    let mut in_flight =
        conn.prepare_cached("SELECT count(*) FROM delivery WHERE event = ?1 AND state = 1")?;
    let mut erased = Erased { events: 0, in_flight: 0, next };
    for one in found {
        erased.events += u64::from(!one.is_erased);
        erased.in_flight += in_flight.query_row([one.id], |row| row.get::<_, i64>(0))?.unsigned_abs();
    }
    Ok(erased)
}

fn step(tx: &mut Tx<'_>, erase: &Erase) -> Result<Erased, Fault> {
    let (found, next) = select(tx.conn, erase)?;
    let mut erased = Erased { events: 0, in_flight: 0, next };
    let targets = targets::all(tx.conn)?;
    for one in found {
        if !one.is_erased {
            payload(tx, one.id)?;
            pass(tx, one.id, &targets)?;
            erased.events += 1;
        }
        told(tx.conn, one.id)?;
        erased.in_flight += deliveries(tx, one.id)?;
    }
    if erased.next.is_none() {
        attempts_anew(tx.conn)?;
    }
    Ok(erased)
}

/// Writes the table of attempts anew. `secure_delete` overwrites what is deleted, but not what SQLite leaves behind in a
/// page when it moves rows to another one; the rows of attempts are inserted everywhere, so theirs are moved, and a reply
/// would be found there after it was emptied. Events are only ever appended, and stay where they are.
fn attempts_anew(conn: &Connection) -> Result<(), Fault> {
    let rows: i64 = conn
        .prepare_cached("SELECT count(*) FROM (SELECT 1 FROM attempt LIMIT ?1 + 1)")?
        .query_row([ATTEMPTS_MAX], |row| row.get(0))?;
    if rows > ATTEMPTS_MAX {
        tracing::warn!(
            "store.attempts_not_rewritten: too many are kept; parts of replies may stay in free space of the file until it \
             is used again, or until VACUUM is run while the relay is stopped"
        );
        return Ok(());
    }
    for sql in [
        "INSERT INTO attempt_again SELECT * FROM attempt",
        "DELETE FROM attempt", // without a condition: whole pages go, and are overwritten
        "INSERT INTO attempt SELECT * FROM attempt_again",
        "DELETE FROM attempt_again",
    ] {
        conn.prepare_cached(sql)?.execute([])?;
    }
    Ok(())
}

struct Found {
    id: i64,
    is_erased: bool,
}

/// The events that the step means, newest first, and where to go on.
fn select(conn: &Connection, erase: &Erase) -> Result<(Vec<Found>, Option<Cursor>), Fault> {
    let max = erase.max.clamp(1, EVENTS_MAX) as usize;
    let until = first_at(erase.as_of.plus(Duration::from_millis(1))); // accepted in that very millisecond, too
    let below = Place::of(conn, erase.after.as_ref())?.event.min(until);
    let mut statement = conn.prepare_cached(concat!(
        "SELECT id, NOT ",
        kept!(),
        " FROM event INDEXED BY event_subject WHERE subject = ?1 AND id < ?2 ORDER BY id DESC"
    ))?;
    let mut rows = statement.query(params![erase.subject.as_str(), below])?;
    let mut found: Vec<Found> = Vec::new();
    while let Some(row) = rows.next()? {
        if found.len() == max {
            let next = found.last().map(|last| Cursor::Event(codes::unpack(last.id)));
            return Ok((found, next));
        }
        found.push(Found { id: row.get(0)?, is_erased: row.get(1)? });
    }
    Ok((found, None))
}

/// Replaces the payload by the fact that it was there.
fn payload(tx: &Tx<'_>, event: i64) -> Result<(), Fault> {
    let frame: Option<Vec<u8>> = tx
        .conn
        .prepare_cached("SELECT frame FROM event WHERE id = ?1")?
        .query_row([event], |row| row.get(0))
        .optional()?;
    let frame = frame::erase(&Bytes::from(frame.unwrap_or_default()));
    tx.conn
        .prepare_cached("UPDATE event SET frame = ?2, body_bytes = 0 WHERE id = ?1")?
        .execute(params![event, frame])?;
    tx.conn
        .prepare_cached("INSERT INTO erased (event, at) VALUES (?1, ?2)")?
        .execute([event, tx.now.as_ms()])?;
    Ok(())
}

/// Takes it out of the backlog of those that have not reached it: for them it has ended.
fn pass(tx: &Tx<'_>, event: i64, targets: &[Target]) -> Result<(), Fault> {
    let mut update = tx.conn.prepare_cached("UPDATE target SET passed = passed + 1 WHERE num = ?1")?;
    let is_unreached = |target: &&Target| target.standing != Standing::Forgotten && target.cursor < event;
    for target in targets.iter().filter(is_unreached) {
        update.execute([target.num])?;
        if Record::load(tx.conn, event, target.num)?.is_none() {
            let mut record = Record::new(event, target.num, tx.now, None)?;
            record.end_erased(tx.now)?;
            record.insert(tx.conn)?;
        }
    }
    Ok(())
}

/// Removes what others have said about it: the replies, and the refusals of its id.
fn told(conn: &Connection, event: i64) -> Result<(), Fault> {
    conn.prepare_cached("UPDATE attempt SET reply = x'' WHERE event = ?1 AND length(reply) > 0")?
        .execute([event])?;
    conn.prepare_cached(
        "DELETE FROM refusal WHERE svix_id = (SELECT substr(svix_id, 1, ?2) FROM event WHERE id = ?1)",
    )?
    .execute([event, TEXT_MAX as i64])?;
    Ok(())
}

/// Ends its deliveries that have a record; returns how many are in flight.
fn deliveries(tx: &mut Tx<'_>, event: i64) -> Result<u64, Fault> {
    const SQL: &str = concat!("SELECT ", columns!(), " FROM delivery d WHERE d.event = ?1");
    let mut in_flight = 0;
    for mut record in Record::list(tx.conn, SQL, [event])? {
        match record.state() {
            State::InFlight => {
                in_flight += 1;
                record.will_end_erased();
                record.save(tx.conn)?;
            }
            State::Queued | State::Waiting | State::Parked | State::Dead => {
                record.end_erased(tx.now)?;
                record.save(tx.conn)?;
                lanes::release_ended(tx, &record)?;
            }
            State::Delivered | State::Skipped | State::Cancelled => {}
        }
    }
    Ok(in_flight)
}
