//! Jobs as people ask for them: started, found, waited for, cancelled. Stands beside the port because the flow that asks
//! and the flow that does the steps do not know each other; [`JobBell`] is all that they share. Another relay on the same
//! store may do the steps just as well.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use crate::store::StoreError;
use crate::store::ledger::{JobAnswer, JobQuery, JobVerdict, Ledger};

use super::{Job, JobSpec, JobState};

/// Between two looks at a job that is waited for: it may be another relay that does it, whose steps ring no bell here.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often a cancellation is tried again because a step was written down at the same moment: steps take longer than
/// a look, so that a few are enough.
const CANCEL_TRIES: u32 = 32;

/// Tells the flow that does jobs that there is one, and whoever waits for a job that a step was done. One for each
/// relay; a clone is another handle.
#[derive(Debug, Clone, Default)]
pub struct JobBell {
    /// Waited for by the flow that does jobs; a ring while it is busy is not lost.
    asked: Arc<Notify>,
    /// Counts the steps; receivers are those who wait for a job's end.
    steps: Arc<watch::Sender<u64>>,
}

impl JobBell {
    /// There is a new job.
    pub fn ring(&self) {
        self.asked.notify_one();
    }

    /// Waits for a ring.
    pub async fn rung(&self) {
        self.asked.notified().await;
    }

    /// A step was done and written down.
    pub fn stepped(&self) {
        self.steps.send_modify(|steps| *steps = steps.wrapping_add(1));
    }
}

/// What became of a job that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Started {
    /// This is the new job.
    New(Job),
    /// Not made: this one is unfinished and does the same.
    Twin(Job),
    /// Not made: too many are unfinished ([`crate::store::ledger::JOBS_UNFINISHED_MAX`]).
    Full,
}

/// Starts a job, unless an unfinished one does the same or too many are unfinished.
///
/// # Errors
/// The store's; asked again, a job that was made nevertheless is a twin.
pub async fn start(ledger: &dyn Ledger, bell: &JobBell, spec: JobSpec) -> Result<Started, StoreError> {
    let JobAnswer { verdict, jobs, .. } = ledger.jobs(JobQuery::Create(spec)).await?;
    bell.ring();
    Ok(match (verdict, jobs.into_iter().next()) {
        (JobVerdict::Done, Some(job)) => Started::New(job),
        (JobVerdict::Twin, Some(job)) => Started::Twin(job),
        (JobVerdict::Full, _) => Started::Full,
        // No store answers so; the job, where there is one, is found by asking again.
        (JobVerdict::Lost, _) | (JobVerdict::Done | JobVerdict::Twin, None) => {
            return Err(StoreError::Unavailable(None));
        }
    })
}

/// All jobs that are kept, newest first.
///
/// # Errors
/// The store's.
pub async fn list(ledger: &dyn Ledger) -> Result<Vec<Job>, StoreError> {
    Ok(ledger.jobs(JobQuery::List).await?.jobs)
}

/// The job with this number, where it is kept.
///
/// # Errors
/// The store's.
pub async fn find(ledger: &dyn Ledger, id: u64) -> Result<Option<Job>, StoreError> {
    Ok(list(ledger).await?.into_iter().find(|job| job.id == id))
}

/// Waits until the job has ended, but no longer than `within`; then it is told as it is. `None` where it is not kept.
///
/// # Errors
/// The store's.
pub async fn ended(
    ledger: &dyn Ledger, bell: &JobBell, id: u64, within: Duration,
) -> Result<Option<Job>, StoreError> {
    let until = Instant::now() + within;
    let mut steps = bell.steps.subscribe();
    loop {
        steps.mark_unchanged(); // before the look: what is done after it is not missed
        let found = find(ledger, id).await?;
        let is_over = found.as_ref().is_none_or(|job| job.state != JobState::Running);
        if is_over || Instant::now() >= until {
            return Ok(found);
        }
        let look_at = until.min(Instant::now() + LOOK_EVERY);
        // The bell is held by us, so that a change is the only thing that can happen before the next look.
        let _ = timeout_at(look_at, steps.changed()).await;
    }
}

/// What became of a cancellation.
#[derive(Debug, Clone, PartialEq)]
pub enum Cancelled {
    /// It is stopped; a step that was under way may still be added to what it moved.
    Now(Job),
    /// It had ended before.
    Before(Job),
    /// No such job is kept.
    Unknown,
}

/// Stops a job where it is. What was done stays done.
///
/// # Errors
/// The store's.
pub async fn cancel(ledger: &dyn Ledger, bell: &JobBell, id: u64) -> Result<Cancelled, StoreError> {
    let Some(mut job) = find(ledger, id).await? else { return Ok(Cancelled::Unknown) };
    for _ in 0..CANCEL_TRIES {
        if job.state != JobState::Running {
            return Ok(Cancelled::Before(job));
        }
        let cancelled = Job { state: JobState::Cancelled, hold: None, ..job };
        let JobAnswer { verdict, jobs, .. } = ledger.jobs(JobQuery::Put(cancelled)).await?;
        let Some(stored) = jobs.into_iter().next() else { return Ok(Cancelled::Unknown) };
        if verdict == JobVerdict::Done {
            bell.stepped();
            return Ok(Cancelled::Now(stored));
        }
        job = stored;
    }
    Err(StoreError::Unavailable(None))
}
