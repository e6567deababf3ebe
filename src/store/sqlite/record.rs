//! One row of the delivery table as a value: read, moved along an arrow, written back. Every change of a delivery's
//! state goes through [`Record::go`], so that no arrow can be drawn outside `lifecycle`.

use rusqlite::{Connection, OptionalExtension as _, Params, Row, params};

use crate::clock::Timestamp;
use crate::lifecycle::attempt::{ErrorClass, ReplyRead};
use crate::lifecycle::hint::Hint;
use crate::lifecycle::{Cause, Progress, State, TakenOver};

use super::codes;
use super::fault::Fault;

/// A delivery that has a row.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its event's row id.
    pub event: i64,
    /// Its target's number.
    pub target: i64,
    /// Where it is; moved only by [`Record::go`].
    state: State,
    /// The lease that holds it, else 0.
    pub token: i64,
    /// When it may be claimed, in ms since 1970.
    pub due: i64,
    /// When its state last changed.
    pub updated: Timestamp,
    /// The subject that it must not run beside.
    pub lane: Option<String>,
    /// What was attempted.
    pub progress: Progress,
    /// Why it is dead or skipped.
    pub reason: Option<String>,
    /// The last reply's status.
    pub status: Option<u16>,
    /// What kept the last attempt from success.
    pub error: Option<ErrorClass>,
    /// What the last attempt looks like.
    pub hint: Option<Hint>,
    /// Its one attempt, where that succeeded at once.
    pub only: Option<Only>,
}

/// The one attempt of a delivery that succeeded at once; its status is the record's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Only {
    /// When it began.
    pub at: Timestamp,
    /// How long it took.
    pub took_ms: i64,
    /// Whether the reply was read to its end.
    pub reply_read: ReplyRead,
}

/// The columns that [`Record::read`] expects, in its order, of the table or alias `d`.
macro_rules! columns {
    () => {
        "d.event, d.target, d.state, d.token, d.due, d.updated, d.lane, d.attempts, d.attempts_total, \
         d.first_attempt_at, d.retried_at, d.takeovers, d.taken_over, d.reason, d.status, d.error, \
         d.only_at, d.only_ms, d.only_read, d.hint"
    };
}
pub(super) use columns;
/// How many they are.
pub const COLUMN_COUNT: usize = 20;

impl Record {
    /// A delivery that leaves the log: stored before, in no row until now.
    ///
    /// # Errors
    /// Never: the arrow exists.
    pub fn new(event: i64, target: i64, now: Timestamp, lane: Option<String>) -> Result<Self, Fault> {
        Ok(Self {
            event,
            target,
            state: codes::next(None, Cause::Stored)?,
            token: 0,
            due: 0,
            updated: now,
            lane,
            progress: Progress::default(),
            reason: None,
            status: None,
            error: None,
            hint: None,
            only: None,
        })
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// Follows the arrow of `cause`.
    ///
    /// # Errors
    /// Where there is none.
    pub fn go(&mut self, cause: Cause, now: Timestamp) -> Result<(), Fault> {
        self.state = codes::next(Some(self.state), cause)?;
        self.updated = now;
        Ok(())
    }

    /// The record of this delivery, where it has one.
    ///
    /// # Errors
    /// Where SQLite fails or the row cannot be understood.
    pub fn load(conn: &Connection, event: i64, target: i64) -> Result<Option<Self>, Fault> {
        let sql = concat!("SELECT ", columns!(), " FROM delivery d WHERE d.event = ?1 AND d.target = ?2");
        let mut statement = conn.prepare_cached(sql)?;
        let found = statement.query_row([event, target], |row| Ok(Self::read(row, 0))).optional()?;
        found.transpose()
    }

    /// The records that `sql` selects, read whole: changing one under a reading statement would move the others.
    ///
    /// # Errors
    /// Where SQLite fails or a row cannot be understood.
    pub fn list(conn: &Connection, sql: &str, params: impl Params) -> Result<Vec<Self>, Fault> {
        let mut statement = conn.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(Self::read(row, 0)?);
        }
        Ok(found)
    }

    /// The record in `row`, its columns beginning at `at`.
    ///
    /// # Errors
    /// Where a value is none of ours.
    pub fn read(row: &Row<'_>, at: usize) -> Result<Self, Fault> {
        let moment = |index: usize| -> rusqlite::Result<Option<Timestamp>> {
            Ok(row.get::<_, Option<i64>>(at + index)?.map(Timestamp::from_ms))
        };
        let only = match (moment(16)?, row.get(at + 17)?, row.get(at + 18)?) {
            (Some(at), Some(took_ms), Some(read)) => {
                Some(Only { at, took_ms, reply_read: codes::reply_read(read) })
            }
            (Some(_) | None, Some(_) | None, Some(_) | None) => None,
        };
        Ok(Self {
            event: row.get(at)?,
            target: row.get(at + 1)?,
            state: codes::state(row.get(at + 2)?)?,
            token: row.get(at + 3)?,
            due: row.get(at + 4)?,
            updated: Timestamp::from_ms(row.get(at + 5)?),
            lane: row.get(at + 6)?,
            progress: Progress {
                attempts: row.get(at + 7)?,
                attempts_total: row.get(at + 8)?,
                first_attempt_at: moment(9)?,
                retried_at: moment(10)?,
                takeovers: row.get(at + 11)?,
                taken_over: codes::taken_over(row.get(at + 12)?),
            },
            reason: row.get(at + 13)?,
            status: row.get(at + 14)?,
            error: codes::error_class(row.get(at + 15)?)?,
            hint: codes::hint(row.get(at + 19)?),
            only,
        })
    }

    /// Writes a delivery that has no row yet.
    ///
    /// # Errors
    /// Where SQLite fails, or where there is one already.
    pub fn insert(&self, conn: &Connection) -> rusqlite::Result<()> {
        let sql = "INSERT INTO delivery VALUES \
             (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)";
        self.write(conn, sql)
    }

    /// Writes the row back.
    ///
    /// # Errors
    /// Where SQLite fails.
    pub fn save(&self, conn: &Connection) -> rusqlite::Result<()> {
        let sql = "UPDATE delivery SET state = ?3, token = ?4, due = ?5, updated = ?6, lane = ?7, attempts = ?8, \
             attempts_total = ?9, first_attempt_at = ?10, retried_at = ?11, takeovers = ?12, taken_over = ?13, \
             reason = ?14, status = ?15, error = ?16, only_at = ?17, only_ms = ?18, only_read = ?19, hint = ?20 \
             WHERE event = ?1 AND target = ?2";
        self.write(conn, sql)
    }

    fn write(&self, conn: &Connection, sql: &str) -> rusqlite::Result<()> {
        let Progress { attempts, attempts_total, first_attempt_at, retried_at, takeovers, taken_over } =
            self.progress;
        conn.prepare_cached(sql)?.execute(params![
            self.event,
            self.target,
            codes::state_code(self.state),
            self.token,
            self.due,
            self.updated.as_ms(),
            self.lane,
            attempts,
            attempts_total,
            first_attempt_at.map(Timestamp::as_ms),
            retried_at.map(Timestamp::as_ms),
            takeovers,
            codes::taken_over_code(taken_over),
            self.reason,
            self.status,
            self.error.map(ErrorClass::as_str),
            self.only.map(|only| only.at.as_ms()),
            self.only.map(|only| only.took_ms),
            self.only.map(|only| codes::reply_read_code(only.reply_read)),
            self.hint.map(Hint::as_str),
        ])?;
        Ok(())
    }

    /// Starts the budget again and makes it due: what an operator's retry or replay does.
    ///
    /// # Errors
    /// Where no such arrow leaves its state.
    pub fn rearm(&mut self, due: i64, now: Timestamp) -> Result<(), Fault> {
        self.go(Cause::Retried, now)?;
        self.due = due;
        self.reason = None;
        self.progress.attempts = 0;
        self.progress.first_attempt_at = None;
        self.progress.retried_at = Some(now);
        self.progress.taken_over = TakenOver::No;
        Ok(())
    }

    /// Gives the lease back as if it had not been: the delivery is ready at once, and nothing is counted.
    ///
    /// # Errors
    /// Where it is not in flight.
    pub fn give_back(&mut self, now: Timestamp) -> Result<(), Fault> {
        let untried = self.progress.attempts_total == 0;
        self.go(if untried { Cause::ReturnedUntried } else { Cause::Returned }, now)?;
        self.token = 0;
        self.due = now.as_ms();
        Ok(())
    }
}
