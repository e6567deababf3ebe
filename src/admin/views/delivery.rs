//! Deliveries and their attempts as JSON. What an app replied may repeat the payload, so it is shown like that.

use serde::Serialize;
use utoipa::ToSchema;

use super::event::Shown;
use super::{ErrorWord, HintWord, StateWord, Time};
use crate::event::redaction::{RedactedReply, redact_reply};
use crate::lifecycle::attempt::{Attempt, ReplyRead};
use crate::lifecycle::hint::Hint;
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
    /// What the last attempt looks like, where that is known.
    #[schema(required)]
    last_hint: Option<HintJson>,
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
            last_hint: view.last_hint.map(HintJson::from),
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

impl DeliveryDetailJson {
    /// The delivery with as much of the replies as `shown` says; `body` is the event's, where it can be read.
    pub fn of(detail: DeliveryDetail, body: Option<&[u8]>, shown: Shown) -> Self {
        let reply = |reply: &[u8]| match shown {
            Shown::Whole => Some(String::from_utf8_lossy(reply).into_owned()),
            Shown::Redacted => match redact_reply(&detail.view.event_type, body, reply) {
                RedactedReply::Shown(text) => Some(text),
                RedactedReply::Withheld => None,
            },
        };
        let attempt =
            |attempt: Attempt| AttemptJson { reply: reply(&attempt.reply), ..AttemptJson::from(attempt) };
        let attempts_kept = detail.attempts.into_iter().map(attempt).collect();
        Self { delivery: detail.view.into(), attempts_kept }
    }
}

/// A likely cause, and what to do about it.
#[derive(Serialize, ToSchema)]
struct HintJson {
    /// For programs.
    code: HintWord,
    /// For people.
    text: &'static str,
}

impl From<Hint> for HintJson {
    fn from(hint: Hint) -> Self {
        Self { code: HintWord(hint), text: hint.text() }
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
    /// What it looks like, where that is known.
    #[schema(required)]
    hint: Option<HintJson>,
    /// The start of the reply's body without what it repeats of the payload's secrets; null where it could repeat
    /// anything of a payload that is secret as a whole. Whole with `reveal`.
    #[schema(required)]
    reply: Option<String>,
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
            hint: attempt.hint.map(HintJson::from),
            reply: None,
            reply_truncated: attempt.reply_read == ReplyRead::Truncated,
        }
    }
}
