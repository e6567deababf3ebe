//! The tables, and how a connection to them is set up. Knows nothing of what the rows mean to the relay.
//!
//! A delivery has a row only once it was claimed, parked or asked for by hand; until then it is just an event that the
//! target's cursor has not reached. Happy deliveries touch two of the indexes; the others hold only exceptions.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _};

use super::OpenError;

/// The form of the tables that this release reads and writes.
const SCHEMA: i64 = 2;
/// Tells our files from other programs' databases: `clrk`.
const APPLICATION_ID: i64 = 0x636C_726B;
/// The first SQLite without the bug that could lose commits when a WAL was reset (3.7.0 to 3.51.2).
const SQLITE_VERSION_MIN: i32 = 3_051_003;
/// Prepared statements kept for each connection: more than there are texts of them.
const STATEMENTS_KEPT: usize = 256;
/// How long opening may look for damage. A small store is read whole; a large one would keep Clerk waiting.
const CHECK_TIME_MAX: Duration = Duration::from_millis(500);
/// Another program, such as the sqlite3 shell, may hold a lock for a moment; we are the only ones who write.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// SQLite's steps between two looks at the clock: well under a millisecond.
pub const STEPS_PER_LOOK: i32 = 1_000;

const TABLES: &str = "
CREATE TABLE meta(
  key TEXT PRIMARY KEY, -- schema; epoch (boots); last_event; removed (events ever removed)
  value INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE event(
  id INTEGER PRIMARY KEY,       -- milliseconds << 20 | sequence, strictly increasing
  number INTEGER NOT NULL,      -- events ever accepted, this one included: makes backlogs countable by subtraction
  source TEXT NOT NULL,
  svix_id TEXT NOT NULL,
  type TEXT NOT NULL,
  subject TEXT,
  body_bytes INTEGER NOT NULL,
  frame BLOB NOT NULL           -- last, so that listing never reads it
) STRICT;
CREATE INDEX event_type ON event(type);
CREATE INDEX event_subject ON event(subject) WHERE subject IS NOT NULL;

CREATE TABLE mark(              -- svix ids are made in order of time, so inserts stay at one end
  svix_id TEXT NOT NULL,
  source TEXT NOT NULL,
  event INTEGER NOT NULL,
  secret INTEGER NOT NULL,
  body_hash INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  PRIMARY KEY(svix_id, source)) STRICT, WITHOUT ROWID;
CREATE INDEX mark_expires ON mark(expires);

CREATE TABLE target(
  num INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  standing INTEGER NOT NULL,    -- 0 configured, 1 orphan, 2 forgotten
  paused TEXT,
  ordering INTEGER NOT NULL,    -- as of the last claim
  unordered TEXT NOT NULL,      -- types that ordering leaves alone, one a line, as of the last claim
  cursor INTEGER NOT NULL,      -- the last event of the log that was taken
  passed INTEGER NOT NULL,      -- event.number minus the backlog: `queued` is the newest number minus this
  revision INTEGER NOT NULL,    -- of the breaker
  turned INTEGER,               -- when the breaker opened or, where it is closed, when it closed; NULL: it never opened
  failed_probes INTEGER NOT NULL,
  probe_at INTEGER              -- no probe before this; NULL while the breaker is closed
) STRICT;

CREATE TABLE delivery(
  event INTEGER NOT NULL,
  target INTEGER NOT NULL,
  state INTEGER NOT NULL,       -- 1 in_flight 2 queued 3 waiting 4 parked 5 dead 6 delivered 7 skipped 8 cancelled
  token INTEGER NOT NULL,       -- of the lease that holds it, else 0
  due INTEGER NOT NULL,
  updated INTEGER NOT NULL,
  lane TEXT,                    -- the subject, where the target is ordered and the type is
  attempts INTEGER NOT NULL,
  attempts_total INTEGER NOT NULL,
  first_attempt_at INTEGER,
  retried_at INTEGER,
  takeovers INTEGER NOT NULL,
  taken_over INTEGER NOT NULL,
  reason TEXT,
  status INTEGER,
  error TEXT,
  only_at INTEGER,              -- the one attempt of a delivery that succeeded at once
  only_ms INTEGER,
  only_read INTEGER,
  hint TEXT,                    -- what the last attempt looks like, where that is known
  PRIMARY KEY(event, target)) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_open ON delivery(target, state, event) WHERE state < 6;
CREATE INDEX delivery_due ON delivery(target, due) WHERE state > 1 AND state < 4;
CREATE INDEX delivery_dead ON delivery(updated) WHERE state = 5;
CREATE INDEX delivery_lane ON delivery(target, lane, state, event) WHERE lane IS NOT NULL AND state < 5;

CREATE TABLE attempt(           -- of deliveries that did not succeed at once
  event INTEGER NOT NULL,
  target INTEGER NOT NULL,
  number INTEGER NOT NULL,
  at INTEGER NOT NULL,
  took_ms INTEGER NOT NULL,
  status INTEGER,
  error TEXT,
  reply_read INTEGER NOT NULL,
  reply BLOB NOT NULL,
  hint TEXT,                    -- what it looks like, where that is known
  PRIMARY KEY(event, target, number)) STRICT, WITHOUT ROWID;

CREATE TABLE refusal(
  number INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  source TEXT,
  status INTEGER NOT NULL,
  code TEXT NOT NULL,
  cause TEXT NOT NULL,
  remote TEXT,
  svix_id TEXT,
  user_agent TEXT,
  body_bytes INTEGER NOT NULL) STRICT;

INSERT INTO meta VALUES ('epoch', 0), ('last_event', 0), ('removed', 0);
";

/// What form 2 added.
const LEDGER: &str = "
CREATE TABLE audit(             -- what operators did
  number INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  object TEXT NOT NULL,
  detail TEXT NOT NULL) STRICT;

CREATE TABLE job(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  revision INTEGER NOT NULL,
  doc TEXT NOT NULL             -- JSON
) STRICT;

CREATE TABLE tally(             -- small counts of the last minutes
  minute INTEGER NOT NULL,
  of TEXT NOT NULL,             -- s:<source> or t:<target>
  counter TEXT NOT NULL,
  count INTEGER NOT NULL,
  PRIMARY KEY(minute, of, counter)) STRICT, WITHOUT ROWID;

CREATE INDEX event_source ON event(source);

CREATE TABLE erased(            -- events whose payload an operator erased
  event INTEGER PRIMARY KEY,
  at INTEGER NOT NULL) STRICT;

CREATE TABLE attempt_again(     -- empty, but while the attempts are written anew
  event INTEGER NOT NULL,
  target INTEGER NOT NULL,
  number INTEGER NOT NULL,
  at INTEGER NOT NULL,
  took_ms INTEGER NOT NULL,
  status INTEGER,
  error TEXT,
  reply_read INTEGER NOT NULL,
  reply BLOB NOT NULL,
  hint TEXT,
  PRIMARY KEY(event, target, number)) STRICT, WITHOUT ROWID;
";

/// From form 1, in one transaction.
const FROM_1: &str = "
ALTER TABLE attempt ADD COLUMN hint TEXT;
ALTER TABLE delivery ADD COLUMN hint TEXT;
DROP INDEX delivery_held; -- that of what is open serves its lists as well
";

/// Opens the connection that writes, makes the tables where the file is new, and refuses what this release cannot use.
///
/// # Errors
/// [`OpenError`] where the file is of a newer release, of another program, or damaged.
pub fn open_writer(path: &Path, max_page_count: Option<u32>) -> Result<Connection, OpenError> {
    if rusqlite::version_number() < SQLITE_VERSION_MIN {
        return Err(OpenError::TooOldSqlite(rusqlite::version()));
    }
    let mut conn = connect(path)?;
    let tables: i64 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables > 0 {
        check(&mut conn)?;
    } else {
        conn.execute_batch("PRAGMA page_size = 8192; PRAGMA auto_vacuum = INCREMENTAL;")?; // only a new file takes them
    }
    // Commits reach the disk before they are confirmed; NORMAL would lose the last ones with the power. 16 MiB hold the
    // ends of all indexes and the pages of a few transactions. What is deleted is overwritten: it costs nothing that can
    // be measured (docs/decisions/0012).
    conn.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -16384; PRAGMA secure_delete = ON;",
    )?;
    if tables == 0 {
        let transaction = conn.transaction()?;
        transaction.execute_batch(TABLES)?;
        transaction.execute_batch(LEDGER)?;
        transaction.execute("INSERT INTO meta VALUES ('schema', ?1)", [SCHEMA])?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.commit()?;
    }
    if let Some(pages) = max_page_count {
        conn.pragma_update(None, "max_page_count", pages)?;
    }
    Ok(conn)
}

/// Opens a connection that can only look.
///
/// # Errors
/// Where SQLite cannot open it.
pub fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let conn = connect(path)?;
    conn.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -2048")?;
    Ok(conn)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let conn = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    conn.execute_batch(
        "PRAGMA foreign_keys = OFF; -- none are declared
         PRAGMA mmap_size = 0; -- a failing disk must be an error, not a signal
         PRAGMA temp_store = MEMORY;
         PRAGMA trusted_schema = OFF;
         PRAGMA journal_size_limit = 67108864;
         PRAGMA wal_autocheckpoint = 0; -- the writer thread does it after it has answered",
    )?;
    Ok(conn)
}

fn check(conn: &mut Connection) -> Result<(), OpenError> {
    let application: i64 = conn.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    if application != APPLICATION_ID {
        return Err(OpenError::Foreign);
    }
    let found: Option<i64> =
        conn.query_row("SELECT value FROM meta WHERE key = 'schema'", [], |row| row.get(0)).optional()?;
    match found {
        Some(SCHEMA) => {}
        Some(1) => {
            let transaction = conn.transaction()?;
            transaction.execute_batch(FROM_1)?;
            transaction.execute_batch(LEDGER)?;
            transaction.execute("UPDATE meta SET value = ?1 WHERE key = 'schema'", [SCHEMA])?;
            transaction.commit()?;
        }
        Some(found) => return Err(OpenError::TooNew { found, known: SCHEMA }),
        None => return Err(OpenError::Corrupt("it does not tell its own form".into())),
    }
    let until = Instant::now() + CHECK_TIME_MAX;
    conn.progress_handler(STEPS_PER_LOOK, Some(move || Instant::now() > until))?;
    let verdict: rusqlite::Result<String> = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0));
    conn.progress_handler(0, None::<fn() -> bool>)?;
    match verdict {
        Ok(verdict) if verdict == "ok" => Ok(()),
        Ok(damage) => Err(OpenError::Corrupt(damage.into())),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
