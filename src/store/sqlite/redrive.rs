//! Retry, replay and cancel by hand, one bounded step at a time.

use std::time::Duration;

use rusqlite::Connection;

use crate::clock::Timestamp;
use crate::lifecycle::Cause;
use crate::store::query::{Cursor, DeliveryQuery, Redrive, RedriveAction, Redriven};

use super::codes;
use super::fault::Fault;
use super::lanes;
use super::record::Record;
use super::select::{self, Found, From, Place, Selection};
use super::targets::{self, Standing, Target};
use super::writer::Tx;

/// Deliveries that one step changes at most: some 10 ms of the one thread that writes.
const ROWS_MAX: usize = 500;
/// Rows that one step looks at.
const LOOKED_AT_MAX: usize = 2_000;

/// Applies one step.
///
/// # Errors
/// Where SQLite fails; then nothing is changed.
pub fn redrive(tx: &mut Tx<'_>, redrive: &Redrive) -> Result<Redriven, Fault> {
    let (chosen, next) = choose(tx.conn, redrive)?;
    let count = chosen.len();
    // What is moved has changed after `as_of`, even within the same millisecond or where the clock was set back.
    let after = redrive.as_of.map(|as_of| as_of.plus(Duration::from_millis(1)));
    let at = after.map_or(tx.now, |after| after.max(tx.now));
    for (index, chosen) in chosen.into_iter().enumerate() {
        apply(tx, chosen, redrive.action, (at, codes::millis(redrive.share(index, count))))?;
    }
    Ok(Redriven { moved: count as u64, next })
}

/// Counts what one step would change.
///
/// # Errors
/// Where SQLite fails.
pub fn count(conn: &Connection, redrive: &Redrive) -> Result<Redriven, Fault> {
    let (chosen, next) = choose(conn, redrive)?;
    Ok(Redriven { moved: chosen.len() as u64, next })
}

/// What one step changes, and where the next one goes on.
fn choose(conn: &Connection, redrive: &Redrive) -> Result<(Vec<Chosen>, Option<Cursor>), Fault> {
    let event = match redrive.event.map(codes::pack) {
        Some(None) => return Ok((Vec::new(), None)),
        Some(Some(id)) => Some(id),
        None => None,
    };
    let Some(mut query) = redrive.narrowed() else { return Ok((Vec::new(), None)) };
    let log = match redrive.action {
        RedriveAction::Replay if redrive.query.states.is_empty() => named_target(conn, &query)?,
        RedriveAction::Replay | RedriveAction::Retry | RedriveAction::Cancel => None,
    };
    if log.is_some() {
        query.states.clear(); // what has no record has no state; the action is checked below
    }
    let selection = Selection {
        event,
        query: &query,
        from: log.as_ref().map_or(From::Records, |target| From::Log(target.num)),
        below: Place::of(conn, redrive.after.as_ref())?,
        rows_max: (redrive.max as usize).clamp(1, ROWS_MAX),
        looked_at_max: LOOKED_AT_MAX,
        until: None,
    };
    let (found, next) = select::select(conn, &selection)?;
    let chosen = found.into_iter().filter_map(|found| chosen(found, redrive, log.as_ref())).collect();
    Ok((chosen, next.map(|place| select::cursor(conn, place)).transpose()?))
}

/// A replay to one target by name reaches events from before it began, of which it has no record.
fn named_target(conn: &Connection, query: &DeliveryQuery) -> Result<Option<Target>, Fault> {
    let Some(name) = &query.target else { return Ok(None) };
    let found = targets::find(conn, name)?;
    Ok(found.filter(|target| target.standing != Standing::Forgotten))
}

/// A delivery to change, and whether it has a row.
enum Chosen {
    /// It has.
    Known(Record),
    /// Its row must be made.
    New {
        /// Its event.
        event: i64,
        /// Its target.
        target: i64,
        /// The subject that it must not run beside.
        lane: Option<String>,
    },
}

fn chosen(found: Found, redrive: &Redrive, log: Option<&Target>) -> Option<Chosen> {
    match (found.record, log) {
        (Some(record), _) => {
            let is_unchanged = redrive.as_of.is_none_or(|as_of| record.updated <= as_of);
            (is_unchanged && redrive.action.moves().contains(&record.state()))
                .then_some(Chosen::Known(record))
        }
        (None, Some(target)) if found.place.event <= target.cursor => Some(Chosen::New {
            event: found.place.event,
            target: target.num,
            lane: target.lane(&found.event_type, found.subject),
        }),
        // Not reached yet, which comes by itself.
        (None, Some(_) | None) => None,
    }
}

fn apply(
    tx: &mut Tx<'_>, chosen: Chosen, action: RedriveAction, (at, delay_ms): (Timestamp, i64),
) -> Result<(), Fault> {
    let due = tx.now.as_ms().saturating_add(delay_ms);
    match (chosen, action) {
        (Chosen::Known(mut record), RedriveAction::Retry | RedriveAction::Replay) => {
            record.rearm(due, at)?;
            record.save(tx.conn)?;
        }
        (Chosen::Known(mut record), RedriveAction::Cancel) => {
            record.go(Cause::Discarded, at)?;
            record.reason = None;
            record.save(tx.conn)?;
            if let Some(lane) = &record.lane {
                lanes::release(tx, record.target, lane)?;
            }
            return Ok(());
        }
        (
            Chosen::New { event, target, lane },
            RedriveAction::Retry | RedriveAction::Replay | RedriveAction::Cancel,
        ) => {
            let mut record = Record::new(event, target, at, lane)?;
            record.due = due;
            record.progress.retried_at = Some(tx.now);
            record.insert(tx.conn)?;
        }
    }
    tx.notes.ring();
    Ok(())
}
