//! What the writer thread remembers between transactions: the end of the log, the next lease token, who comes first.
//! All of it can be read back from the file; where a transaction is undone, so is what it changed here.

use std::collections::HashMap;
use std::time::Duration;

use rusqlite::Connection;

use super::codes;

/// Lease tokens of one boot: 2^40 claims, then 2^23 boots fit an integer column.
const TOKENS_PER_BOOT: i64 = 1 << 40;

/// Retention and limits, as the store was opened with.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Ended events are kept for this long, in ms.
    pub retention_ms: i64,
    /// Dead letters are kept for this long, in ms.
    pub dead_letter_retention_ms: i64,
    /// Marks are kept for this long, in ms.
    pub mark_ms: i64,
    /// Ingest stops above this many bytes.
    pub size_max_bytes: i64,
}

impl Rules {
    /// The rules for these durations; a mark outlives its event's retention.
    pub fn new(
        retention: Duration, dead_letter_retention: Duration, dedupe: Duration, size_max_bytes: u64,
    ) -> Self {
        Self {
            retention_ms: codes::millis(retention),
            dead_letter_retention_ms: codes::millis(dead_letter_retention),
            mark_ms: codes::millis(dedupe.max(retention)),
            size_max_bytes: i64::try_from(size_max_bytes).unwrap_or(i64::MAX),
        }
    }
}

/// Which kind of delivery a claim takes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum First {
    /// What the cursor has not reached.
    #[default]
    New,
    /// What is due.
    Due,
}

/// What the thread remembers.
#[derive(Debug, Clone)]
pub struct Notes {
    /// The newest event ever accepted.
    pub last_event: i64,
    /// How many were ever accepted.
    pub last_number: i64,
    /// Where the next sweep goes on looking for events.
    pub swept_event: i64,
    /// Where the next sweep goes on looking for marks: (expires, svix-id, source) of the last one looked at.
    pub swept_mark: (i64, String, String),
    token: i64,
    first: HashMap<i64, First>,
    ring: bool,
    used_bytes: Option<i64>,
}

impl Notes {
    /// Reads the end of the log, and begins a new boot.
    ///
    /// # Errors
    /// Where SQLite fails.
    pub fn load(conn: &Connection) -> rusqlite::Result<Self> {
        let one = |sql: &str| -> rusqlite::Result<i64> { conn.query_row(sql, [], |row| row.get(0)) };
        let epoch = one("UPDATE meta SET value = value + 1 WHERE key = 'epoch' RETURNING value")?;
        // Where the clock was set back, or all events are gone, only these tell which ids were given.
        let last_event = one("SELECT max((SELECT value FROM meta WHERE key = 'last_event'), \
             (SELECT coalesce(max(id), 0) FROM event), (SELECT coalesce(max(cursor), 0) FROM target))")?;
        Ok(Self {
            last_event,
            last_number: last_number(conn)?,
            swept_event: 0,
            swept_mark: (0, String::new(), String::new()),
            token: epoch * TOKENS_PER_BOOT,
            first: HashMap::new(),
            ring: false,
            used_bytes: None,
        })
    }

    /// A lease token that no claim had before, in this boot or an earlier one.
    pub fn next_token(&mut self) -> i64 {
        self.token += 1;
        self.token
    }

    /// Which kind the next claim for this target takes first: the two in turn, so that neither starves.
    pub fn take_turn(&mut self, target: i64) -> First {
        let first = self.first.entry(target).or_default();
        let now = *first;
        *first = match now {
            First::New => First::Due,
            First::Due => First::New,
        };
        now
    }

    /// Rings the bell once the transaction is durable.
    pub fn ring(&mut self) {
        self.ring = true;
    }

    /// Whether the bell should ring now.
    pub fn take_ring(&mut self) -> bool {
        std::mem::take(&mut self.ring)
    }

    /// A transaction begins: what it will find out about the file is not known yet.
    pub fn begin(&mut self) {
        self.used_bytes = None;
    }

    /// The bytes in use, asked once for each transaction, and what was added since.
    ///
    /// # Errors
    /// Where SQLite fails.
    pub fn used_bytes(&mut self, conn: &Connection) -> rusqlite::Result<i64> {
        if let Some(bytes) = self.used_bytes {
            return Ok(bytes);
        }
        let bytes = used_bytes(conn)?;
        self.used_bytes = Some(bytes);
        Ok(bytes)
    }

    /// The transaction has added this much.
    pub fn add_bytes(&mut self, bytes: i64) {
        self.used_bytes = self.used_bytes.map(|used| used.saturating_add(bytes));
    }

    /// This state again after `failed` was undone, except that a token is never given twice.
    pub fn undone(&self, failed: &Self) -> Self {
        Self { token: failed.token, ..self.clone() }
    }
}

/// How many events were ever accepted: the newest one's number or, where none is left, how many were removed.
///
/// # Errors
/// Where SQLite fails.
pub fn last_number(conn: &Connection) -> rusqlite::Result<i64> {
    conn.prepare_cached(
        "SELECT coalesce((SELECT number FROM event ORDER BY id DESC LIMIT 1), \
         (SELECT value FROM meta WHERE key = 'removed'))",
    )?
    .query_row([], |row| row.get(0))
}

/// The bytes of all pages that hold something.
///
/// # Errors
/// Where SQLite fails.
pub fn used_bytes(conn: &Connection) -> rusqlite::Result<i64> {
    let pragma =
        |sql: &str| -> rusqlite::Result<i64> { conn.prepare_cached(sql)?.query_row([], |row| row.get(0)) };
    let pages = pragma("PRAGMA page_count")?.saturating_sub(pragma("PRAGMA freelist_count")?);
    Ok(pages.saturating_mul(pragma("PRAGMA page_size")?))
}
