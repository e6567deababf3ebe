//! The tallies in SQLite: one row for each minute, source or target, and counter.

use std::time::Duration;

use rusqlite::{Connection, params};

use crate::clock::Timestamp;
use crate::store::ledger::TALLY_MINUTES_KEPT;
use crate::telemetry::tally::{Tally, minute_of};

use super::fault::Fault;
use super::writer::Tx;

/// The first minute that is kept at `now`.
fn first_kept(now: Timestamp) -> Timestamp {
    minute_of(now).minus(Duration::from_secs(60) * TALLY_MINUTES_KEPT)
}

/// Adds to what is there, and drops what is too old.
///
/// # Errors
/// Where SQLite fails.
pub fn add(tx: &Tx<'_>, tallies: &[Tally]) -> Result<(), Fault> {
    let mut add = tx.conn.prepare_cached(
        "INSERT INTO tally VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT (minute, of, counter) DO UPDATE SET count = count + excluded.count",
    )?;
    for tally in tallies {
        let count = i64::try_from(tally.count).unwrap_or(i64::MAX);
        let of = tally.of.to_string();
        add.execute(params![minute_of(tally.minute).as_ms(), of, tally.counter.as_str(), count])?;
    }
    tx.conn.prepare_cached("DELETE FROM tally WHERE minute < ?1")?.execute([first_kept(tx.now).as_ms()])?;
    Ok(())
}

/// The sums of every minute that began at or after `since` and is still kept at `now`.
///
/// # Errors
/// Where SQLite fails.
pub fn since(conn: &Connection, since: Timestamp, now: Timestamp) -> Result<Vec<Tally>, Fault> {
    let mut statement =
        conn.prepare_cached("SELECT minute, of, counter, count FROM tally WHERE minute >= ?1")?;
    let mut rows = statement.query([since.max(first_kept(now)).as_ms()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        // Another release may have counted what this one does not know.
        let (Ok(of), Ok(counter)) = (row.get::<_, String>(1)?.parse(), row.get::<_, String>(2)?.parse())
        else {
            continue;
        };
        let count = u64::try_from(row.get::<_, i64>(3)?).unwrap_or_default();
        found.push(Tally { minute: Timestamp::from_ms(row.get(0)?), of, counter, count });
    }
    Ok(found)
}
