//! When SQLite's write-ahead log is written back into the file: on the writer thread, after it has answered.

use rusqlite::Connection;

use super::writer::Rest;

/// Pages of the log (8 KiB each, so 32 MiB) from which on it is written back.
const PAGES_MAX: i64 = 4_096;
/// After a write-back that could not finish (a reader was in the way, the disk is full), the log grows by this many
/// pages (8 MiB) before the next one: each costs two fsyncs.
const PAGES_STEP: i64 = 1_024;

/// Keeps the log short.
#[derive(Debug, Default)]
pub struct Checkpoints {
    pages_tried: i64,
    pages_at_rest: i64,
    /// What was erased is still in the log, because it could not be emptied.
    owed: bool,
}

/// Whether the log was emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emptied {
    /// It was.
    Yes,
    /// It was not, or a reader or the disk was in the way.
    No,
}

impl Checkpoints {
    /// Writes back what can be written back without waiting, where the log has grown long.
    pub fn after_commit(&mut self, conn: &Connection) {
        let Some(pages) = self.run(conn, "PRAGMA wal_checkpoint(NOOP)").map(|done| done.pages) else {
            return;
        };
        if pages < self.pages_tried {
            self.pages_tried = 0; // the log has begun from its start again
        }
        if pages >= PAGES_MAX.max(self.pages_tried + PAGES_STEP) {
            self.pages_tried = pages;
            self.run(conn, "PRAGMA wal_checkpoint(PASSIVE)");
        }
    }

    /// Empties the log where that is asked for, or owed, or nothing was written since the last rest.
    pub fn at_rest(&mut self, conn: &Connection, rest: Rest) -> Emptied {
        if rest == Rest::Empty || self.owed {
            let emptied = self.truncate(conn);
            self.owed = emptied == Emptied::No;
            return emptied;
        }
        let Some(pages) = self.run(conn, "PRAGMA wal_checkpoint(NOOP)").map(|done| done.pages) else {
            return Emptied::No;
        };
        let is_quiet = pages > 0 && pages == self.pages_at_rest;
        self.pages_at_rest = pages;
        if is_quiet { self.truncate(conn) } else { Emptied::No }
    }

    /// Empties the log for good: whoever copies the file now has everything in it.
    pub fn at_end(&mut self, conn: &Connection) {
        self.truncate(conn);
    }

    fn truncate(&mut self, conn: &Connection) -> Emptied {
        // A reader in the way is not waited for: it is bounded, and there is another rest soon.
        let patience = conn.busy_timeout(std::time::Duration::ZERO);
        let done = self.run(conn, "PRAGMA wal_checkpoint(TRUNCATE)");
        if let Err(error) = patience.and_then(|()| conn.busy_timeout(super::schema::BUSY_TIMEOUT)) {
            tracing::warn!(%error, "the store's lock patience cannot be set");
        }
        self.pages_tried = 0;
        if done.is_some_and(|done| done.busy == 0) { Emptied::Yes } else { Emptied::No }
    }

    fn run(&self, conn: &Connection, sql: &str) -> Option<Done> {
        let done = conn.prepare_cached(sql).and_then(|mut pragma| {
            pragma.query_row([], |row| Ok(Done { busy: row.get(0)?, pages: row.get(1)? }))
        });
        done.inspect_err(|error| tracing::warn!(%error, "the store's log cannot be written back")).ok()
    }
}

/// What a checkpoint tells.
struct Done {
    /// Not 0 where somebody was in the way.
    busy: i64,
    /// Pages in the log, or -1 where there is none.
    pages: i64,
}
