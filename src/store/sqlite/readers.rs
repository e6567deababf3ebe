//! Connections that only look, so that a person's question never waits for the writer nor holds it up. Each question
//! sees one snapshot, on a blocking thread, and is cut off when it takes too long: a reader left open would keep the
//! write-ahead log from being reused.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::store::StoreError;

use super::fault::Fault;
use super::schema;

/// Questions under way at once; others wait in line.
const READERS_MAX: usize = 3;
/// The longest that one question may take. Lists are bounded by what they look at and stay far below.
const TIME_MAX: Duration = Duration::from_secs(2);

/// The pool.
pub struct Readers {
    path: PathBuf,
    started: Instant,
    idle: Mutex<Vec<Reader>>,
    permits: Arc<Semaphore>,
}

struct Reader {
    conn: Connection,
    /// When its question must end, in ms since `started`; read by SQLite's progress handler.
    deadline_ms: Arc<AtomicU64>,
}

impl Readers {
    /// A pool on the file at `path`; connections are opened when they are first needed.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            started: Instant::now(),
            idle: Mutex::new(Vec::new()),
            permits: Arc::new(Semaphore::new(READERS_MAX)),
        }
    }

    /// Asks `question` of one snapshot.
    ///
    /// # Errors
    /// [`StoreError`] where it fails or takes too long.
    pub async fn read<T, F>(self: &Arc<Self>, question: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        // Owned by the blocking thread: it counts until the question ends, even if nobody waits for it any more.
        let permit =
            Arc::clone(&self.permits).acquire_owned().await.map_err(|_| StoreError::Unavailable(None))?;
        let readers = Arc::clone(self);
        let answer = tokio::task::spawn_blocking(move || {
            let answer = readers.ask(question);
            drop(permit);
            answer
        });
        let answer = answer.await.map_err(|panic| StoreError::Unavailable(Some(Box::new(panic))))?;
        answer.map_err(Fault::into_store_error)
    }

    fn ask<T>(&self, question: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, Fault> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let reader = match idle {
            Some(reader) => reader,
            None => self.open()?,
        };
        let deadline = self.started.elapsed() + TIME_MAX;
        reader.deadline_ms.store(u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let snapshot = reader.conn.unchecked_transaction()?;
        let answer = question(&reader.conn);
        drop(snapshot); // rolls back: nothing was written
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
        answer
    }

    fn open(&self) -> Result<Reader, Fault> {
        let mut conn = schema::open_reader(&self.path)?;
        let deadline_ms = Arc::new(AtomicU64::new(u64::MAX));
        let (started, deadline) = (self.started, Arc::clone(&deadline_ms));
        conn.progress_handler(
            schema::STEPS_PER_LOOK,
            Some(move || started.elapsed().as_millis() > u128::from(deadline.load(Ordering::Relaxed))),
        )?;
        Ok(Reader { conn, deadline_ms })
    }
}
