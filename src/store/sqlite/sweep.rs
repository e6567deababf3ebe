//! Retention: what has ended and is old enough goes, a bounded number of rows at a time. An event stays while any
//! target has not reached it, and while any delivery of it is unfinished or dead.

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::lifecycle::{Cause, Next, State, arrow};
use crate::store::Swept;

use super::attempts;
use super::codes;
use super::erase::kept;
use super::fault::Fault;
use super::targets::{self, Standing};
use super::writer::Tx;

/// Rows of each kind that one sweep removes at most: some 20 ms of the one thread that writes.
const ROWS_MAX: u32 = 1_000;
/// Rows looked at for each that may be removed. What must stay is passed over, and the next sweep goes on behind it.
const LOOKED_AT_PER_ROW: u32 = 4;
/// Free pages are given back to the file system only beyond this share (one in four): events to come use the others.
const FREE_SHARE: i64 = 4;
/// Pages given back by one sweep (8 KiB each, so 2 MiB).
const PAGES_FREED_MAX: i64 = 256;

/// Removes at most `max` rows of each kind.
///
/// # Errors
/// Where SQLite fails; then nothing is removed.
pub fn sweep(tx: &mut Tx<'_>, max: u32) -> Result<Swept, Fault> {
    let max = max.clamp(1, ROWS_MAX);
    let mut swept = Swept::default();
    for target in targets::all(tx.conn)? {
        if target.standing == Standing::Forgotten {
            targets::cancel_forgotten(tx, target.num)?;
        }
    }
    dead_letters(tx, max, &mut swept)?;
    events(tx, max, &mut swept)?;
    marks(tx, max, &mut swept)?;
    free_pages(tx.conn)?;
    Ok(swept)
}

fn dead_letters(tx: &Tx<'_>, max: u32, swept: &mut Swept) -> Result<(), Fault> {
    debug_assert_eq!(arrow(Some(State::Dead), Cause::Purged), Some(Next::Gone));
    let died_before = tx.now.as_ms().saturating_sub(tx.rules.dead_letter_retention_ms);
    let mut statement = tx.conn.prepare_cached(
        "SELECT event, target FROM delivery INDEXED BY delivery_dead WHERE state = 5 AND updated <= ?1 \
         ORDER BY updated LIMIT ?2",
    )?;
    let found = statement.query_map(params![died_before, max], |row| Ok((row.get(0)?, row.get(1)?)))?;
    for (event, target) in found.collect::<rusqlite::Result<Vec<(i64, i64)>>>()? {
        attempts::forget(tx.conn, event, target)?;
        tx.conn
            .prepare_cached("DELETE FROM delivery WHERE event = ?1 AND target = ?2")?
            .execute([event, target])?;
        swept.deliveries += 1;
    }
    Ok(())
}

fn events(tx: &mut Tx<'_>, max: u32, swept: &mut Swept) -> Result<(), Fault> {
    let accepted_before = tx.now.as_ms().saturating_sub(tx.rules.retention_ms);
    let cutoff = codes::first_at(crate::clock::Timestamp::from_ms(accepted_before));
    let last = reached(tx.conn)?.min(cutoff - 1);
    let found = removable(tx, last, max)?;
    for event in &found {
        swept.deliveries += remove(tx.conn, *event)?;
    }
    swept.events = found.len() as u64;
    if !found.is_empty() {
        // With the newest event its id and number would be forgotten, too.
        tx.conn
            .prepare_cached("UPDATE meta SET value = ?1 WHERE key = 'last_event'")?
            .execute([tx.notes.last_event])?;
        tx.conn
            .prepare_cached("UPDATE meta SET value = value + ?1 WHERE key = 'removed'")?
            .execute([found.len() as i64])?;
    }
    Ok(())
}

/// The last event that every target has reached. What was erased comes to nobody and is waited for by nobody.
fn reached(conn: &Connection) -> rusqlite::Result<i64> {
    let least: Option<i64> = conn
        .prepare_cached("SELECT min(cursor) FROM target WHERE standing < 2")?
        .query_row([], |row| row.get(0))?;
    let Some(least) = least else { return Ok(i64::MAX) };
    let next: Option<i64> = conn
        .prepare_cached(concat!("SELECT id FROM event WHERE id > ?1 AND ", kept!(), " ORDER BY id LIMIT 1"))?
        .query_row([least], |row| row.get(0))
        .optional()?;
    Ok(next.map_or(i64::MAX, |next| next - 1))
}

/// At most `max` events up to `last` that nothing holds, from where the last sweep stopped, then from the beginning.
fn removable(tx: &mut Tx<'_>, last: i64, max: u32) -> Result<Vec<i64>, Fault> {
    let mut statement = tx.conn.prepare_cached(
        "SELECT id, EXISTS (SELECT 1 FROM delivery d WHERE d.event = event.id AND d.state < 6) FROM event \
         WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3",
    )?;
    let mut looked_at_left = max * LOOKED_AT_PER_ROW;
    let mut found = Vec::new();
    let from = tx.notes.swept_event.min(last);
    for (after, up_to) in [(from, last), (0, from)] {
        tx.notes.swept_event = after;
        let mut rows = statement.query([after, up_to, i64::from(looked_at_left)])?;
        while let Some(row) = rows.next()? {
            if found.len() == max as usize {
                return Ok(found);
            }
            looked_at_left -= 1;
            let event = row.get(0)?;
            tx.notes.swept_event = event;
            if !row.get::<_, bool>(1)? {
                found.push(event);
            }
        }
        if looked_at_left == 0 {
            break;
        }
    }
    Ok(found)
}

/// Removes an event and everything that ended with it; returns how many deliveries that were.
fn remove(conn: &Connection, event: i64) -> rusqlite::Result<u64> {
    conn.prepare_cached("DELETE FROM attempt WHERE event = ?1")?.execute([event])?;
    conn.prepare_cached("DELETE FROM erased WHERE event = ?1")?.execute([event])?;
    let deliveries = conn.prepare_cached("DELETE FROM delivery WHERE event = ?1")?.execute([event])?;
    conn.prepare_cached("DELETE FROM event WHERE id = ?1")?.execute([event])?;
    Ok(deliveries as u64)
}

/// Marks whose window is over, unless their event is still kept: by them it is found under the sender's id.
fn marks(tx: &mut Tx<'_>, max: u32, swept: &mut Swept) -> Result<(), Fault> {
    let looked_at_max = max * LOOKED_AT_PER_ROW;
    let mut statement = tx.conn.prepare_cached(
        "SELECT m.expires, m.svix_id, m.source, EXISTS (SELECT 1 FROM event e WHERE e.id = m.event) \
         FROM mark m INDEXED BY mark_expires \
         WHERE m.expires <= ?1 AND (m.expires, m.svix_id, m.source) > (?2, ?3, ?4) \
         ORDER BY m.expires, m.svix_id, m.source LIMIT ?5",
    )?;
    let (expires, svix_id, source) = std::mem::take(&mut tx.notes.swept_mark);
    let mut rows = statement.query(params![tx.now.as_ms(), expires, svix_id, source, looked_at_max])?;
    let (mut found, mut looked_at, mut place) = (Vec::new(), 0, None);
    while let Some(row) = rows.next()? {
        if found.len() == max as usize {
            break;
        }
        looked_at += 1;
        let (svix_id, source): (String, String) = (row.get(1)?, row.get(2)?);
        place = Some((row.get(0)?, svix_id.clone(), source.clone()));
        if !row.get::<_, bool>(3)? {
            found.push((svix_id, source));
        }
    }
    // At the end of the list the next sweep begins again.
    let is_cut_short = looked_at == looked_at_max || found.len() == max as usize;
    tx.notes.swept_mark = place.filter(|_| is_cut_short).unwrap_or_default();
    for (svix_id, source) in &found {
        tx.conn
            .prepare_cached("DELETE FROM mark WHERE svix_id = ?1 AND source = ?2")?
            .execute([svix_id, source])?;
    }
    swept.marks = found.len() as u64;
    Ok(())
}

fn free_pages(conn: &Connection) -> rusqlite::Result<()> {
    let pragma =
        |sql: &str| -> rusqlite::Result<i64> { conn.prepare_cached(sql)?.query_row([], |row| row.get(0)) };
    if pragma("PRAGMA freelist_count")? <= pragma("PRAGMA page_count")? / FREE_SHARE {
        return Ok(());
    }
    let mut vacuum = conn.prepare(&format!("PRAGMA incremental_vacuum({PAGES_FREED_MAX})"))?;
    let mut rows = vacuum.query([])?;
    while rows.next()?.is_some() {} // each step frees one page
    Ok(())
}
