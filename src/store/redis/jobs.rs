//! The jobs in Redis: a hash of documents, each with its revision in front, so that a script replaces it only where
//! nobody else has. What becomes of a new one is decided here, upon what was read; the script only sees to it that
//! nothing was made in between.

use redis::Value;

use crate::clock::Timestamp;
use crate::store::StoreError;
use crate::store::job::admission::{Admission, admit};
use crate::store::job::{Job, JobSpec};
use crate::store::ledger::{JobAnswer, JobVerdict};

use super::codes::arg;
use super::core::Core;
use super::link::Lane;
use super::reply::{self, Odd};

const WHAT: &str = "jobs";
/// How often a creation is decided again because another job was made at the same moment.
const CREATE_TRIES: u32 = 8;

/// The jobs, newest first.
fn newest_first(jobs: Value) -> Result<Vec<Job>, Odd> {
    let mut found = Vec::new();
    for (id, text) in reply::pairs(jobs, WHAT)? {
        // A newer release may have written what this one does not understand: it stays, and nobody here touches it.
        found.extend(read(&id, &reply::bytes(text, WHAT)?));
    }
    found.sort_unstable_by_key(|job| std::cmp::Reverse(job.id));
    Ok(found)
}

fn read(id: &[u8], text: &[u8]) -> Option<Job> {
    let id = std::str::from_utf8(id).ok()?.parse().ok()?;
    let (revision, rest) = std::str::from_utf8(text).ok()?.split_once(';')?;
    let (changed_ms, doc) = rest.split_once(';')?;
    let job: Job = serde_json::from_str(doc).ok()?;
    let updated_at = Timestamp::from_ms(changed_ms.parse().ok()?);
    Some(Job { id, revision: revision.parse().ok()?, updated_at, ..job })
}

fn doc(job: &Job) -> Result<Vec<u8>, Odd> {
    serde_json::to_vec(job).map_err(|_| Odd("a job"))
}

/// All jobs, newest first.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn list(core: &Core) -> Result<JobAnswer, StoreError> {
    let mut pipeline = redis::pipe();
    pipeline.cmd("TIME").cmd("HGETALL").arg(core.keys.jobs());
    let replies = core.link.pipeline(Lane::Admin, &pipeline).await?;
    let Ok([time, jobs]) = <[Value; 2]>::try_from(replies) else { return Err(Odd(WHAT).into()) };
    Ok(JobAnswer { now: core.time(time)?, verdict: JobVerdict::Done, jobs: newest_first(jobs)? })
}

/// The number of the newest job that ever was.
async fn last(core: &Core) -> Result<u64, StoreError> {
    let mut command = redis::cmd("HGET");
    command.arg(core.keys.meta()).arg(WHAT);
    let last = core.link.command(Lane::Admin, &command).await?;
    Ok(if last == Value::Nil { 0 } else { reply::number(last, WHAT)? })
}

/// Makes a job, where it is admitted.
///
/// # Errors
/// Where Redis cannot be reached; asked again, a job that was made nevertheless is a twin.
pub async fn create(core: &Core, spec: JobSpec) -> Result<JobAnswer, StoreError> {
    for _ in 0..CREATE_TRIES {
        let last = last(core).await?; // before the jobs: one that is made in between is found out
        let JobAnswer { now, jobs, .. } = list(core).await?;
        match admit(&jobs, last + 1, spec.clone(), now) {
            Admission::Full => return Ok(JobAnswer { now, verdict: JobVerdict::Full, jobs: Vec::new() }),
            Admission::Twin(twin) => {
                return Ok(JobAnswer { now, verdict: JobVerdict::Twin, jobs: vec![*twin] });
            }
            Admission::Taken(job, dropped) => {
                let mut args = vec![arg("create"), arg(last), doc(&job)?];
                args.extend(dropped.iter().map(arg));
                if let Said { now, what: Word::Done } = say(core, args).await? {
                    let job = Job { updated_at: now, ..*job };
                    return Ok(JobAnswer { now, verdict: JobVerdict::Done, jobs: vec![job] });
                }
            }
        }
    }
    Err(StoreError::Unavailable(None))
}

/// Replaces a job, where nobody else has changed it since.
///
/// # Errors
/// Where Redis cannot be reached; put again, it is done or lost as if once.
pub async fn put(core: &Core, job: Job) -> Result<JobAnswer, StoreError> {
    let id = arg(job.id);
    let Said { now, what } = say(core, vec![arg("put"), id.clone(), arg(job.revision), doc(&job)?]).await?;
    let (verdict, stored) = match what {
        Word::Done => {
            (JobVerdict::Done, Some(Job { revision: job.revision.saturating_add(1), updated_at: now, ..job }))
        }
        Word::Again => (JobVerdict::Lost, None), // only said of a creation
        Word::Lost(stored) => {
            let stored = read(&id, &stored);
            let is_ours = stored.as_ref().is_some_and(|stored| stored.came_of(&job));
            (if is_ours { JobVerdict::Done } else { JobVerdict::Lost }, stored)
        }
    };
    Ok(JobAnswer { now, verdict, jobs: stored.into_iter().collect() })
}

/// What the script said, and when.
struct Said {
    now: Timestamp,
    what: Word,
}

enum Word {
    Done,
    Again,
    /// With the text of what stands there.
    Lost(bytes::Bytes),
}

async fn say(core: &Core, mut args: Vec<Vec<u8>>) -> Result<Said, StoreError> {
    args.insert(0, arg(core.clock.offset_ms()));
    let keys = [core.keys.meta(), core.keys.jobs()];
    let reply = core.link.call(Lane::Admin, &core.scripts.jobs, &keys, &args).await?;
    let mut reply = reply::array(reply, WHAT)?.into_iter();
    let mut next = || reply.next().ok_or(Odd(WHAT));
    let now = Timestamp::from_ms(reply::number(next()?, WHAT)?);
    let what = match reply::text(next()?, WHAT)?.as_str() {
        "done" => Word::Done,
        "again" => Word::Again,
        "lost" => Word::Lost(reply::bytes(next()?, WHAT)?),
        _ => return Err(Odd(WHAT).into()),
    };
    Ok(Said { now, what })
}
