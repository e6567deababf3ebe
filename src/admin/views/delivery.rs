//! Deliveries and their attempts as JSON.

use serde::Serialize;
use utoipa::ToSchema;

use super::{ErrorWord, StateWord, Time};
use crate::lifecycle::attempt::{Attempt, ReplyRead};
use crate::store::query::{DeliveryDetail, DeliveryView};

/// A delivery in a list.
#[derive(Serialize, ToSchema)]
pub struct DeliveryJson {
    #[schema(pattern = "^evt_[0-9a-f]{20}$")]
    event_id: String,
    target: String,
    #[serde(rename = "type")]
    event_type: String,
    #[schema(required)]
    subject: Option<String>,
    state: StateWord,
    /// Why it is dead or skipped.
    #[schema(required)]
    reason: Option<String>,
    /// Counted attempts in all.
    attempts: u32,
    #[schema(required)]
    last_status: Option<u16>,
    #[schema(required)]
    last_error: Option<ErrorWord>,
    /// When the next attempt comes, where it waits for one.
    #[schema(required)]
    due_at: Option<Time>,
    /// When its state last changed; what `seen` of a retry means.
    updated_at: Time,
    /// How often the relay that held it died.
    takeovers: u32,
}

impl From<DeliveryView> for DeliveryJson {
    fn from(view: DeliveryView) -> Self {
        Self {
            event_id: view.event_id.to_string(),
            target: view.target.to_string(),
            event_type: view.event_type,
            subject: view.subject,
            state: StateWord(view.state),
            reason: view.reason,
            attempts: view.attempts,
            last_status: view.last_status,
            last_error: view.last_error.map(ErrorWord),
            due_at: view.due_at.map(Time),
            updated_at: Time(view.updated_at),
            takeovers: view.takeovers,
        }
    }
}

/// One delivery with its attempts.
#[derive(Serialize, ToSchema)]
pub struct DeliveryDetailJson {
    #[serde(flatten)]
    delivery: DeliveryJson,
    /// The newest attempts, oldest first.
    attempts_kept: Vec<AttemptJson>,
}

impl From<DeliveryDetail> for DeliveryDetailJson {
    fn from(detail: DeliveryDetail) -> Self {
        let attempts_kept = detail.attempts.into_iter().map(AttemptJson::from).collect();
        Self { delivery: detail.view.into(), attempts_kept }
    }
}

/// One attempt.
#[derive(Serialize, ToSchema)]
struct AttemptJson {
    number: u32,
    at: Time,
    took_ms: u64,
    #[schema(required)]
    status: Option<u16>,
    #[schema(required)]
    error: Option<ErrorWord>,
    /// The start of the reply's body.
    reply: String,
    /// Whether there was more of it.
    reply_truncated: bool,
}

impl From<Attempt> for AttemptJson {
    fn from(attempt: Attempt) -> Self {
        Self {
            number: attempt.number,
            at: Time(attempt.at),
            took_ms: attempt.took.as_millis() as u64,
            status: attempt.status,
            error: attempt.error.map(ErrorWord),
            reply: String::from_utf8_lossy(&attempt.reply).into_owned(),
            reply_truncated: attempt.reply_read == ReplyRead::Truncated,
        }
    }
}
