//! Order by subject. A lane is one subject of one ordered target; of its unfinished deliveries at most one is in
//! flight, and the later ones of the log are parked until it has ended. Nothing here looks at an unordered target.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension as _, params};

use crate::lifecycle::{Cause, Ordering, State};

use super::fault::Fault;
use super::record::{Record, columns};
use super::targets::Target;
use super::writer::Tx;

/// A delivery that its lane keeps from being claimed is looked at again after this long, in ms, so that it does not
/// stand in the way of others that are due. Only deliveries redriven by hand ever wait like this.
const LOOK_AGAIN_MS: i64 = 500;

/// Takes over what a claim says of the target's ordering, where that has changed with the configuration.
///
/// # Errors
/// Where SQLite fails.
pub fn adopt(
    tx: &mut Tx<'_>, target: &mut Target, ordering: Ordering, unordered: &[String],
) -> Result<(), Fault> {
    let known = target.unordered.lines();
    if target.ordering == ordering && known.eq(unordered.iter().map(String::as_str)) {
        return Ok(());
    }
    target.ordering = ordering;
    target.unordered = unordered.join("\n");
    target.save(tx.conn)?;
    // Every unfinished delivery gets the lane that it has from now on, and whom no lane holds is let go.
    const SQL: &str = concat!(
        "SELECT ",
        columns!(),
        ", e.type, e.subject FROM delivery d INDEXED BY delivery_open LEFT JOIN event e ON e.id = d.event \
         WHERE d.target = ?1 AND d.state < 5 AND d.state < 6"
    );
    let (mut changed, mut left) = (Vec::new(), BTreeSet::new());
    {
        let mut statement = tx.conn.prepare_cached(SQL)?;
        let mut rows = statement.query([target.num])?;
        while let Some(row) = rows.next()? {
            let mut record = Record::read(row, 0)?;
            let event_type: Option<String> = row.get(super::record::COLUMN_COUNT)?;
            let lane =
                target.lane(&event_type.unwrap_or_default(), row.get(super::record::COLUMN_COUNT + 1)?);
            if record.lane != lane {
                left.extend(std::mem::replace(&mut record.lane, lane));
                changed.push(record);
            }
        }
    }
    for mut record in changed {
        if record.lane.is_none() && record.state() == State::Parked {
            let_go(tx, &mut record)?;
        } else {
            record.save(tx.conn)?;
        }
    }
    for lane in left {
        release(tx, target.num, &lane)?; // its head may have been among those that left it
    }
    Ok(())
}

/// Whether an unfinished delivery of the lane holds back a new one.
///
/// # Errors
/// Where SQLite fails.
pub fn is_held(conn: &Connection, target: i64, lane: &str) -> rusqlite::Result<bool> {
    conn.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM delivery INDEXED BY delivery_lane \
         WHERE target = ?1 AND lane = ?2 AND lane IS NOT NULL AND state < 5)",
    )?
    .query_row(params![target, lane], |row| row.get(0))
}

/// Whether its lane keeps this due delivery from being claimed now: because another one is in flight or, unless an
/// operator asked for it, because an earlier one is unfinished.
///
/// # Errors
/// Where SQLite fails.
pub fn is_blocked(conn: &Connection, record: &Record) -> rusqlite::Result<bool> {
    let Some(lane) = &record.lane else { return Ok(false) };
    let in_flight: bool = conn
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM delivery INDEXED BY delivery_lane \
             WHERE target = ?1 AND lane = ?2 AND lane IS NOT NULL AND state = 1 AND state < 5)",
        )?
        .query_row(params![record.target, lane], |row| row.get(0))?;
    if in_flight || record.progress.retried_at.is_some() {
        return Ok(in_flight);
    }
    conn.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM delivery INDEXED BY delivery_lane WHERE target = ?1 AND lane = ?2 \
         AND lane IS NOT NULL AND state IN (2, 3, 4) AND state < 5 AND event < ?3)",
    )?
    .query_row(params![record.target, lane, record.event], |row| row.get(0))
}

/// Puts a blocked delivery out of the way of others for a moment.
///
/// # Errors
/// Where SQLite fails.
pub fn look_again_later(tx: &Tx<'_>, mut record: Record) -> rusqlite::Result<()> {
    record.due = tx.now.as_ms().saturating_add(LOOK_AGAIN_MS);
    record.save(tx.conn)
}

/// Releases the lane of `record` where that has ended.
///
/// # Errors
/// Where SQLite fails.
pub fn release_ended(tx: &mut Tx<'_>, record: &Record) -> Result<(), Fault> {
    match &record.lane {
        Some(lane) if record.state().is_ended() => release(tx, record.target, lane),
        Some(_) | None => Ok(()),
    }
}

/// A delivery of this lane has ended: where only parked ones are left, the oldest becomes due.
///
/// # Errors
/// Where SQLite fails.
pub fn release(tx: &mut Tx<'_>, target: i64, lane: &str) -> Result<(), Fault> {
    let busy: bool = tx
        .conn
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM delivery INDEXED BY delivery_lane WHERE target = ?1 AND lane = ?2 \
             AND lane IS NOT NULL AND state < 4 AND state < 5)",
        )?
        .query_row(params![target, lane], |row| row.get(0))?;
    if busy {
        return Ok(());
    }
    let oldest: Option<i64> = tx
        .conn
        .prepare_cached(
            "SELECT event FROM delivery INDEXED BY delivery_lane WHERE target = ?1 AND lane = ?2 \
             AND lane IS NOT NULL AND state = 4 AND state < 5 ORDER BY event LIMIT 1",
        )?
        .query_row(params![target, lane], |row| row.get(0))
        .optional()?;
    let Some(event) = oldest else { return Ok(()) };
    let mut record = Record::load(tx.conn, event, target)?.ok_or(Fault::Unreadable("lane"))?;
    let_go(tx, &mut record)
}

fn let_go(tx: &mut Tx<'_>, record: &mut Record) -> Result<(), Fault> {
    record.go(Cause::HeadEnded, tx.now)?;
    record.due = tx.now.as_ms();
    record.save(tx.conn)?;
    tx.notes.ring();
    Ok(())
}
