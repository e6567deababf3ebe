//! Settling: one decided transition, under its lease, as one step with everything that follows from it.

use rusqlite::params;

use crate::event::TargetName;
use crate::lifecycle::attempt::Attempt;
use crate::lifecycle::{Cause, State, TakenOver, Transition};
use crate::store::Settled;

use super::attempts;
use super::codes;
use super::fault::Fault;
use super::lanes;
use super::record::Record;
use super::targets::{self, Standing};
use super::writer::Tx;

/// A lease as it comes back.
#[derive(Debug, Clone)]
pub struct Returned {
    /// Its target.
    pub target: TargetName,
    /// Its event.
    pub event: i64,
    /// Its token.
    pub token: i64,
}

/// Applies `transition`, and keeps `attempt` where it counts.
///
/// # Errors
/// Where SQLite fails; a lease that is not held any more is no error.
pub fn settle(
    tx: &mut Tx<'_>, lease: &Returned, transition: Transition, attempt: Option<&Attempt>,
) -> Result<Settled, Fault> {
    let Some(target) = targets::find(tx.conn, &lease.target)? else { return Ok(Settled::Lost) };
    let found = Record::load(tx.conn, lease.event, target.num)?;
    let held = found.filter(|record| record.state() == State::InFlight && record.token == lease.token);
    let Some(mut record) = held else { return Ok(Settled::Lost) };

    // Whether it was ever attempted tells queued from waiting, not whether it was since the last retry.
    let attempts_before = record.progress.attempts_total;
    if transition.counts() {
        count(tx, &mut record, transition, attempt)?;
    }
    record.go(transition.cause(attempts_before), tx.now)?;
    record.token = 0;
    record.progress.taken_over = TakenOver::No;
    follow(tx, &mut record, transition)?;
    if target.standing == Standing::Forgotten && !record.state().is_ended() {
        record.go(Cause::Discarded, tx.now)?; // nobody will ever claim it again
    }
    record.save(tx.conn)?;

    if !record.state().is_ended() {
        if record.due <= tx.now.as_ms() {
            tx.notes.ring();
        }
    } else if let Some(lane) = &record.lane {
        lanes::release(tx, target.num, lane)?;
    }
    Ok(Settled::Done)
}

fn count(
    tx: &Tx<'_>, record: &mut Record, transition: Transition, attempt: Option<&Attempt>,
) -> Result<(), Fault> {
    let at = attempt.map_or(tx.now, |attempt| attempt.at);
    record.progress.attempts = record.progress.attempts.saturating_add(1);
    record.progress.attempts_total = record.progress.attempts_total.saturating_add(1);
    record.progress.first_attempt_at.get_or_insert(at);
    let Some(attempt) = attempt else { return Ok(()) };
    if transition == Transition::Deliver && record.progress.attempts_total == 1 {
        record.only = Some(attempts::only(attempt));
    } else {
        attempts::add(tx.conn, record, attempt)?;
    }
    record.status = attempt.status;
    record.error = attempt.error;
    record.hint = attempt.hint;
    Ok(())
}

/// When it is due, or why it ended.
fn follow(tx: &Tx<'_>, record: &mut Record, transition: Transition) -> Result<(), Fault> {
    let now_ms = tx.now.as_ms();
    record.reason = None;
    match transition {
        Transition::Deliver => {}
        Transition::Wait { after } | Transition::Postpone { after } => {
            record.due = now_ms.saturating_add(codes::millis(after));
        }
        Transition::Return => record.due = now_ms,
        Transition::Skip(reason) => record.reason = Some(reason.as_str().to_owned()),
        Transition::Die(reason) => {
            record.reason = Some(reason.as_str().to_owned());
            keep_mark(tx, record.event)?;
        }
    }
    Ok(())
}

/// A dead letter's event is kept longer than others, so it must be known for a duplicate as long.
fn keep_mark(tx: &Tx<'_>, event: i64) -> Result<(), Fault> {
    let until = tx.now.as_ms().saturating_add(tx.rules.dead_letter_retention_ms);
    tx.conn
        .prepare_cached(
            "UPDATE mark SET expires = max(expires, ?2) WHERE event = ?1 \
             AND (svix_id, source) = (SELECT svix_id, source FROM event WHERE id = ?1)",
        )?
        .execute(params![event, until])?;
    Ok(())
}
