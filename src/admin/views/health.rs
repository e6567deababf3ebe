//! How a relay is, as JSON.

use serde::Serialize;
use utoipa::ToSchema;

use super::{DurabilityWord, Time};
use crate::store::readiness::{Health, Ready, Reason};

/// How a relay is.
#[derive(Serialize, ToSchema)]
pub struct HealthJson {
    /// Of the program.
    version: &'static str,
    /// The first 12 hex digits of a digest over the configuration: equal for equal configurations.
    fingerprint: String,
    started_at: Time,
    /// Whether events are taken.
    ready: bool,
    state: HealthState,
    /// Why it is not `ok`.
    reasons: Vec<ReasonJson>,
    /// Null where the store does not answer.
    #[schema(required)]
    durability: Option<DurabilityWord>,
}

/// `degraded`: events are taken, but not kept as safely as they should be; `down`: they are answered 503.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum HealthState {
    Ok,
    Degraded,
    Down,
}

impl From<Ready> for HealthState {
    fn from(ready: Ready) -> Self {
        match ready {
            Ready::Yes => Self::Ok,
            Ready::Degraded => Self::Degraded,
            Ready::No => Self::Down,
        }
    }
}

/// Why a relay is not as it should be.
#[derive(Serialize, ToSchema)]
struct ReasonJson {
    /// For programs.
    #[schema(pattern = "^[a-z_]+$")]
    code: &'static str,
    /// For people.
    message: &'static str,
}

impl From<Reason> for ReasonJson {
    fn from(reason: Reason) -> Self {
        Self { code: reason.code(), message: reason.message() }
    }
}

impl From<Health> for HealthJson {
    fn from(health: Health) -> Self {
        Self {
            version: health.identity.version,
            fingerprint: health.identity.fingerprint,
            started_at: Time(health.identity.started_at),
            ready: health.ready != Ready::No,
            state: health.ready.into(),
            reasons: health.reasons.into_iter().map(ReasonJson::from).collect(),
            durability: health.overview.map(|overview| DurabilityWord(overview.durability)),
        }
    }
}
