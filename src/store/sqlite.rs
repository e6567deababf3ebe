//! The embedded store: one SQLite file, one process, nothing to install.
//!
//! One thread writes ([`writer`]), a few connections look ([`readers`]). Delivery rows exist only for what was claimed
//! or is an exception ([`schema`]). No leases need renewing: the lock on the file is the lease, and whoever opens it
//! takes over what its last holder had in flight. The wall clock is only the one given in [`Options`].

mod abandoned;
mod attempts;
mod boot;
mod breaker;
mod capped;
mod checkpoint;
mod claim;
mod codes;
mod disk;
mod fault;
mod ingest;
mod jobs;
mod keys;
mod lanes;
mod ledger;
mod lists;
mod notes;
mod overview;
mod readers;
mod record;
mod redrive;
mod schema;
mod select;
mod settle;
mod sweep;
mod tallies;
mod targets;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{oneshot, watch};

use crate::clock::Clock;
use crate::event::TargetName;
use crate::event::frame::{self, BadFrame};
use crate::signature::Verified;

use super::query::{
    DeliveryQuery, DeliveryView, Durability, Erase, Erased, EventLookup, EventMeta, EventQuery, EventRef,
    Mode, Overview, Page, Paged, Redrive, Redriven,
};
use super::{
    ClaimWanted, Claimed, Control, Controlled, Ingested, Lease, Settle, Settled, Store, StoreError, Swept,
    TargetChange, TargetSpec, Ticked,
};

/// How to open a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// The database file; `-wal`, `-shm` and `.lock` stand beside it.
    pub path: PathBuf,
    /// Ended events are kept for this long from acceptance.
    pub retention: Duration,
    /// Dead letters are kept for this long from their death.
    pub dead_letter_retention: Duration,
    /// The dedupe window; never less than `retention`.
    pub dedupe: Duration,
    /// Ingest answers [`StoreError::Full`] above this many bytes.
    pub size_max_bytes: u64,
    /// Whether the file may be on a file system in memory.
    pub memory: Memory,
    /// The wall clock that judges what is due and what is old.
    pub clock: Clock,
    /// SQLite's own limit on the file, in pages of 8 KiB: tests fill a disk with it.
    pub max_page_count: Option<u32>,
}

/// Whether the file may be on a file system in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Memory {
    /// It may: `dev` and tests.
    Allowed,
    /// It may not: a restart of the machine would take everything.
    #[default]
    Refused,
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder is missing; it is not made, because a missing volume would go unnoticed.
    #[error("the store's folder {} does not exist", .0.display())]
    NoFolder(PathBuf),
    /// Another relay has it.
    #[error("another relay uses this store (it holds {})", .0.display())]
    Locked(PathBuf),
    /// The file or one beside it cannot be written.
    #[error("the store's file cannot be written")]
    Unwritable(#[source] io::Error),
    /// On a network file system.
    #[error(
        "the store is on a network file system ({0}), whose locks cannot be relied on: give it a local disk"
    )]
    NetworkFileSystem(&'static str),
    /// On a file system in memory, without leave.
    #[error("the store is on a file system in memory and would not survive a restart: give it a disk")]
    MemoryFileSystem,
    /// Written by a newer release.
    #[error("the store has form {found}, this release knows {known}: run a newer release")]
    TooNew {
        /// The file's form.
        found: i64,
        /// The newest form that this release knows.
        known: i64,
    },
    /// A database of something else.
    #[error("the file is the database of another program")]
    Foreign,
    /// No database, or a damaged one.
    #[error("the store's file is damaged or no database")]
    Corrupt(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An SQLite with a known bug that loses data.
    #[error("SQLite {0} can lose data; 3.51.3 or newer is needed")]
    TooOldSqlite(&'static str),
    /// Any other failure of SQLite.
    #[error("the store's file cannot be opened")]
    Sqlite(#[source] rusqlite::Error),
    /// Any other failure of the system.
    #[error("the store cannot be opened")]
    Io(#[from] io::Error),
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
                Self::Corrupt(error.into())
            }
            Some(_) | None => Self::Sqlite(error),
        }
    }
}

/// The store. A clone is another handle; when the last one is dropped, [`Closed`] resolves.
#[derive(Clone)]
pub struct SqliteStore {
    readers: Arc<readers::Readers>, // dropped before the writer: its thread then finds no reader in its way
    writer: writer::Writer,
    bell: Arc<watch::Sender<u64>>,
    rules: Arc<notes::Rules>,
    durability: Durability,
    /// For what is asked of readers; the writer has its own handle.
    clock: Clock,
}

/// Resolves when the last handle is gone, the log is written back and the file is free for another relay.
#[derive(Debug)]
pub struct Closed(oneshot::Receiver<()>);

impl Closed {
    /// Waits for that.
    pub async fn wait(self) {
        let _ = self.0.await; // an error means that the thread is gone, which is the same
    }
}

/// Opens the store, makes the file where it is missing, and takes over what was in flight when it was last used. Blocks
/// for a moment; needs no runtime.
///
/// # Errors
/// [`OpenError`], one for each thing that an operator can do something about.
pub fn open(options: Options) -> Result<(SqliteStore, Closed), OpenError> {
    let hold = disk::hold(&options.path, options.memory)?;
    let mut conn = schema::open_writer(&hold.path, options.max_page_count)?;
    let notes = boot::boot(&mut conn, options.clock.now())?;
    let Options { retention, dead_letter_retention, dedupe, size_max_bytes, clock, .. } = options;
    let rules = notes::Rules::new(retention, dead_letter_retention, dedupe, size_max_bytes);
    let readers = Arc::new(readers::Readers::new(hold.path.clone()));
    let bell = Arc::new(watch::Sender::new(0));
    let durability = hold.durability;
    let thread = writer::Thread {
        conn,
        hold,
        clock: clock.clone(),
        rules: rules.clone(),
        notes,
        abandoned: Arc::default(),
        bell: Arc::clone(&bell),
        checkpoints: checkpoint::Checkpoints::default(),
    };
    let (writer, closed) = writer::start(thread)?;
    Ok((SqliteStore { writer, readers, bell, rules: Arc::new(rules), durability, clock }, Closed(closed)))
}

/// Bytes that an operation without a frame writes, roughly.
const SMALL_BYTES: usize = 256;

#[async_trait]
impl Store for SqliteStore {
    async fn declare(&self, targets: &[TargetSpec]) -> Result<Vec<TargetChange>, StoreError> {
        let targets = targets.to_vec();
        self.writer.call(SMALL_BYTES, move |tx| targets::declare(tx, &targets)).await
    }

    async fn ingest(&self, event: Verified) -> Result<Ingested, StoreError> {
        let frame = frame::encode(event.event()); // here, not on the one thread that writes
        let kept = self.writer.call(frame.len(), move |tx| ingest::ingest(tx, event.event(), &frame)).await?;
        kept.ok_or(StoreError::Full)
    }

    async fn claim(&self, wanted: ClaimWanted) -> Result<Claimed, StoreError> {
        let target = wanted.target.clone();
        let handover = self.writer.call(SMALL_BYTES, move |tx| claim::claim(tx, &wanted)).await?;
        let raw = handover.accept().ok_or(StoreError::Unavailable(None))?;
        let leases = raw.leases.into_iter().map(|lease| {
            let event = lease.frame.ok_or(BadFrame::Short).and_then(|bytes| frame::decode(&bytes));
            Lease {
                target: target.clone(),
                event_id: codes::unpack(lease.event),
                token: lease.token.unsigned_abs(),
                progress: lease.progress,
                event,
                memo: bytes::Bytes::new(),
            }
        });
        Ok(Claimed {
            leases: leases.collect(),
            now: raw.now,
            next_due: raw.next_due,
            more: raw.more,
            status: raw.status,
            breaker: raw.breaker,
            relays: 1,
        })
    }

    async fn settle(&self, settle: Settle) -> Result<Settled, StoreError> {
        let Settle { lease, transition, attempt } = settle;
        let (Some(event), Ok(token)) = (codes::pack(lease.event_id), i64::try_from(lease.token)) else {
            return Ok(Settled::Lost); // no lease of this store
        };
        let bytes = SMALL_BYTES + attempt.as_ref().map_or(0, |attempt| attempt.reply.len());
        let lease = settle::Returned { target: lease.target, event, token };
        self.writer.call(bytes, move |tx| settle::settle(tx, &lease, transition, attempt.as_ref())).await
    }

    fn bell(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }

    async fn tick(&self) -> Result<Ticked, StoreError> {
        self.writer.rest().await?;
        Ok(Ticked { taken_over: 0, relays: 1, changes: Vec::new() })
    }

    async fn control(&self, target: &TargetName, control: Control) -> Result<Controlled, StoreError> {
        let target = target.clone();
        self.writer.call(SMALL_BYTES, move |tx| targets::control(tx, &target, control)).await
    }

    async fn redrive(&self, redrive: Redrive) -> Result<Redriven, StoreError> {
        match redrive.mode {
            Mode::Apply => self.writer.call(SMALL_BYTES, move |tx| redrive::redrive(tx, &redrive)).await,
            Mode::Count => self.readers.read(move |conn| redrive::count(conn, &redrive)).await,
        }
    }

    async fn events(&self, query: EventQuery, page: Page) -> Result<Paged<EventMeta>, StoreError> {
        self.readers.read(move |conn| lists::events(conn, &query, &page)).await
    }

    async fn event(&self, wanted: EventRef) -> Result<EventLookup, StoreError> {
        self.readers.read(move |conn| lists::event(conn, &wanted)).await
    }

    async fn deliveries(&self, query: DeliveryQuery, page: Page) -> Result<Paged<DeliveryView>, StoreError> {
        self.readers.read(move |conn| lists::deliveries(conn, &query, &page)).await
    }

    async fn overview(&self) -> Result<Overview, StoreError> {
        let (rules, durability) = (Arc::clone(&self.rules), self.durability);
        self.readers.read(move |conn| overview::overview(conn, &rules, durability)).await
    }

    async fn erase(&self, _: Erase) -> Result<Erased, StoreError> {
        Err(StoreError::Unavailable(None))
    }

    async fn sweep(&self, max: u32) -> Result<Swept, StoreError> {
        self.writer.call(SMALL_BYTES, move |tx| sweep::sweep(tx, max)).await
    }
}
