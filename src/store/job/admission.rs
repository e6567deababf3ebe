//! Which jobs a store takes, decided upon those that it has. Pure: both adapters ask here, and neither has a rule of its
//! own.

use std::cmp::Reverse;

use crate::clock::Timestamp;
use crate::store::ledger::{JOBS_KEPT, JOBS_UNFINISHED_MAX};

use super::{Job, JobSpec, JobState};

/// What becomes of a job that an operator asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Admission {
    /// It is kept, and the ended ones with these numbers make room for it.
    Taken(Box<Job>, Vec<u64>),
    /// This one is unfinished and does the same.
    Twin(Box<Job>),
    /// Too many are unfinished.
    Full,
}

/// Decides what becomes of `spec` beside the jobs that are `kept`; a new one gets the number `id`.
pub fn admit(kept: &[Job], id: u64, spec: JobSpec, now: Timestamp) -> Admission {
    let unfinished = || kept.iter().filter(|job| job.state == JobState::Running);
    if let Some(twin) = unfinished().find(|job| job.spec.is_twin(&spec)) {
        return Admission::Twin(Box::new(twin.clone()));
    }
    if unfinished().count() >= JOBS_UNFINISHED_MAX {
        return Admission::Full;
    }
    let mut ended: Vec<&Job> = kept.iter().filter(|job| job.state != JobState::Running).collect();
    ended.sort_unstable_by_key(|job| Reverse((job.updated_at, job.id)));
    let room = JOBS_KEPT - 1 - unfinished().count(); // never below 0: far more are kept than may be unfinished
    let dropped = ended.into_iter().skip(room).map(|job| job.id).collect();
    Admission::Taken(Box::new(Job::new(id, spec, now)), dropped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::job::JobAction;
    use crate::store::query::{DeliveryQuery, Mode};

    fn spec(event_type: usize) -> JobSpec {
        JobSpec {
            action: JobAction::Retry,
            query: DeliveryQuery { event_type: Some(event_type.to_string()), ..DeliveryQuery::default() },
            mode: Mode::Apply,
            per_second: None,
            by: "ops".to_owned(),
        }
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_ms(ms)
    }

    fn ended(id: u64, updated_at: i64) -> Job {
        Job { state: JobState::Done, updated_at: at(updated_at), ..Job::new(id, spec(0), at(0)) }
    }

    #[test]
    fn those_that_ended_longest_ago_make_room() {
        let mut kept: Vec<Job> = (1..=200).map(|id| ended(id, 1_000)).collect();
        kept[7].updated_at = at(10);
        kept[9].updated_at = at(20);
        let Admission::Taken(job, dropped) = admit(&kept, 201, spec(0), at(2_000)) else { panic!() };
        assert_eq!((job.id, job.state, dropped), (201, JobState::Running, vec![8]));
        kept.push(Job { updated_at: at(0), ..Job::new(201, spec(0), at(0)) });
        let Admission::Taken(_, dropped) = admit(&kept, 202, spec(1), at(2_000)) else { panic!() };
        assert_eq!(dropped, [10, 8], "never one that is unfinished");
        assert_eq!(
            admit(&kept[..3], 4, spec(0), at(0)),
            Admission::Taken(Box::new(Job::new(4, spec(0), at(0))), vec![])
        );
    }

    #[test]
    fn a_twin_is_told_even_when_there_is_no_room() {
        let kept: Vec<Job> = (0..16).map(|id| Job::new(id as u64, spec(id), at(0))).collect();
        assert_eq!(admit(&kept, 17, spec(16), at(0)), Admission::Full);
        assert_eq!(admit(&kept, 17, spec(3), at(0)), Admission::Twin(Box::new(kept[3].clone())));
    }
}
