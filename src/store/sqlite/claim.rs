//! Claiming: the log beyond the target's cursor and what is due, in turn, as leases. Frames leave here as bytes; they
//! are decoded by whoever asked, not by the one thread that writes.

use std::time::Duration;

use bytes::Bytes;
use rusqlite::{OptionalExtension as _, params};

use crate::clock::Timestamp;
use crate::lifecycle::breaker::{Breaker, Phase};
use crate::lifecycle::{Cause, Ordering, Progress, State};
use crate::store::query::TargetStatus;
use crate::store::{ClaimScope, ClaimWanted, More};

use super::abandoned::{Handover, Key};
use super::breaker;
use super::codes;
use super::erase::kept;
use super::fault::Fault;
use super::lanes;
use super::notes::First;
use super::record::{Record, columns};
use super::targets::{self, Standing, Target};
use super::writer::Tx;

/// Rows that a claim for an ordered target looks at for each lease that it may give: the others are parked or put
/// off, and a claim stays short however many there are.
const LOOKED_AT_PER_LEASE: usize = 4;
/// Leases that one claim gives at most, whatever was asked for.
const LEASES_MAX: usize = 1_024;

/// A lease whose frame is not decoded yet.
#[derive(Debug)]
pub struct RawLease {
    /// Its event.
    pub event: i64,
    /// Its token.
    pub token: i64,
    /// What was attempted before.
    pub progress: Progress,
    /// The event's stored form; `None` where it is lost.
    pub frame: Option<Bytes>,
}

/// What a claim gave.
#[derive(Debug)]
pub struct RawClaim {
    /// The leases.
    pub leases: Vec<RawLease>,
    /// The present.
    pub now: Timestamp,
    /// Until the next one is due, where nothing is ready.
    pub next_due: Option<Duration>,
    /// Whether more is ready.
    pub more: More,
    /// Whether the target takes events.
    pub status: TargetStatus,
    /// Its breaker after this claim.
    pub breaker: Breaker,
}

/// Leases deliveries.
///
/// # Errors
/// Where SQLite fails; then nothing is leased.
pub fn claim(tx: &mut Tx<'_>, wanted: &ClaimWanted) -> Result<Handover<RawClaim>, Fault> {
    let mut basket = Basket {
        token: tx.notes.next_token(),
        leases_max: wanted.leases_max.min(LEASES_MAX),
        bytes_max: wanted.bytes_max,
        leases: Vec::new(),
        bytes: 0,
        filled: false,
    };
    let found =
        targets::find(tx.conn, &wanted.target)?.filter(|target| target.standing != Standing::Forgotten);
    let (mut more, mut next_due, mut num, mut status) = (More::None, None, 0, TargetStatus::Orphan);
    let mut breaker = Breaker::default();
    if let Some(mut target) = found {
        num = target.num;
        status = target.status();
        match (wanted.scope, status) {
            (ClaimScope::Ready, TargetStatus::Paused(_) | TargetStatus::Orphan) => {}
            (ClaimScope::Ready, TargetStatus::Active) => {
                lanes::adopt(tx, &mut target, wanted.ordering, &wanted.unordered_types)?;
                match target.breaker.phase {
                    Phase::Closed { .. } => {
                        ready(tx, &mut target, &mut basket)?;
                        (more, next_due) = what_is_left(tx, &target)?;
                    }
                    Phase::Open { .. } => {
                        next_due = breaker::probe(tx, &mut target, &mut basket, wanted.probe_hold)?;
                    }
                }
            }
            (ClaimScope::OlderThan(age), _) => {
                older_than(tx, &mut target, &mut basket, age)?;
                more = if basket.filled { More::Ready } else { More::None };
            }
        }
        breaker = target.breaker;
    }
    let keys = basket
        .leases
        .iter()
        .map(|lease| Key { event: lease.event, target: num, token: lease.token })
        .collect();
    Ok(Handover::new(
        RawClaim { leases: basket.leases, now: tx.now, next_due, more, status, breaker },
        keys,
        tx.abandoned,
    ))
}

/// The leases taken so far, and their bounds.
pub(super) struct Basket {
    token: i64,
    /// At most so many leases.
    pub(super) leases_max: usize,
    bytes_max: usize,
    /// Those taken.
    pub(super) leases: Vec<RawLease>,
    bytes: usize,
    /// Whether something had to be left because of the bounds.
    filled: bool,
}

impl Basket {
    fn free(&self) -> usize {
        if self.filled { 0 } else { self.leases_max - self.leases.len() }
    }

    /// Whether another lease with such a frame fits; once one does not, nothing more is taken.
    fn fits(&mut self, frame_bytes: usize) -> bool {
        let fits = self.leases.is_empty() || self.bytes + frame_bytes <= self.bytes_max;
        self.filled |= !fits || self.leases.len() >= self.leases_max;
        !self.filled
    }

    /// Moves `record` in flight; the caller writes it.
    fn take(&mut self, record: &mut Record, frame: Option<Bytes>, now: Timestamp) -> Result<(), Fault> {
        if record.state() == State::Parked {
            record.go(Cause::HeadEnded, now)?; // only upkeep takes parked ones, and only to end them
        }
        record.go(Cause::Claimed, now)?;
        record.token = self.token;
        self.bytes += frame.as_ref().map_or(0, Bytes::len);
        self.leases.push(RawLease {
            event: record.event,
            token: self.token,
            progress: record.progress,
            frame,
        });
        Ok(())
    }
}

fn ready(tx: &mut Tx<'_>, target: &mut Target, basket: &mut Basket) -> Result<(), Fault> {
    match tx.notes.take_turn(target.num) {
        First::New => {
            log(tx, target, basket, i64::MAX, Held::Park)?;
            due(tx, target, basket)
        }
        First::Due => {
            due(tx, target, basket)?;
            log(tx, target, basket, i64::MAX, Held::Park)
        }
    }
}

fn what_is_left(tx: &Tx<'_>, target: &Target) -> Result<(More, Option<Duration>), Fault> {
    let unreached: bool = tx
        .conn
        .prepare_cached(concat!("SELECT EXISTS (SELECT 1 FROM event WHERE id > ?1 AND ", kept!(), ")"))?
        .query_row([target.cursor], |row| row.get(0))?;
    let next_due: Option<i64> = tx
        .conn
        .prepare_cached(
            "SELECT due FROM delivery INDEXED BY delivery_due WHERE target = ?1 AND state > 1 AND state < 4 \
             ORDER BY due LIMIT 1",
        )?
        .query_row([target.num], |row| row.get(0))
        .optional()?;
    let wait_ms = next_due.map(|due| due - tx.now.as_ms());
    if unreached || wait_ms.is_some_and(|ms| ms <= 0) {
        return Ok((More::Ready, None));
    }
    Ok((More::None, wait_ms.map(codes::duration)))
}

/// What to do with a new delivery that its lane holds back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// Park it.
    Park,
    /// Lease it all the same: it will not be attempted.
    Take,
}

/// Takes what the cursor has not reached, up to the event `before`.
///
/// # Errors
/// Where SQLite fails.
pub(super) fn log(
    tx: &Tx<'_>, target: &mut Target, basket: &mut Basket, before: i64, held: Held,
) -> Result<(), Fault> {
    let (cursor, looked_at_max) = (target.cursor, looked_at_max(target, basket));
    let mut statement = tx.conn.prepare_cached(concat!(
        "SELECT id, frame, type, subject FROM event WHERE id > ?1 AND id < ?2 AND ",
        kept!(),
        " ORDER BY id LIMIT ?3"
    ))?;
    let mut rows = statement.query(params![cursor, before, looked_at_max])?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        let frame = row.get_ref(1)?.as_blob().map_err(|_| Fault::Unreadable("frame"))?;
        let lane = match target.ordering {
            Ordering::None => None,
            Ordering::Subject => target.lane(&row.get::<_, String>(2)?, row.get(3)?),
        };
        let parked = match &lane {
            Some(lane) if held == Held::Park => lanes::is_held(tx.conn, target.num, lane)?,
            Some(_) | None => false,
        };
        let mut record = Record::new(id, target.num, tx.now, lane)?;
        if parked {
            record.go(Cause::HeldBySubject, tx.now)?;
            insert(tx, record)?;
        } else {
            if !basket.fits(frame.len()) {
                break;
            }
            take_new(tx, record, Bytes::copy_from_slice(frame), basket)?;
        }
        target.cursor = id;
        target.passed += 1;
    }
    if target.cursor != cursor {
        tx.conn.prepare_cached("UPDATE target SET cursor = ?2, passed = ?3 WHERE num = ?1")?.execute([
            target.num,
            target.cursor,
            target.passed,
        ])?;
    }
    Ok(())
}

fn looked_at_max(target: &Target, basket: &Basket) -> i64 {
    let rows = match target.ordering {
        Ordering::None => basket.free(),
        Ordering::Subject => basket.free() * LOOKED_AT_PER_LEASE,
    };
    rows as i64 // a few thousand at most
}

fn take_new(tx: &Tx<'_>, record: Record, frame: Bytes, basket: &mut Basket) -> Result<(), Fault> {
    let before = record.clone();
    let mut taken = record;
    basket.take(&mut taken, Some(frame), tx.now)?;
    match taken.insert(tx.conn) {
        Ok(()) => Ok(()),
        Err(error) if is_there_already(&error) => take_again(tx, &before, basket),
        Err(error) => Err(error.into()),
    }
}

/// A target that was forgotten and came back meets its own history: what had ended begins again.
fn take_again(tx: &Tx<'_>, new: &Record, basket: &mut Basket) -> Result<(), Fault> {
    let lease = basket.leases.pop();
    let found = Record::load(tx.conn, new.event, new.target)?;
    let (Some(lease), Some(mut record)) = (lease, found) else { return Err(Fault::Unreadable("delivery")) };
    basket.bytes -= lease.frame.as_ref().map_or(0, Bytes::len);
    if record.state().is_ended() {
        record.rearm(tx.now.as_ms(), tx.now)?;
        record.lane.clone_from(&new.lane);
        basket.take(&mut record, lease.frame, tx.now)?;
        record.save(tx.conn)?;
    }
    Ok(())
}

fn insert(tx: &Tx<'_>, record: Record) -> Result<(), Fault> {
    match record.insert(tx.conn) {
        Err(error) if is_there_already(&error) => {
            let found = Record::load(tx.conn, record.event, record.target)?;
            let Some(mut old) = found.filter(|old| old.state().is_ended()) else { return Ok(()) };
            old.rearm(tx.now.as_ms(), tx.now)?;
            old.lane = record.lane;
            Ok(old.save(tx.conn)?)
        }
        other => Ok(other?),
    }
}

fn is_there_already(error: &rusqlite::Error) -> bool {
    error.sqlite_extended_error_code() == Some(rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY)
}

/// Takes what is due, in the order of due times.
fn due(tx: &Tx<'_>, target: &Target, basket: &mut Basket) -> Result<(), Fault> {
    const SQL: &str = concat!(
        "SELECT ",
        columns!(),
        " FROM delivery d INDEXED BY delivery_due WHERE d.target = ?1 AND d.state > 1 AND d.state < 4 AND d.due <= ?2 \
         ORDER BY d.due LIMIT ?3"
    );
    let found = Record::list(tx.conn, SQL, [target.num, tx.now.as_ms(), looked_at_max(target, basket)])?;
    for record in found {
        if lanes::is_blocked(tx.conn, &record)? {
            lanes::look_again_later(tx, record)?;
        } else if !take_known(tx, record, basket)? {
            break;
        }
    }
    Ok(())
}

/// Takes what is older than `age`, ready or not.
fn older_than(tx: &Tx<'_>, target: &mut Target, basket: &mut Basket, age: Duration) -> Result<(), Fault> {
    const SQL: &str = concat!(
        "SELECT ",
        columns!(),
        " FROM delivery d INDEXED BY delivery_open WHERE d.target = ?1 AND d.state IN (2, 3, 4) AND d.state < 6 \
         AND d.event < ?2 AND (d.retried_at IS NULL OR d.retried_at < ?3) LIMIT ?4"
    );
    let cutoff = tx.now.minus(age);
    let before = codes::first_at(cutoff);
    // One more than fits tells whether there is more.
    let looked_at_max = basket.free() as i64 + 1;
    for record in Record::list(tx.conn, SQL, [target.num, before, cutoff.as_ms(), looked_at_max])? {
        if !take_known(tx, record, basket)? {
            return Ok(());
        }
    }
    log(tx, target, basket, before, Held::Take)?;
    let unreached: bool = tx
        .conn
        .prepare_cached(concat!(
            "SELECT EXISTS (SELECT 1 FROM event WHERE id > ?1 AND id < ?2 AND ",
            kept!(),
            ")"
        ))?
        .query_row([target.cursor, before], |row| row.get(0))?;
    basket.filled |= unreached;
    Ok(())
}

/// Leases `record`, unless its frame does not fit any more; tells whether it did.
///
/// # Errors
/// Where SQLite fails.
pub(super) fn take_known(tx: &Tx<'_>, mut record: Record, basket: &mut Basket) -> Result<bool, Fault> {
    let frame = tx
        .conn
        .prepare_cached("SELECT frame FROM event WHERE id = ?1")?
        .query_row([record.event], |row| row.get::<_, Vec<u8>>(0))
        .optional()?
        .map(Bytes::from);
    if !basket.fits(frame.as_ref().map_or(0, Bytes::len)) {
        return Ok(false);
    }
    basket.take(&mut record, frame, tx.now)?;
    record.save(tx.conn)?;
    Ok(true)
}
