//! The history of attempts: the newest twenty, the last reply at length, earlier ones short. A delivery that succeeds
//! at once keeps its only attempt in its own row, so that the happy path writes one row less.

use bytes::Bytes;
use rusqlite::{Connection, params};

use crate::clock::Timestamp;
use crate::lifecycle::attempt::{
    ATTEMPTS_KEPT, Attempt, EARLIER_REPLY_BYTES_MAX, ErrorClass, REPLY_BYTES_MAX,
};
use crate::lifecycle::hint::Hint;

use super::codes;
use super::fault::Fault;
use super::record::{Only, Record};

/// Writes the attempt that `record` has just counted; the caller saves the record.
///
/// # Errors
/// Where SQLite fails.
pub fn add(conn: &Connection, record: &mut Record, attempt: &Attempt) -> rusqlite::Result<()> {
    let number = record.progress.attempts_total;
    if let Some(first) = record.only.take() {
        let first = as_attempt(first, record.status);
        insert(conn, record, 1, &first)?;
    }
    insert(conn, record, number, attempt)?;
    let (event, target) = (record.event, record.target);
    conn.prepare_cached(
        "UPDATE attempt SET reply = substr(reply, 1, ?4) \
         WHERE event = ?1 AND target = ?2 AND number = ?3 AND length(reply) > ?4",
    )?
    .execute(params![event, target, i64::from(number) - 1, EARLIER_REPLY_BYTES_MAX as i64])?;
    conn.prepare_cached("DELETE FROM attempt WHERE event = ?1 AND target = ?2 AND number <= ?3")?
        .execute([event, target, i64::from(number) - ATTEMPTS_KEPT as i64])?;
    Ok(())
}

/// The form in which a delivery that succeeds at once keeps its attempt.
pub fn only(attempt: &Attempt) -> Only {
    Only { at: attempt.at, took_ms: codes::millis(attempt.took), reply_read: attempt.reply_read }
}

fn as_attempt(only: Only, status: Option<u16>) -> Attempt {
    Attempt {
        number: 1,
        at: only.at,
        took: codes::duration(only.took_ms),
        status,
        error: None,
        hint: None,
        reply: Bytes::new(),
        reply_read: only.reply_read,
    }
}

fn insert(conn: &Connection, record: &Record, number: u32, attempt: &Attempt) -> rusqlite::Result<()> {
    let reply = &attempt.reply[..attempt.reply.len().min(REPLY_BYTES_MAX)];
    conn.prepare_cached(
        "INSERT OR REPLACE INTO attempt (event, target, number, at, took_ms, status, error, reply_read, reply, hint) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?
    .execute(params![
        record.event,
        record.target,
        number,
        attempt.at.as_ms(),
        codes::millis(attempt.took),
        attempt.status,
        attempt.error.map(ErrorClass::as_str),
        codes::reply_read_code(attempt.reply_read),
        reply,
        attempt.hint.map(Hint::as_str),
    ])?;
    Ok(())
}

/// The attempts that are kept of a delivery, oldest first.
///
/// # Errors
/// Where SQLite fails.
pub fn list(conn: &Connection, record: &Record) -> Result<Vec<Attempt>, Fault> {
    if let Some(only) = record.only {
        return Ok(vec![as_attempt(only, record.status)]);
    }
    let mut statement = conn.prepare_cached(
        "SELECT number, at, took_ms, status, error, reply, reply_read, hint FROM attempt \
         WHERE event = ?1 AND target = ?2 ORDER BY number",
    )?;
    let mut rows = statement.query([record.event, record.target])?;
    let mut attempts = Vec::new();
    while let Some(row) = rows.next()? {
        attempts.push(Attempt {
            number: row.get(0)?,
            at: Timestamp::from_ms(row.get(1)?),
            took: codes::duration(row.get(2)?),
            status: row.get(3)?,
            error: codes::error_class(row.get(4)?)?,
            hint: codes::hint(row.get(7)?),
            reply: Bytes::from(row.get::<_, Vec<u8>>(5)?),
            reply_read: codes::reply_read(row.get(6)?),
        });
    }
    Ok(attempts)
}

/// Forgets a delivery's attempts.
///
/// # Errors
/// Where SQLite fails.
pub fn forget(conn: &Connection, event: i64, target: i64) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM attempt WHERE event = ?1 AND target = ?2")?.execute([event, target])?;
    Ok(())
}
