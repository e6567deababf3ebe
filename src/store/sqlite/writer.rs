//! The one thread that writes. It takes whatever is queued, runs it in one transaction, commits, and only then
//! answers: under load many operations share one fsync, at rest one operation waits for nobody.
//!
//! Invariants:
//! - Nobody is answered `Ok` before the commit that holds his operation has returned.
//! - An operation runs whole or not at all, and its failure or panic fails no other.
//! - The thread ends only when every handle to its queue is gone; it then writes the log back and closes the file.
//!
//! Knows nothing of what the operations do.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::{Clock, Timestamp};
use crate::store::StoreError;

use super::abandoned::{self, Abandoned, Key};
use super::checkpoint::{Checkpoints, Emptied};
use super::disk::Hold;
use super::fault::Fault;
use super::notes::{Notes, Rules};

/// Operations waiting for the thread; further callers wait in line outside. Four full transactions.
const QUEUE_MAX: usize = 1_024;
/// Operations in one transaction: more gain nothing, and the first would wait for the last.
const BATCH_MAX: usize = 256;
/// Frame bytes in one transaction: keeps its pages within SQLite's cache.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A transaction that begins with less than this share (one half) of the one before waits for more: callers who were
/// answered together come back together, and without a pause the first of them would have a commit of his own.
const COMPANY_SHARE: usize = 2;
/// From this many operations on a transaction had company.
const COMPANY_MIN: usize = 4;
/// It waits at most this long, and never longer than half of the last commit: then a commit would have been cheaper.
const COMPANY_WAIT_MAX: Duration = Duration::from_millis(1);
/// Between two looks at the queue while waiting.
const COMPANY_LOOK: Duration = Duration::from_micros(50);

/// What an operation works with.
pub struct Tx<'a> {
    /// The connection, inside a transaction.
    pub conn: &'a Connection,
    /// The present, the same for the whole transaction.
    pub now: Timestamp,
    /// Retention and limits.
    pub rules: &'a Rules,
    /// What the thread remembers; undone together with the transaction.
    pub notes: &'a mut Notes,
    /// Where a claim's leases go that nobody came for.
    pub abandoned: &'a Arc<Abandoned>,
}

/// One queued operation and whoever waits for it. May run more than once, each time from the same state of the store.
trait Work: Send {
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), Fault>;
    fn answer(self: Box<Self>, fault: Option<Fault>);
}

struct Call<T, F> {
    run: F,
    result: Option<T>,
    /// The other end waits in [`Writer::call`], or is gone with its caller.
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send, F: FnMut(&mut Tx<'_>) -> Result<T, Fault> + Send> Work for Call<T, F> {
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), Fault> {
        self.result = None;
        self.result = Some((self.run)(tx)?);
        Ok(())
    }

    fn answer(self: Box<Self>, fault: Option<Fault>) {
        let answer = match (fault, self.result) {
            (None, Some(result)) => Ok(result),
            (Some(fault), _) => Err(fault.into_store_error()),
            (None, None) => Err(StoreError::Unavailable(None)),
        };
        let _ = self.reply.send(answer); // a caller that has gone away does not matter; what it asked for is done
    }
}

enum Request {
    /// An operation, and how many bytes it brings.
    Work(Box<dyn Work>, usize),
    /// A moment for the file.
    Rest(Resting),
}

/// Who asked for a moment for the file, and what for.
type Resting = (Rest, oneshot::Sender<Emptied>);

/// The handle to the thread. When the last one is dropped, the thread finishes.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<Request>,
}

impl Writer {
    /// Runs `run` in a transaction and waits until that is durable. `bytes` is roughly what it writes. Once queued, it
    /// runs even if the caller stops waiting.
    ///
    /// # Errors
    /// [`StoreError`] where the operation or its commit failed; then nothing was changed.
    pub async fn call<T, F>(&self, bytes: usize, run: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let work = Request::Work(Box::new(Call { run, result: None, reply }), bytes);
        self.queue.send(work).await.map_err(|_| StoreError::Unavailable(None))?;
        answer.await.map_err(|_| StoreError::Unavailable(None))?
    }

    /// Gives the thread a moment to look after the file; tells whether it emptied the write-ahead log.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where the thread has ended.
    pub async fn rest(&self, rest: Rest) -> Result<Emptied, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(Request::Rest((rest, reply))).await.map_err(|_| StoreError::Unavailable(None))?;
        answer.await.map_err(|_| StoreError::Unavailable(None))
    }
}

/// What a moment for the file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Looking after it, where it is quiet.
    Quiet,
    /// Emptying the write-ahead log: what was overwritten in the file must leave it, too.
    Empty,
}

/// Everything the thread owns.
pub struct Thread {
    /// The only connection that writes.
    pub conn: Connection,
    /// The locked file; let go of after the connection is closed.
    pub hold: Hold,
    /// The wall clock.
    pub clock: Clock,
    /// Retention and limits.
    pub rules: Rules,
    /// What it remembers.
    pub notes: Notes,
    /// Shared with the claims that are being handed over.
    pub abandoned: Arc<Abandoned>,
    /// Rung after commits that may have made work ready.
    pub bell: Arc<watch::Sender<u64>>,
    /// When the log is written back.
    pub checkpoints: Checkpoints,
}

/// Starts the thread. The receiver resolves when it has finished and let go of the file.
///
/// # Errors
/// Where the system gives no thread.
pub fn start(thread: Thread) -> std::io::Result<(Writer, oneshot::Receiver<()>)> {
    let (queue, requests) = mpsc::channel(QUEUE_MAX);
    let (finished, closed) = oneshot::channel();
    std::thread::Builder::new().name("store-writer".into()).spawn(move || {
        thread.run(requests);
        let _ = finished.send(()); // nobody may be waiting
    })?;
    Ok((Writer { queue }, closed))
}

impl Thread {
    fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let (mut patience, mut last) = (Duration::ZERO, 0);
        while let Some(first) = requests.blocking_recv() {
            let company = if last < COMPANY_MIN { 0 } else { last / COMPANY_SHARE };
            let (batch, rests) = gather(first, &mut requests, company, patience);
            last = batch.len();
            let begun = Instant::now();
            // Whoever is in the batch when this panics sees his reply dropped, which reads as `Unavailable`.
            if catch_unwind(AssertUnwindSafe(|| self.commit(batch))).is_err() {
                tracing::error!("the store's writer panicked between operations");
                self.start_over();
            }
            patience = COMPANY_WAIT_MAX.min(begun.elapsed() / 2);
            let quiet = !rests.is_empty();
            self.checkpoints.after_commit(&self.conn);
            let mut emptied = Emptied::No;
            if quiet {
                self.commit(Vec::new());
                let asked = rests.iter().any(|(rest, _)| *rest == Rest::Empty);
                emptied = self.checkpoints.at_rest(&self.conn, if asked { Rest::Empty } else { Rest::Quiet });
            }
            for (_, reply) in rests {
                let _ = reply.send(emptied);
            }
        }
        self.commit(Vec::new());
        self.checkpoints.at_end(&self.conn);
        let Self { conn, hold, .. } = self;
        drop(conn);
        drop(hold);
    }

    fn commit(&mut self, mut batch: Vec<Box<dyn Work>>) {
        let left = self.abandoned.take();
        if batch.is_empty() && left.is_empty() {
            return;
        }
        let faults = match self.transaction(&mut batch, &left) {
            Ok(()) => batch.iter().map(|_| None).collect(),
            Err(Failed::Operation(fault)) if batch.len() == 1 && left.is_empty() => vec![Some(fault)],
            Err(Failed::Operation(_)) => {
                // Rare, so it may cost a commit for each: whatever failed, or made SQLite give the whole transaction
                // up, fails alone. Savepoints would not do, and would copy pages in every transaction that goes well.
                if self.transaction(&mut [], &left).is_err() {
                    self.abandoned.put_back(left);
                }
                self.one_by_one(&mut batch)
            }
            Err(Failed::Transaction(fault)) => {
                self.abandoned.put_back(left);
                batch.iter().map(|_| Some(Fault::Shared(Arc::clone(&fault)))).collect()
            }
        };
        if self.notes.take_ring() {
            self.bell.send_modify(|rings| *rings += 1);
        }
        for (work, fault) in batch.into_iter().zip(faults) {
            work.answer(fault);
        }
    }

    fn one_by_one(&mut self, batch: &mut [Box<dyn Work>]) -> Vec<Option<Fault>> {
        let mut broken: Option<Arc<Fault>> = None;
        let one = |work: &mut Box<dyn Work>| {
            if let Some(fault) = &broken {
                return Some(Fault::Shared(Arc::clone(fault))); // each try may wait for a lock: not once for everyone
            }
            match self.transaction(std::slice::from_mut(work), &[]) {
                Ok(()) => None,
                Err(Failed::Operation(fault)) => Some(fault),
                Err(Failed::Transaction(fault)) => {
                    broken = (!fault.is_full()).then(|| Arc::clone(&fault)); // a smaller one may still fit
                    Some(Fault::Shared(fault))
                }
            }
        };
        batch.iter_mut().map(one).collect()
    }

    /// One transaction: durable when it returns `Ok`, else undone, in the file and in memory.
    fn transaction(&mut self, batch: &mut [Box<dyn Work>], left: &[Key]) -> Result<(), Failed> {
        let before = self.notes.clone();
        let done = self.run_all(batch, left);
        if done.is_err() {
            self.forget_transaction();
            self.notes = before.undone(&self.notes);
        }
        done
    }

    fn run_all(&mut self, batch: &mut [Box<dyn Work>], left: &[Key]) -> Result<(), Failed> {
        // IMMEDIATE, because a transaction that reads first and writes later may find that it cannot any more.
        execute(&self.conn, "BEGIN IMMEDIATE")?;
        self.notes.begin();
        let mut tx = Tx {
            conn: &self.conn,
            now: self.clock.now(),
            rules: &self.rules,
            notes: &mut self.notes,
            abandoned: &self.abandoned,
        };
        abandoned::give_back(&mut tx, left).map_err(Failed::Operation)?;
        for work in batch {
            guarded(work, &mut tx).map_err(Failed::Operation)?;
        }
        execute(&self.conn, "COMMIT")
    }

    /// After a panic at an unknown point only the file knows what was done.
    fn start_over(&mut self) {
        self.forget_transaction();
        match Notes::load(&self.conn) {
            Ok(notes) => self.notes = notes,
            Err(error) => tracing::error!(%error, "the store's writer cannot read back what it had noted"),
        }
    }

    fn forget_transaction(&self) {
        if !self.conn.is_autocommit()
            && let Err(error) = self.conn.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "the store cannot undo a transaction");
        }
    }
}

/// Why a transaction failed.
enum Failed {
    /// One of its operations did; without it the others may do.
    Operation(Fault),
    /// It could not begin, or could not be made durable.
    Transaction(Arc<Fault>),
}

fn execute(conn: &Connection, sql: &str) -> Result<(), Failed> {
    let done = conn.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
    done.map(|_| ()).map_err(|error| Failed::Transaction(Arc::new(error.into())))
}

/// Takes what is queued; where that is less than `company`, waits up to `patience` for more.
fn gather(
    first: Request, requests: &mut mpsc::Receiver<Request>, company: usize, patience: Duration,
) -> (Vec<Box<dyn Work>>, Vec<Resting>) {
    let (mut batch, mut rests, mut bytes_sum) = (Vec::new(), Vec::new(), 0);
    let until = Instant::now() + patience;
    let mut request = Some(first);
    while let Some(one) = request.take() {
        match one {
            Request::Work(work, bytes) => {
                batch.push(work);
                bytes_sum += bytes;
            }
            Request::Rest(resting) => rests.push(resting),
        }
        if batch.len() >= BATCH_MAX || rests.len() >= BATCH_MAX || bytes_sum >= BATCH_BYTES_MAX {
            break;
        }
        request = requests.try_recv().ok();
        while request.is_none() && batch.len() < company && Instant::now() < until {
            std::thread::sleep(COMPANY_LOOK);
            request = requests.try_recv().ok();
        }
    }
    (batch, rests)
}

fn guarded(work: &mut Box<dyn Work>, tx: &mut Tx<'_>) -> Result<(), Fault> {
    catch_unwind(AssertUnwindSafe(|| work.run(tx))).unwrap_or_else(|panic| {
        tracing::error!(panic = panic_text(&*panic), "an operation of the store panicked");
        Err(Fault::Panicked)
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::{Closed, Options, SqliteStore, open};

    fn fresh(folder: &tempfile::TempDir) -> (SqliteStore, Closed) {
        let options = Options {
            path: folder.path().join("relay.db"),
            retention: Duration::ZERO,
            dead_letter_retention: Duration::ZERO,
            dedupe: Duration::ZERO,
            size_max_bytes: u64::MAX,
            memory: crate::store::sqlite::Memory::Allowed,
            clock: Clock::system(),
            max_page_count: None,
        };
        open(options).unwrap()
    }

    fn insert(tx: &mut Tx<'_>, key: &str) -> Result<(), Fault> {
        tx.conn.execute("INSERT INTO meta VALUES (?1, 0)", [key])?;
        Ok(())
    }

    #[tokio::test]
    async fn an_operation_that_panics_or_fails_half_way_takes_nothing_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let (store, closed) = fresh(&folder);
        let writer = store.writer.clone();
        let panics = writer.call(0, |tx| -> Result<(), Fault> {
            insert(tx, "half done by a panic")?;
            panic!("a fault of ours");
        });
        let fails = writer.call(0, |tx| -> Result<(), Fault> {
            insert(tx, "half done by a failure")?;
            Err(Fault::Unreadable("test"))
        });
        let one = writer.call(0, |tx| insert(tx, "one"));
        let other = writer.call(0, |tx| insert(tx, "other"));
        let (one, panicked, failed, other) = tokio::join!(one, panics, fails, other);
        assert!(one.is_ok() && other.is_ok());
        assert!(matches!(panicked, Err(StoreError::Unavailable(Some(_)))));
        assert!(matches!(failed, Err(StoreError::Corrupt(Some(_)))));
        let found = writer.call(0, |tx| {
            let mut statement = tx.conn.prepare("SELECT key FROM meta WHERE value = 0 AND key LIKE '%o%'")?;
            let keys = statement.query_map([], |row| row.get(0))?;
            Ok(keys.collect::<rusqlite::Result<Vec<String>>>()?)
        });
        let mut found = found.await.unwrap();
        found.retain(|key| key != "epoch" && key != "removed");
        assert_eq!(found, ["one", "other"]);
        drop((writer, store));
        closed.wait().await;
    }

    #[tokio::test]
    async fn a_lease_token_is_never_given_twice() {
        let folder = tempfile::tempdir().unwrap();
        let mut tokens = Vec::new();
        for _ in 0..3 {
            let (store, closed) = fresh(&folder);
            for _ in 0..3 {
                tokens.push(store.writer.call(0, |tx| Ok(tx.notes.next_token())).await.unwrap());
                let failed = store.writer.call(0, |tx| -> Result<(), Fault> {
                    tx.notes.next_token();
                    Err(Fault::Unreadable("test"))
                });
                assert!(failed.await.is_err());
            }
            drop(store);
            closed.wait().await;
        }
        assert!(tokens.is_sorted_by(|one, next| one < next), "{tokens:?}");
    }
}
