//! Jobs as JSON.

use serde::Serialize;
use utoipa::ToSchema;

use super::{ActionWord, JobStateWord, StateWord, Time};
use crate::store::job::{Job, JobState};
use crate::store::query::{DeliveryQuery, Mode};

/// A job.
#[derive(Serialize, ToSchema)]
pub struct JobJson {
    #[schema(minimum = 1)]
    id: u64,
    action: ActionWord,
    filter: FilterJson,
    /// Whether it only counts.
    dry_run: bool,
    /// Deliveries a second, such as `50/s`; null: as fast as the store takes them.
    #[schema(required)]
    rate: Option<String>,
    /// The name of the token that started it.
    by: String,
    state: JobStateWord,
    created_at: Time,
    updated_at: Time,
    /// Deliveries (of an erasure: events) changed, or counted, so far.
    moved: u64,
    /// How many it will be in all; null while that is not known.
    #[schema(required)]
    total: Option<u64>,
}

impl From<Job> for JobJson {
    fn from(job: Job) -> Self {
        let total = match job.state {
            JobState::Done => Some(job.moved),
            JobState::Running | JobState::Cancelled => None,
        };
        Self {
            id: job.id,
            action: ActionWord(job.spec.action),
            filter: job.spec.query.into(),
            dry_run: job.spec.mode == Mode::Count,
            rate: job.spec.per_second.map(|per_second| format!("{per_second}/s")),
            by: job.spec.by,
            state: JobStateWord(job.state),
            created_at: Time(job.created_at),
            updated_at: Time(job.updated_at),
            moved: job.moved,
            total,
        }
    }
}

/// Which deliveries a job takes; what is null or empty does not limit them.
#[derive(Serialize, ToSchema)]
struct FilterJson {
    #[schema(required)]
    target: Option<String>,
    states: Vec<StateWord>,
    #[serde(rename = "type")]
    #[schema(required)]
    event_type: Option<String>,
    #[schema(required)]
    subject: Option<String>,
    #[schema(required)]
    source: Option<String>,
    #[schema(required)]
    since: Option<Time>,
    #[schema(required)]
    until: Option<Time>,
}

impl From<DeliveryQuery> for FilterJson {
    fn from(query: DeliveryQuery) -> Self {
        Self {
            target: query.target.map(String::from),
            states: query.states.into_iter().map(StateWord).collect(),
            event_type: query.event_type,
            subject: query.subject.map(String::from),
            source: query.source.map(String::from),
            since: query.since.map(Time),
            until: query.until.map(Time),
        }
    }
}
