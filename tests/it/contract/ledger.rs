//! Laws of the ledger: what people are shown is in order and bounded, a job is made once and changed by one at a time,
//! and what was counted adds up.

use std::num::NonZeroU32;
use std::time::Duration;

use clerk_relay::clock::Timestamp;
use clerk_relay::store::job::{Job, JobAction, JobSpec, JobState};
use clerk_relay::store::ledger::{
    AUDIT_KEPT, AuditEntry, AuditQuery, JOBS_KEPT, JOBS_UNFINISHED_MAX, JobAnswer, JobQuery, JobVerdict,
    StatsQuery, TEXT_MAX,
};
use clerk_relay::store::query::{DeliveryQuery, Mode, Page, Paged};
use clerk_relay::telemetry::tally::{Counted, Counter, Tally, minute_of};
use futures_util::future::join_all;

use super::harness::{DAY, Kind, Lab, MINUTE, name};

fn entry(lab: &Lab, number: usize) -> AuditEntry {
    AuditEntry {
        at: lab.clock.now(),
        actor: "ops".to_owned(),
        action: "delivery.retried".to_owned(),
        object: format!("evt_{number}"),
        detail: String::new(),
    }
}

async fn note(lab: &Lab, entry: &AuditEntry) {
    let noted = lab.store.audit(AuditQuery::Append(entry.clone())).await.unwrap();
    assert!(noted.rows.is_empty() && noted.next.is_none());
}

async fn audit(lab: &Lab, page: Page) -> Paged<AuditEntry> {
    lab.store.audit(AuditQuery::List(page)).await.unwrap()
}

pub async fn the_audit_is_listed_newest_first(kind: &dyn Kind) {
    let lab = Lab::new(kind).await;
    let mut all: Vec<_> = (0..12).map(|number| entry(&lab, number)).collect();
    for entry in &all {
        note(&lab, entry).await;
    }
    let lab = lab.reopen().await;
    all.reverse();
    let first = audit(&lab, Page::first(5)).await;
    assert_eq!(first.rows, all[..5]);
    note(&lab, &entry(&lab, 12)).await;
    let next = first.next.unwrap().to_string().parse().unwrap();
    let second = audit(&lab, Page::after(7, next)).await;
    assert_eq!((second.rows, second.next), (all[5..].to_vec(), None), "what came meanwhile shifts nothing");
    assert_eq!(audit(&lab, Page::first(1)).await.rows[0].object, "evt_12");
}

pub async fn the_audit_keeps_its_cap(kind: &dyn Kind) {
    const OLD: usize = 150;
    let lab = Lab::new(kind).await;
    let numbers: Vec<usize> = (0..OLD + AUDIT_KEPT).collect();
    for chunk in numbers.chunks(OLD) {
        let entries: Vec<_> = chunk.iter().map(|number| entry(&lab, *number)).collect();
        join_all(entries.iter().map(|entry| note(&lab, entry))).await; // within a chunk in any order
    }
    let (mut listed, mut page) = (Vec::new(), Page::first(500));
    loop {
        let Paged { rows, next } = audit(&lab, page).await;
        listed.extend(rows.into_iter().map(|entry| entry.object));
        let Some(next) = next else { break };
        page = Page::after(500, next);
    }
    listed.sort_unstable();
    let mut expected: Vec<_> = numbers[OLD..].iter().map(|number| format!("evt_{number}")).collect();
    expected.sort_unstable();
    assert_eq!(listed, expected);
}

pub async fn the_texts_of_the_audit_are_cut(kind: &dyn Kind) {
    let lab = Lab::new(kind).await;
    let long = "ä".repeat(TEXT_MAX + 1);
    let (object, detail) = (long.clone(), long.clone());
    note(&lab, &AuditEntry { object, detail, ..entry(&lab, 0) }).await;
    let kept = audit(&lab, Page::first(10)).await.rows.remove(0);
    assert_eq!(kept.object, "ä".repeat(TEXT_MAX));
    assert_eq!(kept.detail, kept.object);
}

/// What `by` asks for: a retry of this type.
fn spec(event_type: &str, by: &str) -> JobSpec {
    JobSpec {
        action: JobAction::Retry,
        query: DeliveryQuery {
            target: Some(name("app")),
            event_type: Some(event_type.to_owned()),
            since: Some(Timestamp::from_ms(5)),
            ..DeliveryQuery::default()
        },
        mode: Mode::Apply,
        per_second: NonZeroU32::new(7),
        by: by.to_owned(),
    }
}

async fn jobs(lab: &Lab, query: JobQuery) -> JobAnswer {
    lab.store.jobs(query).await.unwrap()
}

async fn made(lab: &Lab, event_type: &str) -> Job {
    let JobAnswer { verdict, mut jobs, .. } = jobs(lab, JobQuery::Create(spec(event_type, "ops"))).await;
    assert_eq!((verdict, jobs.len()), (JobVerdict::Done, 1));
    jobs.remove(0)
}

async fn put(lab: &Lab, job: &Job) -> (JobVerdict, Vec<Job>) {
    let JobAnswer { verdict, jobs, .. } = jobs(lab, JobQuery::Put(job.clone())).await;
    (verdict, jobs)
}

async fn listed(lab: &Lab) -> Vec<Job> {
    jobs(lab, JobQuery::List).await.jobs
}

pub async fn a_job_is_made_once(kind: &dyn Kind) {
    let lab = Lab::new(kind).await;
    let before = lab.clock.now();
    let job = made(&lab, "user.created").await;
    assert_eq!((job.id, job.revision, job.state, job.moved), (1, 0, JobState::Running, 0));
    assert_eq!(job.spec, spec("user.created", "ops"));
    assert!(job.created_at >= before && job.due_at > job.created_at && job.hold.is_none());
    let again = jobs(&lab, JobQuery::Create(spec("user.created", "somebody else"))).await;
    assert_eq!((again.verdict, again.jobs), (JobVerdict::Twin, vec![job.clone()]));
    let other = JobSpec { mode: Mode::Count, ..spec("user.created", "ops") };
    assert_eq!(jobs(&lab, JobQuery::Create(other)).await.verdict, JobVerdict::Done);

    let (verdict, mut ended) = put(&lab, &Job { state: JobState::Done, ..job }).await;
    assert_eq!(verdict, JobVerdict::Done);
    let anew = made(&lab, "user.created").await;
    assert_eq!(anew.id, 3, "one that has ended may be asked for again");
    let lab = lab.reopen().await;
    let kept = listed(&lab).await;
    assert_eq!(kept.iter().map(|job| job.id).collect::<Vec<_>>(), [3, 2, 1]);
    assert_eq!((&kept[0], &kept[2]), (&anew, &ended.remove(0)));
}

pub async fn of_many_who_ask_for_one_job_one_makes_it(kind: &dyn Kind) {
    let lab = Lab::new(kind).await;
    let same = join_all((0..8).map(|_| jobs(&lab, JobQuery::Create(spec("user.created", "ops"))))).await;
    assert_eq!(same.iter().filter(|answer| answer.verdict == JobVerdict::Done).count(), 1);
    assert!(same.iter().all(|answer| answer.jobs[0].id == 1));
    let types: Vec<String> = (0..4).map(|number| format!("type.{number}")).collect();
    let mut ids: Vec<u64> = join_all(types.iter().map(|event_type| made(&lab, event_type)))
        .await
        .iter()
        .map(|job| job.id)
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, [2, 3, 4, 5]);
}

pub async fn few_jobs_are_unfinished_at_a_time(kind: &dyn Kind) {
    let lab = Lab::new(kind).await;
    for number in 0..JOBS_UNFINISHED_MAX {
        made(&lab, &format!("type.{number}")).await;
    }
    let refused = jobs(&lab, JobQuery::Create(spec("user.created", "ops"))).await;
    assert_eq!((refused.verdict, refused.jobs), (JobVerdict::Full, Vec::new()));
    assert_eq!(listed(&lab).await.len(), JOBS_UNFINISHED_MAX);
    let job = listed(&lab).await.remove(5);
    put(&lab, &Job { state: JobState::Cancelled, ..job }).await;
    made(&lab, "user.created").await;
}

pub async fn old_jobs_make_room_for_new_ones(kind: &dyn Kind) {
    let lab = Lab::new(kind).await;
    let first = made(&lab, "stays").await;
    for number in 0..JOBS_KEPT + 3 {
        let job = made(&lab, &format!("type.{number}")).await;
        put(&lab, &Job { state: JobState::Done, ..job }).await;
    }
    let kept = listed(&lab).await;
    assert_eq!(kept.len(), JOBS_KEPT);
    assert!(kept.is_sorted_by(|one, next| one.id > next.id));
    assert_eq!(kept.last(), Some(&first), "it is unfinished");
    let lab = lab.reopen().await;
    assert_eq!(made(&lab, "one more").await.id, JOBS_KEPT as u64 + 5, "a number is given once");
}

pub async fn a_job_is_put_only_under_its_revision(kind: &dyn Kind) {
    let lab = Lab::new(kind).await;
    let job = made(&lab, "user.created").await;
    lab.clock.advance(MINUTE);
    let mine = Job { moved: 10, after: Some("evt_1~app".to_owned()), in_flight: 2, passes: 1, ..job.clone() }
        .taken("relay-1", job.due_at, MINUTE);
    let (verdict, mut stored) = put(&lab, &mine).await;
    let stored = stored.remove(0);
    assert_eq!(verdict, JobVerdict::Done);
    assert!(stored.updated_at.since(job.created_at) >= MINUTE);
    assert_eq!(stored, Job { revision: 1, updated_at: stored.updated_at, ..mine.clone() });
    assert_eq!(put(&lab, &mine).await, (JobVerdict::Done, vec![stored.clone()]), "its answer was lost");

    let theirs = Job { moved: 11, ..job.clone() };
    assert_eq!(put(&lab, &theirs).await, (JobVerdict::Lost, vec![stored.clone()]));
    let (verdict, ended) = put(&lab, &Job { state: JobState::Cancelled, ..stored.clone() }).await;
    assert_eq!((verdict, ended[0].revision), (JobVerdict::Done, 2));
    assert_eq!(put(&lab, &Job { moved: 12, ..stored }).await, (JobVerdict::Lost, ended.clone()));
    assert_eq!(put(&lab, &mine).await, (JobVerdict::Lost, ended.clone()), "too much has happened since");
    assert_eq!(put(&lab, &Job { id: 99, ..job }).await, (JobVerdict::Lost, Vec::new()));
    let lab = lab.reopen().await;
    assert_eq!(listed(&lab).await, ended);
}

fn tally(minute: Timestamp, of: &Counted, counter: Counter, count: u64) -> Tally {
    Tally { minute, of: of.clone(), counter, count }
}

async fn add(lab: &Lab, tallies: &[Tally]) {
    assert!(lab.store.stats(StatsQuery::Add(tallies.to_vec())).await.unwrap().is_empty());
}

async fn since(lab: &Lab, since: Timestamp) -> Vec<Tally> {
    let mut found = lab.store.stats(StatsQuery::Since(since)).await.unwrap();
    found.sort_unstable_by_key(|tally| (tally.minute, tally.of.clone(), tally.counter));
    found
}

pub async fn tallies_add_up_minute_by_minute(kind: &dyn Kind) {
    let lab = Lab::new(kind).await;
    let (clerk, app) = (Counted::Source("clerk".parse().unwrap()), Counted::Target(name("app")));
    let now = minute_of(lab.clock.now());
    let before = now.minus(MINUTE);
    let one = [
        tally(before, &clerk, Counter::Received, 5),
        tally(now, &clerk, Counter::Received, 3),
        tally(now, &app, Counter::TookMs, 1_200),
    ];
    add(&lab, &[]).await;
    add(&lab, &one).await;
    let lab = lab.reopen().await;
    let within = now.plus(Duration::from_secs(59));
    add(&lab, &[tally(within, &clerk, Counter::Received, 4), tally(now, &app, Counter::Dead, 1)]).await;
    let of_now = [
        tally(now, &clerk, Counter::Received, 7),
        tally(now, &app, Counter::Dead, 1),
        tally(now, &app, Counter::TookMs, 1_200),
    ];
    assert_eq!(since(&lab, now).await, of_now);
    let all = since(&lab, Timestamp::from_ms(0)).await;
    assert_eq!((&all[0], &all[1..]), (&one[0], &of_now[..]));
    assert!(since(&lab, now.plus(MINUTE)).await.is_empty());
}

pub async fn old_tallies_are_dropped(kind: &dyn Kind) {
    let lab = Lab::new(kind).await;
    let app = Counted::Target(name("app"));
    let first = minute_of(lab.clock.now());
    add(&lab, &[tally(first, &app, Counter::Delivered, 1)]).await;
    lab.clock.advance(119 * MINUTE);
    assert_eq!(since(&lab, first).await.len(), 1);
    lab.clock.advance(3 * MINUTE);
    assert!(since(&lab, first).await.is_empty());
    let now = minute_of(lab.clock.now());
    add(&lab, &[tally(now, &app, Counter::Delivered, 2)]).await;
    assert_eq!(since(&lab, Timestamp::from_ms(0)).await, [tally(now, &app, Counter::Delivered, 2)]);
    lab.clock.advance(DAY);
    assert!(since(&lab, Timestamp::from_ms(0)).await.is_empty());
}
