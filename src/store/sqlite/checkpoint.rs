//! When SQLite's write-ahead log is written back into the file: on the writer thread, after it has answered.

use rusqlite::Connection;

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

    /// Empties the log where nothing was written since the last rest.
    pub fn at_rest(&mut self, conn: &Connection) {
        let Some(pages) = self.run(conn, "PRAGMA wal_checkpoint(NOOP)").map(|done| done.pages) else {
            return;
        };
        if pages > 0 && pages == self.pages_at_rest {
            self.truncate(conn);
        }
        self.pages_at_rest = pages;
    }

    /// Empties the log for good: whoever copies the file now has everything in it.
    pub fn at_end(&mut self, conn: &Connection) {
        self.truncate(conn);
    }

    fn truncate(&mut self, conn: &Connection) {
        // A reader in the way is not waited for: it is bounded, and there is another rest soon.
        let patience = conn.busy_timeout(std::time::Duration::ZERO);
        self.run(conn, "PRAGMA wal_checkpoint(TRUNCATE)");
        if let Err(error) = patience.and_then(|()| conn.busy_timeout(super::schema::BUSY_TIMEOUT)) {
            tracing::warn!(%error, "the store's lock patience cannot be set");
        }
        self.pages_tried = 0;
    }

    fn run(&self, conn: &Connection, sql: &str) -> Option<Done> {
        let done = conn
            .prepare_cached(sql)
            .and_then(|mut pragma| pragma.query_row([], |row| Ok(Done { pages: row.get(1)? })));
        done.inspect_err(|error| tracing::warn!(%error, "the store's log cannot be written back")).ok()
    }
}

/// What a checkpoint tells.
struct Done {
    /// Pages in the log, or -1 where there is none.
    pages: i64,
}
