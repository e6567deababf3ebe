//! The targets' rows: declared, paused, resumed, forgotten. A target's number is never used for another name, and its
//! row is never deleted: history goes on naming it.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::clock::Timestamp;
use crate::event::TargetName;
use crate::lifecycle::breaker::{Breaker, Phase};
use crate::lifecycle::{Cause, Ordering, Start};
use crate::store::query::TargetStatus;
use crate::store::{Control, Controlled, PauseReason, TargetChange, TargetSpec};

use super::breaker;
use super::codes;
use super::fault::Fault;
use super::record::{Record, columns};
use super::writer::Tx;

/// Unfinished deliveries of a forgotten target that one transaction cancels: some 20 ms. Sweeps do the rest.
const CANCEL_MAX: u32 = 2_000;

/// How a target stands to the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// In it.
    Configured,
    /// Gone from it; everything is kept.
    Orphan,
    /// Gone for good; only its history is left.
    Forgotten,
}

impl Standing {
    const ALL: [Self; 3] = [Self::Configured, Self::Orphan, Self::Forgotten];

    const fn code(self) -> i64 {
        match self {
            Self::Configured => 0,
            Self::Orphan => 1,
            Self::Forgotten => 2,
        }
    }
}

/// A target's row.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its number in other tables.
    pub num: i64,
    /// Its name.
    pub name: TargetName,
    /// How it stands to the configuration.
    pub standing: Standing,
    /// Why it is paused, where it is.
    pub paused: Option<PauseReason>,
    /// Whether it is ordered, as of the last claim.
    pub ordering: Ordering,
    /// Types that ordering leaves alone, one a line, as of the last claim.
    pub unordered: String,
    /// The last event of the log that was taken.
    pub cursor: i64,
    /// What the newest event's number exceeds by the backlog. An erased event is in nobody's backlog, reached or not.
    pub passed: i64,
    /// Whether attempts are made.
    pub breaker: Breaker,
}

macro_rules! target_columns {
    () => {
        "num, name, standing, paused, ordering, unordered, cursor, passed, revision, turned, failed_probes, probe_at"
    };
}

impl Target {
    /// Its state as people see it.
    pub fn status(&self) -> TargetStatus {
        match (self.standing, self.paused) {
            (Standing::Orphan | Standing::Forgotten, _) => TargetStatus::Orphan,
            (Standing::Configured, Some(reason)) => TargetStatus::Paused(reason),
            (Standing::Configured, None) => TargetStatus::Active,
        }
    }

    /// The subject as this target's lane, where it orders events of this type.
    pub fn lane(&self, event_type: &str, subject: Option<String>) -> Option<String> {
        match self.ordering {
            Ordering::None => None,
            Ordering::Subject => subject.filter(|_| !self.unordered.lines().any(|line| line == event_type)),
        }
    }

    /// Writes the row back.
    ///
    /// # Errors
    /// Where SQLite fails.
    pub fn save(&self, conn: &Connection) -> rusqlite::Result<()> {
        let (turned, failed_probes, probe_at) = match self.breaker.phase {
            Phase::Closed { since } => (since, 0, None),
            Phase::Open { since, failed_probes, probe_at } => (Some(since), failed_probes, Some(probe_at)),
        };
        conn.prepare_cached(
            "UPDATE target SET standing = ?2, paused = ?3, ordering = ?4, unordered = ?5, cursor = ?6, passed = ?7, \
             revision = ?8, turned = ?9, failed_probes = ?10, probe_at = ?11 WHERE num = ?1",
        )?
        .execute(params![
            self.num,
            self.standing.code(),
            self.paused.map(PauseReason::as_str),
            codes::ordering_code(self.ordering),
            self.unordered,
            self.cursor,
            self.passed,
            i64::try_from(self.breaker.revision).unwrap_or(i64::MAX),
            turned.map(Timestamp::as_ms),
            failed_probes,
            probe_at.map(Timestamp::as_ms),
        ])?;
        Ok(())
    }

    fn read(row: &Row<'_>) -> Result<Self, Fault> {
        let standing: i64 = row.get(2)?;
        Ok(Self {
            num: row.get(0)?,
            name: row.get::<_, String>(1)?.parse().map_err(|_| Fault::Unreadable("name"))?,
            standing: Standing::ALL
                .into_iter()
                .find(|one| one.code() == standing)
                .ok_or(Fault::Unreadable("standing"))?,
            paused: codes::pause(row.get(3)?)?,
            ordering: codes::ordering(row.get(4)?),
            unordered: row.get(5)?,
            cursor: row.get(6)?,
            passed: row.get(7)?,
            breaker: read_breaker(row)?,
        })
    }
}

fn read_breaker(row: &Row<'_>) -> Result<Breaker, Fault> {
    let [turned, probe_at] = [row.get::<_, Option<i64>>(9)?, row.get(11)?];
    let turned = turned.map(Timestamp::from_ms);
    let phase = match probe_at.map(Timestamp::from_ms) {
        None => Phase::Closed { since: turned },
        Some(probe_at) => Phase::Open {
            since: turned.ok_or(Fault::Unreadable("turned"))?,
            failed_probes: row.get(10)?,
            probe_at,
        },
    };
    Ok(Breaker { revision: row.get::<_, i64>(8)?.unsigned_abs(), phase })
}

/// The target of this name, forgotten or not.
///
/// # Errors
/// Where SQLite fails.
pub fn find(conn: &Connection, name: &TargetName) -> Result<Option<Target>, Fault> {
    let sql = concat!("SELECT ", target_columns!(), " FROM target WHERE name = ?1");
    let mut statement = conn.prepare_cached(sql)?;
    statement.query_row([name.as_str()], |row| Ok(Target::read(row))).optional()?.transpose()
}

/// Every target, by name, the forgotten ones included.
///
/// # Errors
/// Where SQLite fails.
pub fn all(conn: &Connection) -> Result<Vec<Target>, Fault> {
    let mut statement =
        conn.prepare_cached(concat!("SELECT ", target_columns!(), " FROM target ORDER BY name"))?;
    let mut rows = statement.query([])?;
    let mut targets = Vec::new();
    while let Some(row) = rows.next()? {
        targets.push(Target::read(row)?);
    }
    Ok(targets)
}

/// Makes the targets those of the configuration.
///
/// # Errors
/// Where SQLite fails.
pub fn declare(tx: &mut Tx<'_>, specs: &[TargetSpec]) -> Result<Vec<TargetChange>, Fault> {
    let mut changes = Vec::new();
    for spec in specs {
        let found = find(tx.conn, &spec.name)?;
        match found {
            Some(Target { standing: Standing::Configured, .. }) => {}
            Some(mut target @ Target { standing: Standing::Orphan, .. }) => {
                target.standing = Standing::Configured;
                target.save(tx.conn)?;
                changes.push(TargetChange::Returned(target.name));
            }
            Some(Target { standing: Standing::Forgotten, num, .. }) => {
                begin(tx, num, spec)?;
                changes.push(TargetChange::Added(spec.name.clone()));
            }
            None => {
                let mut insert = tx.conn.prepare_cached(
                    "INSERT INTO target VALUES (NULL, ?1, 0, NULL, 0, '', 0, 0, 0, NULL, 0, NULL) RETURNING num",
                )?;
                let num = insert.query_row([spec.name.as_str()], |row| row.get(0))?;
                begin(tx, num, spec)?;
                changes.push(TargetChange::Added(spec.name.clone()));
            }
        }
    }
    for mut target in all(tx.conn)? {
        if target.standing == Standing::Configured && specs.iter().all(|spec| spec.name != target.name) {
            target.standing = Standing::Orphan;
            target.save(tx.conn)?;
            changes.push(TargetChange::Orphaned(target.name));
        }
    }
    if !changes.is_empty() {
        tx.notes.ring();
    }
    Ok(changes)
}

fn begin(tx: &mut Tx<'_>, num: i64, spec: &TargetSpec) -> Result<(), Fault> {
    let (cursor, passed) = match spec.start {
        Start::Now => (tx.notes.last_event, tx.notes.last_number),
        Start::Beginning => {
            // The backlog is all that is still kept and was not erased.
            let passed = "SELECT value + (SELECT count(*) FROM erased) FROM meta WHERE key = 'removed'";
            (0, tx.conn.query_row(passed, [], |row| row.get(0))?)
        }
    };
    Target {
        num,
        name: spec.name.clone(),
        standing: Standing::Configured,
        paused: None,
        ordering: Ordering::None,
        unordered: String::new(),
        cursor,
        passed,
        breaker: Breaker::default(),
    }
    .save(tx.conn)?;
    Ok(())
}

/// Pauses, resumes or forgets a target, or turns its breaker.
///
/// # Errors
/// Where SQLite fails.
pub fn control(tx: &mut Tx<'_>, name: &TargetName, control: Control) -> Result<Controlled, Fault> {
    let Some(mut target) = find(tx.conn, name)?.filter(|target| target.standing != Standing::Forgotten)
    else {
        return Ok(Controlled::Refused);
    };
    let paused = match control {
        Control::Pause(reason) => target.paused.or(Some(reason)), // the first reason stays
        Control::Resume => None,
        Control::Forget if target.standing == Standing::Configured => return Ok(Controlled::Refused),
        Control::Forget => {
            target.standing = Standing::Forgotten;
            None
        }
        Control::Turn { from, to } => return breaker::turn(tx, target, from, to),
    };
    if target.paused == paused && target.standing != Standing::Forgotten {
        return Ok(Controlled::Unchanged);
    }
    target.paused = paused;
    target.save(tx.conn)?;
    if target.standing == Standing::Forgotten {
        cancel_forgotten(tx, target.num)?;
    }
    tx.notes.ring();
    Ok(Controlled::Changed)
}

/// Cancels a bounded number of a forgotten target's unfinished deliveries; those in flight end with their settle.
///
/// # Errors
/// Where SQLite fails.
pub fn cancel_forgotten(tx: &mut Tx<'_>, num: i64) -> Result<(), Fault> {
    const SQL: &str = concat!(
        "SELECT ",
        columns!(),
        " FROM delivery d INDEXED BY delivery_open WHERE d.target = ?1 AND d.state IN (2, 3, 4) AND d.state < 6 LIMIT ?2"
    );
    for mut record in Record::list(tx.conn, SQL, params![num, CANCEL_MAX])? {
        record.go(Cause::Discarded, tx.now)?;
        record.save(tx.conn)?;
    }
    Ok(())
}
