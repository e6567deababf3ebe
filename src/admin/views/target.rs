//! The state of the store and its targets as JSON.

use serde::Serialize;
use utoipa::ToSchema;

use super::{DurabilityWord, Time};
use crate::admin::stats::{Attempts, LatencyJson};
use crate::lifecycle::breaker::{Breaker, Phase};
use crate::store::PauseReason;
use crate::store::query::{Overview, TargetOverview, TargetStatus};

/// The state of the store and its targets.
#[derive(Serialize, ToSchema)]
pub struct OverviewJson {
    /// Events that are kept.
    events: u64,
    store_bytes: u64,
    /// The limit on them.
    store_bytes_max: u64,
    durability: DurabilityWord,
    /// By name.
    targets: Vec<TargetJson>,
}

impl OverviewJson {
    /// What the store says, with the last hour's attempts of each target.
    pub fn of(overview: Overview, attempts: impl Fn(&TargetOverview) -> Attempts) -> Self {
        let targets = overview.targets.into_iter();
        Self {
            events: overview.events,
            store_bytes: overview.size_bytes,
            store_bytes_max: overview.size_max_bytes,
            durability: DurabilityWord(overview.durability),
            targets: targets
                .map(|target| {
                    let attempts = attempts(&target);
                    TargetJson::of(target, attempts)
                })
                .collect(),
        }
    }
}

/// The state of one target.
#[derive(Serialize, ToSchema)]
pub struct TargetJson {
    name: String,
    status: StatusJson,
    #[schema(required)]
    paused_by: Option<PausedByJson>,
    /// Events that it has not reached.
    queued: u64,
    in_flight: u64,
    waiting: u64,
    parked: u64,
    dead: u64,
    /// When the oldest unfinished delivery's event was accepted.
    #[schema(required)]
    oldest_unfinished_at: Option<Time>,
    breaker: BreakerJson,
    /// Attempts of the last hour.
    attempts: u64,
    /// The part of them that delivered; null where there were none.
    #[schema(required, minimum = 0, maximum = 1)]
    success_rate: Option<f64>,
    /// How long they took; null where there were none.
    #[schema(required)]
    latency_ms: Option<LatencyJson>,
}

impl TargetJson {
    /// The target with its last hour's attempts.
    pub fn of(target: TargetOverview, attempts: Attempts) -> Self {
        let (status, paused_by) = match target.status {
            TargetStatus::Active => (StatusJson::Active, None),
            TargetStatus::Paused(reason) => (StatusJson::Paused, Some(reason.into())),
            TargetStatus::Orphan => (StatusJson::Orphan, None),
        };
        Self {
            name: target.name.to_string(),
            status,
            paused_by,
            queued: target.queued,
            in_flight: target.in_flight,
            waiting: target.waiting,
            parked: target.parked,
            dead: target.dead,
            oldest_unfinished_at: target.oldest_unfinished.map(Time),
            breaker: target.breaker.into(),
            attempts: attempts.count(),
            success_rate: attempts.success_rate(),
            latency_ms: attempts.latency(),
        }
    }
}

/// Whether a target takes events; an orphan has left the configuration.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum StatusJson {
    Active,
    Paused,
    Orphan,
}

/// Who paused a target: an operator, or its own 410 Gone.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum PausedByJson {
    Operator,
    Gone,
}

impl From<PauseReason> for PausedByJson {
    fn from(reason: PauseReason) -> Self {
        match reason {
            PauseReason::Operator => Self::Operator,
            PauseReason::Gone => Self::Gone,
        }
    }
}

#[derive(Serialize, ToSchema)]
struct BreakerJson {
    state: BreakerState,
    /// When it opened or, where it is closed, when it last closed.
    #[schema(required)]
    since: Option<Time>,
    failed_probes: u32,
    #[schema(required)]
    next_probe_at: Option<Time>,
}

/// Whether attempts are made (closed) or only probes (open).
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum BreakerState {
    Closed,
    Open,
}

impl From<Breaker> for BreakerJson {
    fn from(breaker: Breaker) -> Self {
        match breaker.phase {
            Phase::Closed { since } => Self {
                state: BreakerState::Closed,
                since: since.map(Time),
                failed_probes: 0,
                next_probe_at: None,
            },
            Phase::Open { since, failed_probes, probe_at } => Self {
                state: BreakerState::Open,
                since: Some(Time(since)),
                failed_probes,
                next_probe_at: Some(Time(probe_at)),
            },
        }
    }
}
