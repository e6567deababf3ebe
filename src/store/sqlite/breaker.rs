//! A target's breaker in its row: turned by whoever knows its revision, and while it is open, the one delivery that a
//! claim may give as a probe. Decides nothing: when to turn it is the caller's business.

use std::time::Duration;

use rusqlite::{Connection, params};

use crate::lifecycle::breaker::Phase;
use crate::store::{Controlled, Turn};

use super::claim::{self, Basket, Held};
use super::codes;
use super::erase::kept;
use super::fault::Fault;
use super::lanes;
use super::record::{Record, columns};
use super::targets::Target;
use super::writer::Tx;

/// Deliveries that a closing breaker makes due again, the earliest due: under 80 ms of the one thread that writes. More
/// than these only wait where most were attempted before it opened; the rest keep their own due times.
const SPREAD_MAX: u32 = 5_000;
/// Deliveries that a probe is chosen from: those that were never attempted or are due the earliest.
const CANDIDATES_MAX: u32 = 100;

/// Turns the target's breaker, where its revision is still `from`.
///
/// # Errors
/// Where SQLite fails.
pub fn turn(tx: &mut Tx<'_>, mut target: Target, from: u64, to: Turn) -> Result<Controlled, Fault> {
    if target.breaker.revision != from {
        return Ok(Controlled::Refused);
    }
    match to {
        Turn::Open { probe_after } => target.breaker = target.breaker.opened(probe_after, tx.now),
        Turn::Close { spread: span } => {
            let Some(closed) = target.breaker.closed(tx.now) else { return Ok(Controlled::Unchanged) };
            target.breaker = closed;
            spread(tx, target.num, span)?;
        }
    }
    target.save(tx.conn)?;
    tx.notes.ring();
    Ok(Controlled::Changed)
}

/// Makes what waits due again, the n-th of m at n/m of `span` from now, unless it is due sooner.
fn spread(tx: &Tx<'_>, target: i64, span: Duration) -> Result<(), Fault> {
    let now_ms = tx.now.as_ms();
    let mut statement = tx.conn.prepare_cached(
        "SELECT event, due FROM delivery INDEXED BY delivery_due WHERE target = ?1 AND state > 1 AND state < 4 \
         AND due > ?2 ORDER BY due LIMIT ?3",
    )?;
    let waiting: Vec<(i64, i64)> = statement
        .query_map(params![target, now_ms, SPREAD_MAX], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut update =
        tx.conn.prepare_cached("UPDATE delivery SET due = ?3 WHERE event = ?1 AND target = ?2")?;
    let (span_ms, count) = (i128::from(codes::millis(span)), waiting.len() as i128);
    for (index, (event, due)) in waiting.into_iter().enumerate() {
        let share_ms = i64::try_from(span_ms * index as i128 / count).unwrap_or(i64::MAX);
        let sooner = now_ms.saturating_add(share_ms);
        if sooner < due {
            update.execute([event, target, sooner])?;
        }
    }
    Ok(())
}

/// Leases at most one delivery as a probe of a target whose breaker is open, and puts the next one off by `hold`. Tells
/// how long it is until the next probe, where there is anything left to probe with.
///
/// # Errors
/// Where SQLite fails.
pub fn probe(
    tx: &Tx<'_>, target: &mut Target, basket: &mut Basket, hold: Duration,
) -> Result<Option<Duration>, Fault> {
    let Phase::Open { since, failed_probes, probe_at } = target.breaker.phase else { return Ok(None) };
    let is_time = probe_at <= tx.now;
    basket.leases_max = basket.leases_max.min(1);
    if !is_time || basket.leases_max == 0 {
        return Ok(is_any_left(tx, target)?.then(|| probe_at.since(tx.now)));
    }
    claim::log(tx, target, basket, i64::MAX, Held::Park)?;
    if basket.leases.is_empty()
        && let Some(record) = candidate(tx.conn, target.num)?
    {
        claim::take_known(tx, record, basket)?;
    }
    if basket.leases.is_empty() {
        return Ok(None); // what there is waits for something in flight, whose end rings or is told
    }
    target.breaker.phase = Phase::Open { since, failed_probes, probe_at: tx.now.plus(hold) };
    target.save(tx.conn)?;
    Ok(is_any_left(tx, target)?.then_some(hold))
}

/// The delivery to probe with: one that was never attempted, else the least attempted of the earliest due ones.
fn candidate(conn: &Connection, target: i64) -> Result<Option<Record>, Fault> {
    const QUEUED: &str = concat!(
        "SELECT ",
        columns!(),
        " FROM delivery d INDEXED BY delivery_open WHERE d.target = ?1 AND d.state = 2 AND d.state < 6 \
         ORDER BY d.event LIMIT ?2"
    );
    const EARLIEST: &str = concat!(
        "SELECT ",
        columns!(),
        " FROM delivery d INDEXED BY delivery_due WHERE d.target = ?1 AND d.state > 1 AND d.state < 4 \
         ORDER BY d.due LIMIT ?2"
    );
    let queued = Record::list(conn, QUEUED, params![target, CANDIDATES_MAX])?;
    if let Some(found) = first_free(conn, queued)? {
        return Ok(Some(found));
    }
    let mut earliest = Record::list(conn, EARLIEST, params![target, CANDIDATES_MAX])?;
    earliest.sort_by_key(|record| record.progress.attempts); // stable: among equals the earliest due
    first_free(conn, earliest)
}

/// The first that its lane does not keep from being claimed.
fn first_free(conn: &Connection, records: Vec<Record>) -> Result<Option<Record>, Fault> {
    for record in records {
        if !lanes::is_blocked(conn, &record)? {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

/// Whether there is a delivery that could be attempted, now or later.
fn is_any_left(tx: &Tx<'_>, target: &Target) -> Result<bool, Fault> {
    Ok(tx
        .conn
        .prepare_cached(concat!(
            "SELECT EXISTS (SELECT 1 FROM event WHERE id > ?1 AND ",
            kept!(),
            ") OR EXISTS (SELECT 1 \
             FROM delivery INDEXED BY delivery_due WHERE target = ?2 AND state > 1 AND state < 4)"
        ))?
        .query_row([target.cursor, target.num], |row| row.get(0))?)
}
