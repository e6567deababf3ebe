//! The flow that does jobs, over real stores: at its rate, in turns, by one relay at a time, and going on where another
//! stopped.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use clerk_relay::event::EventId;
use clerk_relay::jobs::{Deps, run, run_once};
use clerk_relay::lifecycle::State;
use clerk_relay::shutdown::Shutdown;
use clerk_relay::store::job::asking::{Cancelled, JobBell, Started, cancel, ended, find, start};
use clerk_relay::store::job::{Job, JobAction, JobSpec, JobState};
use clerk_relay::store::query::{DeliveryQuery, DeliveryView, Mode, Page, Redrive, RedriveAction};
use futures_util::future::join_all;

use crate::contract::harness::{self, DAY, Kind, Lab, MINUTE, OnRedis, OnSqlite, name};

/// Makes a test of each claim for each store.
macro_rules! on_both {
    ($($claim:ident)*) => {
        mod on_sqlite { $(
            #[tokio::test]
            async fn $claim() { super::$claim(&super::OnSqlite).await; }
        )* }
        mod on_redis { $(
            #[tokio::test]
            async fn $claim() { super::$claim(&super::OnRedis).await; }
        )* }
    };
}

on_both! {
    a_bulk_retry_keeps_its_rate
    without_a_rate_it_goes_on_at_once
    a_cancelled_job_goes_no_further
    a_job_is_held_by_one_relay_at_a_time
    of_many_relays_one_takes_a_job
    another_relay_goes_on_where_one_died
    a_step_that_was_not_written_down_moves_nothing_twice
    what_changed_later_is_left_alone
    jobs_take_turns
    a_dry_run_counts_and_changes_nothing
    a_discard_and_a_replay_are_jobs_too
    a_job_begins_at_the_ring_and_is_let_go_at_a_stop
}

const SECOND: Duration = Duration::from_secs(1);

fn spec(action: JobAction, per_second: u32) -> JobSpec {
    JobSpec {
        action,
        query: DeliveryQuery { target: Some(name("app")), ..DeliveryQuery::default() },
        mode: Mode::Apply,
        per_second: NonZeroU32::new(per_second),
        by: "ops".to_owned(),
    }
}

/// A lab with this many dead letters of the target `app`, oldest first.
async fn with_dead(kind: &dyn Kind, count: usize) -> (Lab, Vec<EventId>) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let added = lab.add_many(count).await;
    die_all(&lab).await;
    lab.clock.advance(MINUTE);
    (lab, added)
}

async fn die_all(lab: &Lab) {
    loop {
        let leases = lab.claim("app").await;
        if leases.is_empty() {
            return;
        }
        for lease in leases {
            lab.die(lease).await;
        }
    }
}

/// Starts a job; its first step may be made.
async fn asked(lab: &Lab, spec: JobSpec) -> Job {
    let Started::New(job) = start(&*lab.store, &JobBell::default(), spec).await.unwrap() else {
        panic!("it is not new");
    };
    lab.clock.advance(Duration::from_millis(1));
    job
}

fn relay(lab: &Lab) -> Deps {
    Deps::new(Arc::clone(&lab.store), JobBell::default())
}

/// One round of this relay.
async fn round(relay: &Deps) -> Duration {
    run_once(relay, &Shutdown::new()).await.unwrap()
}

async fn job(lab: &Lab, id: u64) -> Job {
    find(&*lab.store, id).await.unwrap().unwrap()
}

/// Rounds until the job has ended; time passes as the rounds ask for it.
async fn to_its_end(lab: &Lab, relay: &Deps, id: u64) -> Job {
    for _ in 0..1_000 {
        lab.clock.advance(round(relay).await);
        let job = job(lab, id).await;
        if job.state != JobState::Running {
            return job;
        }
    }
    panic!("it does not end");
}

async fn deliveries(lab: &Lab, state: State) -> Vec<DeliveryView> {
    let query = DeliveryQuery { states: vec![state], ..DeliveryQuery::default() };
    lab.store.deliveries(query, Page::first(500)).await.unwrap().rows
}

async fn a_bulk_retry_keeps_its_rate(kind: &dyn Kind) {
    let (lab, _) = with_dead(kind, 25).await;
    let id = asked(&lab, spec(JobAction::Retry, 10)).await.id;
    let relay = relay(&lab);
    assert_eq!(round(&relay).await, SECOND, "until the next step");
    assert_eq!((job(&lab, id).await.moved, job(&lab, id).await.state), (10, JobState::Running));
    let mut due: Vec<i64> =
        deliveries(&lab, State::Waiting).await.iter().map(|view| view.due_at.unwrap().as_ms()).collect();
    due.sort_unstable();
    assert!(due.windows(2).all(|pair| pair[1] - pair[0] == 100), "{due:?}");
    lab.clock.advance(SECOND);
    round(&relay).await;
    assert_eq!(job(&lab, id).await.moved, 20);
    let ended = to_its_end(&lab, &relay, id).await;
    assert_eq!((ended.moved, ended.state, ended.hold), (25, JobState::Done, None));
    assert_eq!(deliveries(&lab, State::Dead).await.len(), 0);
}

async fn without_a_rate_it_goes_on_at_once(kind: &dyn Kind) {
    let (lab, _) = with_dead(kind, 30).await;
    let id = asked(&lab, spec(JobAction::Retry, 0)).await.id;
    let relay = relay(&lab);
    round(&relay).await;
    assert_eq!((job(&lab, id).await.moved, job(&lab, id).await.state), (30, JobState::Done));
    assert!(round(&relay).await > 10 * SECOND, "with nothing to do it looks seldom");
    assert_eq!(lab.claim("app").await.len(), 16, "all are due");
}

async fn a_cancelled_job_goes_no_further(kind: &dyn Kind) {
    let (lab, _) = with_dead(kind, 25).await;
    let id = asked(&lab, spec(JobAction::Retry, 10)).await.id;
    let (relay, bell) = (relay(&lab), JobBell::default());
    round(&relay).await;
    let Cancelled::Now(job) = cancel(&*lab.store, &bell, id).await.unwrap() else { panic!("not now") };
    assert_eq!((job.state, job.moved), (JobState::Cancelled, 10));
    lab.clock.advance(MINUTE);
    round(&relay).await;
    assert_eq!(deliveries(&lab, State::Dead).await.len(), 15);
    assert_eq!(cancel(&*lab.store, &bell, id).await.unwrap(), Cancelled::Before(job.clone()));
    assert_eq!(cancel(&*lab.store, &bell, 99).await.unwrap(), Cancelled::Unknown);
    assert_eq!(ended(&*lab.store, &bell, id, MINUTE).await.unwrap(), Some(job));
    assert_eq!(ended(&*lab.store, &bell, 99, MINUTE).await.unwrap(), None);
}

async fn a_job_is_held_by_one_relay_at_a_time(kind: &dyn Kind) {
    let (lab, _) = with_dead(kind, 25).await;
    let id = asked(&lab, spec(JobAction::Retry, 10)).await.id;
    let (one, other) = (relay(&lab), relay(&lab));
    round(&one).await;
    lab.clock.advance(2 * SECOND);
    assert!(round(&other).await > SECOND, "it waits for the hold to be over");
    assert_eq!(job(&lab, id).await.moved, 10);
    round(&one).await;
    assert_eq!(job(&lab, id).await.moved, 20);
    lab.clock.advance(16 * SECOND);
    round(&other).await;
    let taken = job(&lab, id).await;
    assert_eq!((taken.moved, taken.state), (25, JobState::Done));
    round(&one).await;
    assert_eq!(job(&lab, id).await, taken);
}

async fn of_many_relays_one_takes_a_job(kind: &dyn Kind) {
    let (lab, _) = with_dead(kind, 25).await;
    let id = asked(&lab, spec(JobAction::Retry, 10)).await.id;
    let relays: Vec<Deps> = (0..6).map(|_| relay(&lab)).collect();
    join_all(relays.iter().map(round)).await;
    let taken = job(&lab, id).await;
    assert_eq!((taken.moved, taken.revision), (10, 2), "one was taken by, one step written down");
    assert_eq!(deliveries(&lab, State::Dead).await.len(), 15);
}

async fn another_relay_goes_on_where_one_died(kind: &dyn Kind) {
    let (lab, added) = with_dead(kind, 25).await;
    let id = asked(&lab, spec(JobAction::Retry, 10)).await.id;
    round(&relay(&lab)).await;
    let lab = lab.reopen().await;
    let heir = relay(&lab);
    round(&heir).await;
    assert_eq!(job(&lab, id).await.moved, 10, "the hold of the dead one is not over");
    lab.clock.advance(15 * SECOND);
    assert_eq!(to_its_end(&lab, &heir, id).await.moved, 25);
    lab.clock.advance(DAY);
    let mut again = Vec::new();
    loop {
        let leases = lab.claim("app").await;
        if leases.is_empty() {
            break;
        }
        for lease in leases {
            again.push(lease.event_id());
            lab.die(lease).await;
        }
    }
    again.sort_unstable();
    assert_eq!(again, added, "each once");
}

async fn a_step_that_was_not_written_down_moves_nothing_twice(kind: &dyn Kind) {
    let (lab, _) = with_dead(kind, 25).await;
    let asked = asked(&lab, spec(JobAction::Retry, 0)).await;
    // What a relay does before it dies: a step, and then nothing.
    let query = asked.spec.query.clone();
    let as_of = Some(asked.created_at);
    let step = Redrive { query, as_of, max: 10, ..harness::redrive(RedriveAction::Retry) };
    assert_eq!(lab.redrive(step).await.moved, 10);
    die_all(&lab).await;
    let ended = to_its_end(&lab, &relay(&lab), asked.id).await;
    assert_eq!(ended.moved, 15, "the ten are dead again, but since");
    assert_eq!(deliveries(&lab, State::Dead).await.len(), 10);
}

async fn what_changed_later_is_left_alone(kind: &dyn Kind) {
    let (lab, _) = with_dead(kind, 5).await;
    let id = asked(&lab, spec(JobAction::Retry, 0)).await.id;
    lab.add_many(3).await;
    die_all(&lab).await;
    assert_eq!(to_its_end(&lab, &relay(&lab), id).await.moved, 5);
    assert_eq!(deliveries(&lab, State::Dead).await.len(), 3);
}

async fn jobs_take_turns(kind: &dyn Kind) {
    const TYPES: [&str; 2] = ["user.created", "user.updated"];
    let lab = Lab::with_targets(kind, &["app"]).await;
    for number in 0..8 {
        lab.add(TYPES[number % 2], "user_1").await;
    }
    die_all(&lab).await;
    lab.clock.advance(MINUTE);
    let mut ids = Vec::new();
    for event_type in TYPES {
        let mut spec = spec(JobAction::Retry, 2);
        spec.query.event_type = Some(event_type.to_owned());
        ids.push(asked(&lab, spec).await.id);
    }
    let relay = relay(&lab);
    for moved in [2, 4] {
        round(&relay).await;
        assert_eq!((job(&lab, ids[0]).await.moved, job(&lab, ids[1]).await.moved), (moved, moved));
        lab.clock.advance(SECOND);
    }
}

async fn a_dry_run_counts_and_changes_nothing(kind: &dyn Kind) {
    let (lab, _) = with_dead(kind, 12).await;
    let before = deliveries(&lab, State::Dead).await;
    let dry = JobSpec { mode: Mode::Count, ..spec(JobAction::Retry, 1) };
    let counted = asked(&lab, dry).await.id;
    round(&relay(&lab)).await;
    let counted = job(&lab, counted).await;
    assert_eq!((counted.moved, counted.state), (12, JobState::Done), "a count is not held to a rate");
    assert_eq!(deliveries(&lab, State::Dead).await, before);
    let id = asked(&lab, spec(JobAction::Retry, 0)).await.id;
    assert_eq!(to_its_end(&lab, &relay(&lab), id).await.moved, counted.moved);
}

async fn a_discard_and_a_replay_are_jobs_too(kind: &dyn Kind) {
    let (lab, _) = with_dead(kind, 6).await;
    let id = asked(&lab, spec(JobAction::Discard, 0)).await.id;
    assert_eq!(to_its_end(&lab, &relay(&lab), id).await.moved, 6);
    assert_eq!(deliveries(&lab, State::Cancelled).await.len(), 6);
    lab.declare(&["app", "new"]).await;
    let mut replay = spec(JobAction::Replay, 0);
    replay.query.target = Some(name("new"));
    let id = asked(&lab, replay).await.id;
    assert_eq!(to_its_end(&lab, &relay(&lab), id).await.moved, 6);
    assert_eq!(lab.claim("new").await.len(), 6, "from before it began");
}

async fn a_job_begins_at_the_ring_and_is_let_go_at_a_stop(kind: &dyn Kind) {
    let (lab, _) = with_dead(kind, 40).await;
    let (bell, shutdown) = (JobBell::default(), Shutdown::new());
    let flow = tokio::spawn(run(Deps::new(Arc::clone(&lab.store), bell.clone()), shutdown.clone()));
    let dry = JobSpec { query: DeliveryQuery::default(), ..spec(JobAction::Retry, 0) };
    let Started::New(whole) = start(&*lab.store, &bell, dry).await.unwrap() else { panic!("not new") };
    let whole = ended(&*lab.store, &bell, whole.id, MINUTE).await.unwrap().unwrap();
    assert_eq!((whole.state, whole.moved), (JobState::Done, 40));

    die_all(&lab).await;
    let Started::New(slow) = start(&*lab.store, &bell, spec(JobAction::Retry, 1)).await.unwrap() else {
        panic!("not new");
    };
    let twin = start(&*lab.store, &bell, spec(JobAction::Retry, 2)).await.unwrap();
    assert!(matches!(twin, Started::Twin(job) if job.id == slow.id));
    let begun = ended(&*lab.store, &bell, slow.id, Duration::from_millis(1)).await.unwrap().unwrap();
    assert_eq!(begun.state, JobState::Running, "told as it is when the time is over");
    shutdown.stop.cancel();
    tokio::time::timeout(MINUTE, flow).await.unwrap().unwrap();
    let left = job(&lab, slow.id).await;
    assert_eq!((left.state, left.hold), (JobState::Running, None));
    lab.clock.advance(SECOND);
    round(&relay(&lab)).await;
    assert!(job(&lab, slow.id).await.moved > left.moved, "another relay need not wait");
}
