//! The flow that does jobs: retries, replays, discards and erasures of many deliveries, step by step. Knows the store
//! and the bell, not who asks for jobs.
//!
//! A job is taken by putting this relay's hold into it; each step is written down before the next. So a restart, or
//! another relay once the hold is over, goes on behind the last step that was written down. What a step did without being
//! written down has changed after the job was made, and its repetition leaves it alone.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info, warn};

use crate::backoff::delay;
use crate::clock::Timestamp;
use crate::shutdown::Shutdown;
use crate::store::job::asking::JobBell;
use crate::store::job::{Hold, Job, JobAction, JobState};
use crate::store::ledger::{JobAnswer, JobQuery, JobVerdict};
use crate::store::query::{Cursor, Erase, Mode, Redrive, RedriveAction};
use crate::store::settling::STORE_RETRY;
use crate::store::{Store, StoreError};
use crate::telemetry::causes;

/// A relay that says nothing for this long has lost its job. Longer than any step: those are bounded to well under 1 s,
/// and a call to a store that hangs fails after some 8 s.
const HOLD: Duration = Duration::from_secs(15);
/// A hold with less than this left is renewed before a step.
const HOLD_LEFT_MIN: Duration = Duration::from_secs(10);
/// Between two looks while nothing is to be done here: jobs that were asked of another relay, or lost by one. Those asked
/// of this relay ring.
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// Deliveries of one step: some 10 ms of either store.
const STEP_DELIVERIES: u32 = 500;
/// Events of one step of an erasure, each with a payload to be written over.
const STEP_EVENTS: u32 = 100;
/// Between two passes of an erasure, while something is in flight.
const PASS_PAUSE: Duration = Duration::from_secs(1);
/// Passes of an erasure, some ten minutes: longer than an attempt lasts, and the take-over of one whose relay has died.
/// What is still in flight then is told in the log.
const PASSES_MAX: u32 = 600;

/// What the flow works with.
pub struct Deps {
    /// Where jobs are kept and done.
    pub store: Arc<dyn Store>,
    /// Rung by whoever starts a job; told of every step.
    pub bell: JobBell,
    /// A word that no other relay has, for holds.
    relay: String,
}

impl Deps {
    /// The deps of one relay.
    pub fn new(store: Arc<dyn Store>, bell: JobBell) -> Self {
        Self { store, bell, relay: format!("{:016x}", rand::random::<u64>()) }
    }
}

/// Does jobs until told to stop; then lets go of them, so that another relay need not wait for the holds to be over.
pub async fn run(deps: Deps, shutdown: Shutdown) {
    let mut failures = 0;
    while !shutdown.stop.is_cancelled() {
        let pause = match run_once(&deps, &shutdown).await {
            Ok(pause) => {
                failures = 0;
                pause
            }
            Err(error) => {
                failures += 1;
                warn!(failures, error = causes(&error), "jobs.failed");
                delay(&STORE_RETRY, failures)
            }
        };
        tokio::select! {
            () = shutdown.stop.cancelled() => {}
            () = deps.bell.rung() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    tokio::select! {
        () = shutdown.abort.cancelled() => {} // then the holds run out
        let_go = let_go(&deps) => {
            if let Err(error) = let_go {
                warn!(error = causes(&error), "jobs.failed");
            }
        }
    }
}

/// One round: a step of every job that this relay may go on with, oldest first. Tells how long nothing is to be done.
///
/// # Errors
/// The store's, of the first job whose step failed; the others were gone on with.
pub async fn run_once(deps: &Deps, shutdown: &Shutdown) -> Result<Duration, StoreError> {
    let JobAnswer { now, jobs, .. } = deps.store.jobs(JobQuery::List).await?;
    let (mut pause, mut failed) = (LOOK_EVERY, None);
    for job in jobs.into_iter().rev() {
        let Some(free_at) = job.free_at(&deps.relay) else { continue };
        if shutdown.stop.is_cancelled() {
            break;
        }
        if free_at > now {
            pause = pause.min(free_at.since(now));
            continue;
        }
        let id = job.id;
        match step(deps, job, now).await {
            Ok(next) => pause = pause.min(next),
            Err(error) => {
                warn!(job = id, error = causes(&error), "job.step_failed");
                failed = failed.or(Some(error));
            }
        }
    }
    failed.map_or(Ok(pause), Err)
}

/// One step of a job, written down. Tells how long it is until its next.
async fn step(deps: &Deps, job: Job, now: Timestamp) -> Result<Duration, StoreError> {
    let Some((job, now)) = take(deps, job, now).await? else { return Ok(Duration::ZERO) };
    let done = work(&*deps.store, &job).await?;
    write_down(deps, job, done, now).await
}

/// Puts what a step did, which was begun at `now`.
async fn write_down(deps: &Deps, job: Job, done: Done, now: Timestamp) -> Result<Duration, StoreError> {
    let moved = done.moved;
    let next = after(&job, done, now);
    let JobAnswer { verdict, jobs, .. } = deps.store.jobs(JobQuery::Put(next)).await?;
    let stored = jobs.into_iter().next();
    match (verdict, stored) {
        (JobVerdict::Done, Some(stored)) => {
            deps.bell.stepped();
            debug!(job = stored.id, moved = stored.moved, "job.progressed");
            match stored.free_at(&deps.relay) {
                Some(due_at) => Ok(due_at.since(now)),
                None => {
                    tell_end(&stored);
                    Ok(LOOK_EVERY)
                }
            }
        }
        (JobVerdict::Lost, Some(stored)) if stored.state == JobState::Cancelled => {
            // It was cancelled during the step, which was done all the same: the operator should know.
            let whole = Job { moved: stored.moved.saturating_add(moved), ..stored };
            tell_end(&whole);
            deps.store.jobs(JobQuery::Put(whole)).await?;
            deps.bell.stepped();
            Ok(LOOK_EVERY)
        }
        (JobVerdict::Lost | JobVerdict::Done | JobVerdict::Twin | JobVerdict::Full, _) => {
            warn!(job = job.id, "job.lost: another relay has gone on with it");
            Ok(Duration::ZERO)
        }
    }
}

/// The job under this relay's hold, and the store's present; `None` where somebody else has changed it.
async fn take(deps: &Deps, job: Job, now: Timestamp) -> Result<Option<(Job, Timestamp)>, StoreError> {
    let enough = now.plus(HOLD_LEFT_MIN);
    if job.hold.as_ref().is_some_and(|hold| hold.relay == deps.relay && hold.until >= enough) {
        return Ok(Some((job, now)));
    }
    let before = job.hold.clone();
    let is_new = job.revision == 0;
    let taken = job.taken(&deps.relay, now, HOLD);
    let JobAnswer { now, verdict, jobs } = deps.store.jobs(JobQuery::Put(taken)).await?;
    let Some(job) = jobs.into_iter().next().filter(|_| verdict == JobVerdict::Done) else { return Ok(None) };
    let (action, by) = (job.spec.action.as_str(), job.spec.by.as_str());
    if is_new {
        info!(job = job.id, action, by, dry_run = is_dry(&job), "job.started");
    } else if before.is_none_or(|hold| hold.relay != deps.relay) {
        info!(job = job.id, action, by, moved = job.moved, "job.taken_over");
    }
    Ok(Some((job, now)))
}

fn is_dry(job: &Job) -> bool {
    job.spec.mode == Mode::Count
}

fn tell_end(job: &Job) {
    let (action, state) = (job.spec.action.as_str(), job.state.as_str());
    info!(job = job.id, action, state, moved = job.moved, dry_run = is_dry(job), "job.ended");
    if job.in_flight > 0 && !is_dry(job) {
        warn!(job = job.id, in_flight = job.in_flight, "job.in_flight_at_end");
    }
}

/// What a step did.
struct Done {
    moved: u64,
    in_flight: u64,
    next: Option<Cursor>,
}

/// The number of deliveries or events of one step of the job, and the time that they are worth.
fn portion(job: &Job) -> (u32, Duration) {
    let most = match job.spec.action {
        JobAction::Retry | JobAction::Replay | JobAction::Discard => STEP_DELIVERIES,
        JobAction::Erase => STEP_EVENTS,
    };
    match job.spec.per_second.map(NonZeroU32::get).filter(|_| !is_dry(job)) {
        Some(per_second) => {
            let max = per_second.min(most); // at most a second's worth
            (max, Duration::from_secs(1) * max / per_second)
        }
        None => (most, Duration::ZERO),
    }
}

async fn work(store: &dyn Store, job: &Job) -> Result<Done, StoreError> {
    let (max, spread) = portion(job);
    let (query, mode) = (job.spec.query.clone(), job.spec.mode);
    let after = job.after.as_deref().and_then(|text| text.parse().ok()); // our own text; without it from the top
    let action = match job.spec.action {
        JobAction::Retry => RedriveAction::Retry,
        JobAction::Replay => RedriveAction::Replay,
        JobAction::Discard => RedriveAction::Cancel,
        JobAction::Erase => {
            let Some(subject) = query.subject else { return Ok(Done { moved: 0, in_flight: 0, next: None }) };
            let erased = store.erase(Erase { subject, as_of: job.created_at, mode, max, after }).await?;
            return Ok(Done { moved: erased.events, in_flight: erased.in_flight, next: erased.next });
        }
    };
    let as_of = Some(job.created_at);
    let redrive = Redrive { event: None, query, action, mode, as_of, spread, max, after };
    let redriven = store.redrive(redrive).await?;
    Ok(Done { moved: redriven.moved, in_flight: 0, next: redriven.next })
}

/// The job after a step that was begun at `now`.
fn after(job: &Job, done: Done, now: Timestamp) -> Job {
    let (_, worth) = portion(job);
    let mut next = Job {
        moved: job.moved.saturating_add(done.moved),
        in_flight: job.in_flight.saturating_add(done.in_flight),
        after: done.next.as_ref().map(ToString::to_string),
        // A step that moved little is paid for in full: due times of the next one must not run beside its own.
        due_at: if done.moved > 0 { now.plus(worth) } else { now },
        hold: job.hold.as_ref().map(|hold| Hold { until: now.plus(HOLD), ..hold.clone() }),
        ..job.clone()
    };
    if done.next.is_some() {
        return next;
    }
    next.passes = next.passes.saturating_add(1);
    if next.in_flight > 0 && !is_dry(job) && next.passes < PASSES_MAX {
        // What is in flight ends by itself; once it has, nothing of the payload is anywhere.
        next.in_flight = 0;
        next.due_at = now.plus(worth.max(PASS_PAUSE));
    } else {
        (next.state, next.hold) = (JobState::Done, None);
    }
    next
}

async fn let_go(deps: &Deps) -> Result<(), StoreError> {
    for job in deps.store.jobs(JobQuery::List).await?.jobs {
        let is_ours = job.hold.as_ref().is_some_and(|hold| hold.relay == deps.relay);
        if is_ours && job.state == JobState::Running {
            deps.store.jobs(JobQuery::Put(Job { hold: None, ..job })).await?; // where it is lost, it is not ours
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::job::JobSpec;
    use crate::store::job::asking::{Started, cancel, find, start};
    use crate::store::query::DeliveryQuery;
    use crate::store::sqlite::{self, Memory};

    fn spec(action: JobAction, per_second: u32) -> JobSpec {
        let (query, per_second) = (DeliveryQuery::default(), NonZeroU32::new(per_second));
        JobSpec { action, query, mode: Mode::Apply, per_second, by: "ops".to_owned() }
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    fn done(moved: u64, in_flight: u64, next: Option<u64>) -> Done {
        Done { moved, in_flight, next: next.map(Cursor::Number) }
    }

    #[test]
    fn a_step_is_worth_its_share_of_the_rate() {
        let of = |action, per_second| portion(&Job::new(1, spec(action, per_second), at(0)));
        assert_eq!(of(JobAction::Retry, 0), (500, Duration::ZERO));
        assert_eq!(of(JobAction::Retry, 1), (1, Duration::from_secs(1)));
        assert_eq!(of(JobAction::Replay, 2_000), (500, Duration::from_millis(250)));
        assert_eq!(of(JobAction::Erase, 400), (100, Duration::from_millis(250)));
        let dry = JobSpec { mode: Mode::Count, ..spec(JobAction::Retry, 1) };
        assert_eq!(portion(&Job::new(1, dry, at(0))), (500, Duration::ZERO));
    }

    #[test]
    fn an_erasure_goes_on_until_nothing_is_in_flight() {
        let mut job = Job::new(1, spec(JobAction::Erase, 0), at(0));
        job = after(&job, done(100, 2, Some(7)), at(10));
        assert_eq!((job.moved, job.in_flight, job.after.as_deref()), (100, 2, Some("7")));
        assert_eq!((job.due_at, job.passes), (at(10), 0));
        job = after(&job, done(20, 0, None), at(20));
        assert_eq!((job.state, job.after.as_deref(), job.in_flight), (JobState::Running, None, 0));
        assert_eq!((job.due_at, job.passes), (at(1_020), 1));
        job = after(&job, done(0, 0, None), at(1_020));
        assert_eq!((job.state, job.moved, job.passes), (JobState::Done, 120, 2));

        let last = Job { passes: PASSES_MAX - 1, ..Job::new(1, spec(JobAction::Erase, 0), at(0)) };
        let last = after(&last, done(0, 1, None), at(20));
        assert_eq!((last.state, last.in_flight), (JobState::Done, 1), "but not for ever");
    }

    #[tokio::test]
    async fn what_a_step_did_while_its_job_was_cancelled_is_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = sqlite::Options {
            path: folder.path().join("relay.db"),
            retention: Duration::ZERO,
            dead_letter_retention: Duration::ZERO,
            dedupe: Duration::ZERO,
            size_max_bytes: u64::MAX,
            memory: Memory::Allowed,
            clock: Clock::system(),
            max_page_count: None,
        };
        let (store, _closed) = sqlite::open(options).expect("a store");
        let deps = Deps::new(Arc::new(store), JobBell::default());
        let started = start(&*deps.store, &deps.bell, spec(JobAction::Retry, 10)).await;
        let Ok(Started::New(job)) = started else { panic!("{started:?}") };
        let now = job.due_at;
        let taken = take(&deps, job, now).await.expect("a store that answers");
        let (job, now) = taken.expect("it is free");
        let id = job.id;
        cancel(&*deps.store, &deps.bell, id).await.expect("a store that answers");
        write_down(&deps, job, done(10, 0, Some(7)), now).await.expect("a store that answers");
        let job = find(&*deps.store, id).await.expect("a store that answers").expect("it is kept");
        assert_eq!((job.state, job.moved, job.hold), (JobState::Cancelled, 10, None));
    }
}
