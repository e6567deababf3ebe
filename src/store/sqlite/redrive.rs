//! Retry, replay and cancel by hand, one bounded step at a time.

use crate::lifecycle::Cause;
use crate::store::query::{DeliveryQuery, Payload, Redrive, RedriveAction, Redriven};

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
    let none = Redriven { moved: 0, next: None };
    let event = match redrive.event.map(codes::pack) {
        Some(None) => return Ok(none),
        Some(Some(id)) => Some(id),
        None => None,
    };
    let Some(mut query) = redrive.narrowed() else { return Ok(none) };
    let log = match redrive.action {
        RedriveAction::Replay if redrive.query.states.is_empty() => named_target(tx, &query)?,
        RedriveAction::Replay | RedriveAction::Retry | RedriveAction::Cancel => None,
    };
    if log.is_some() {
        query.states.clear(); // what has no record has no state; the action is checked below
    }
    let selection = Selection {
        event,
        query: &query,
        from: log.as_ref().map_or(From::Records, |target| From::Log(target.num)),
        below: Place::of(tx.conn, redrive.after.as_ref())?,
        rows_max: (redrive.max as usize).clamp(1, ROWS_MAX),
        looked_at_max: LOOKED_AT_MAX,
    };
    let (found, next) = select::select(tx.conn, &selection)?;
    let mut moved = Vec::new();
    for one in found {
        moved.extend(chosen(one, redrive.action, log.as_ref(), tx)?);
    }
    let count = moved.len();
    for (index, chosen) in moved.into_iter().enumerate() {
        apply(tx, chosen, redrive.action, codes::millis(redrive.share(index, count)))?;
    }
    let next = next.map(|place| select::cursor(tx.conn, place)).transpose()?;
    Ok(Redriven { moved: count as u64, next })
}

/// A replay to one target by name reaches events from before it began, of which it has no record.
fn named_target(tx: &Tx<'_>, query: &DeliveryQuery) -> Result<Option<Target>, Fault> {
    let Some(name) = &query.target else { return Ok(None) };
    let found = targets::find(tx.conn, name)?;
    Ok(found.filter(|target| target.standing != Standing::Forgotten))
}

/// A delivery to change, and whether it has a row.
enum Chosen {
    /// It has.
    Known(Record),
    /// Its row must be made.
    New(Record),
}

fn chosen(
    found: Found, action: RedriveAction, log: Option<&Target>, tx: &Tx<'_>,
) -> Result<Option<Chosen>, Fault> {
    if found.payload == Payload::Erased {
        return Ok(None); // there is nothing left to send, and nothing unfinished
    }
    match (found.record, log) {
        (Some(record), _) if action.moves().contains(&record.state()) => Ok(Some(Chosen::Known(record))),
        (None, Some(target)) if found.place.event <= target.cursor => {
            let lane = target.lane(&found.event_type, found.subject);
            Ok(Some(Chosen::New(Record::new(found.place.event, target.num, tx.now, lane)?)))
        }
        // In flight or unfinished, which no replay touches, or not reached yet, which comes by itself.
        (Some(_) | None, Some(_) | None) => Ok(None),
    }
}

fn apply(tx: &mut Tx<'_>, chosen: Chosen, action: RedriveAction, delay_ms: i64) -> Result<(), Fault> {
    let due = tx.now.as_ms().saturating_add(delay_ms);
    match (chosen, action) {
        (Chosen::Known(mut record), RedriveAction::Retry | RedriveAction::Replay) => {
            record.rearm(due, tx.now)?;
            record.save(tx.conn)?;
        }
        (Chosen::Known(mut record), RedriveAction::Cancel) => {
            record.go(Cause::Discarded, tx.now)?;
            record.reason = None;
            record.save(tx.conn)?;
            if let Some(lane) = &record.lane {
                lanes::release(tx, record.target, lane)?;
            }
            return Ok(());
        }
        (Chosen::New(mut record), RedriveAction::Retry | RedriveAction::Replay | RedriveAction::Cancel) => {
            record.due = due;
            record.progress.retried_at = Some(tx.now);
            record.insert(tx.conn)?;
        }
    }
    tx.notes.ring();
    Ok(())
}
