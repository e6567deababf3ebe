//! The jobs in SQLite: one row each, its revision beside the document, so that putting is one guarded update.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::clock::Timestamp;
use crate::store::job::admission::{Admission, admit};
use crate::store::job::{Job, JobSpec};
use crate::store::ledger::{JobAnswer, JobVerdict};

use super::fault::Fault;
use super::writer::Tx;

/// All jobs, newest first.
///
/// # Errors
/// Where SQLite fails.
pub fn list(conn: &Connection, now: Timestamp) -> Result<JobAnswer, Fault> {
    Ok(JobAnswer { now, verdict: JobVerdict::Done, jobs: all(conn)? })
}

fn all(conn: &Connection) -> Result<Vec<Job>, Fault> {
    let mut statement = conn.prepare_cached("SELECT id, revision, doc FROM job ORDER BY id DESC")?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        // A newer release may have written what this one does not understand: it stays, and nobody here touches it.
        found.extend(read(row)?);
    }
    Ok(found)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Option<Job>> {
    let (id, revision): (i64, i64) = (row.get(0)?, row.get(1)?);
    let job = serde_json::from_str::<Job>(&row.get::<_, String>(2)?).ok();
    Ok(job.map(|job| Job { id: id.unsigned_abs(), revision: revision.unsigned_abs(), ..job }))
}

fn doc(job: &Job) -> Result<String, Fault> {
    serde_json::to_string(job).map_err(|_| Fault::Unreadable("doc"))
}

/// Makes a job, where it is admitted.
///
/// # Errors
/// Where SQLite fails.
pub fn create(tx: &Tx<'_>, spec: &JobSpec) -> Result<JobAnswer, Fault> {
    let answer = |verdict, jobs| Ok(JobAnswer { now: tx.now, verdict, jobs });
    let last: Option<i64> = tx
        .conn
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'job'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let id = last.unwrap_or(0).unsigned_abs() + 1;
    match admit(&all(tx.conn)?, id, spec.clone(), tx.now) {
        Admission::Full => answer(JobVerdict::Full, Vec::new()),
        Admission::Twin(twin) => answer(JobVerdict::Twin, vec![*twin]),
        Admission::Taken(job, dropped) => {
            tx.conn
                .prepare_cached("INSERT INTO job VALUES (?1, 0, ?2)")?
                .execute(params![key(id), doc(&job)?])?;
            let mut delete = tx.conn.prepare_cached("DELETE FROM job WHERE id = ?1")?;
            for id in dropped {
                delete.execute([key(id)])?;
            }
            answer(JobVerdict::Done, vec![*job])
        }
    }
}

/// Replaces a job, where nobody else has changed it since.
///
/// # Errors
/// Where SQLite fails.
pub fn put(tx: &Tx<'_>, job: &Job) -> Result<JobAnswer, Fault> {
    let answer = |verdict, jobs| Ok(JobAnswer { now: tx.now, verdict, jobs });
    let next = Job { revision: job.revision.saturating_add(1), updated_at: tx.now, ..job.clone() };
    let changed = tx
        .conn
        .prepare_cached("UPDATE job SET revision = ?3, doc = ?4 WHERE id = ?1 AND revision = ?2")?
        .execute(params![key(job.id), key(job.revision), key(next.revision), doc(&next)?])?;
    if changed > 0 {
        return answer(JobVerdict::Done, vec![next]);
    }
    let stored = tx
        .conn
        .prepare_cached("SELECT id, revision, doc FROM job WHERE id = ?1")?
        .query_row([key(job.id)], read)
        .optional()?
        .flatten();
    let is_ours = stored.as_ref().is_some_and(|stored| stored.came_of(job));
    answer(if is_ours { JobVerdict::Done } else { JobVerdict::Lost }, stored.into_iter().collect())
}

/// SQLite has no unsigned numbers; ours come from it and stay far below.
fn key(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
