//! Events as JSON. The payload is shown redacted, or whole where [`Shown::Whole`] was allowed; what the apps replied
//! may echo it and is treated alike.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::Time;
use super::delivery::DeliveryDetailJson;
use crate::clock::Timestamp;
use crate::event::Event;
use crate::event::redaction::{Redacted, redact};
use crate::store::query::{EventDetail, EventMeta, Payload};

/// An event in a list.
#[derive(Serialize, ToSchema)]
pub struct EventJson {
    #[schema(pattern = "^evt_[0-9a-f]{20}$")]
    id: String,
    accepted_at: Time,
    source: String,
    /// The sender's id of it, unique per source only.
    svix_id: String,
    #[serde(rename = "type")]
    event_type: String,
    #[schema(required)]
    subject: Option<String>,
    body_bytes: u64,
}

impl From<EventMeta> for EventJson {
    fn from(meta: EventMeta) -> Self {
        let accepted_ms = i64::try_from(meta.id.ms).unwrap_or(i64::MAX);
        Self {
            id: meta.id.to_string(),
            accepted_at: Time(Timestamp::from_ms(accepted_ms)),
            source: meta.source.to_string(),
            svix_id: meta.svix_id,
            event_type: meta.event_type,
            subject: meta.subject,
            body_bytes: meta.body_bytes,
        }
    }
}

/// One event with all that happened to it.
#[derive(Serialize, ToSchema)]
pub struct EventDetailJson {
    #[serde(flatten)]
    event: EventJson,
    #[serde(flatten)]
    received: ReceivedJson,
    payload_state: PayloadState,
    /// The body as JSON; null where `payload_state` says why.
    #[schema(required, value_type = Value)]
    payload: Option<Value>,
    /// One for each target.
    deliveries: Vec<DeliveryDetailJson>,
}

/// How an event came in; all null where it cannot be read any more.
#[derive(Default, Serialize, ToSchema)]
struct ReceivedJson {
    #[schema(required)]
    received_at: Option<Time>,
    /// When the sender made it.
    #[schema(required)]
    born_at: Option<Time>,
    /// From then to its receipt.
    #[schema(required)]
    late_ms: Option<u64>,
    /// When the sender made the attempt that arrived.
    #[schema(required)]
    signed_at: Option<Time>,
    /// The Clerk instance that sent it.
    #[schema(required)]
    instance_id: Option<String>,
    /// The fingerprint of the secret that matched.
    #[schema(required)]
    secret: Option<String>,
    #[schema(required)]
    remote: Option<String>,
    #[schema(required)]
    user_agent: Option<String>,
}

impl From<&Event> for ReceivedJson {
    fn from(event: &Event) -> Self {
        Self {
            received_at: Some(Time(event.received_at)),
            born_at: Some(Time(event.born_at())),
            late_ms: Some(event.received_at.since(event.born_at()).as_millis() as u64),
            signed_at: Some(Time(event.signed_at)),
            instance_id: event.instance_id.as_deref().map(str::to_owned),
            secret: Some(event.secret_id.to_string()),
            remote: event.remote.as_deref().map(str::to_owned),
            user_agent: event.user_agent.as_deref().map(str::to_owned),
        }
    }
}

/// How a payload is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum PayloadState {
    /// Without its secrets.
    Redacted,
    /// Whole.
    Revealed,
    /// It was erased.
    Erased,
    /// What the store has of it cannot be read.
    Unreadable,
    /// It is not JSON; its bytes are at `…/body`.
    NotJson,
}

/// How much of a payload is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// What holds no secret.
    Redacted,
    /// All.
    Whole,
}

impl EventDetailJson {
    /// The event with as much of its payload as `shown` says.
    pub fn of(detail: EventDetail, shown: Shown) -> Self {
        let (payload_state, payload) = payload(&detail, shown);
        let received = detail.event.as_ref().map(ReceivedJson::from).unwrap_or_default();
        let body = detail.event.as_ref().map(|event| &event.body[..]);
        let deliveries = detail.deliveries.into_iter();
        let deliveries = deliveries.map(|delivery| DeliveryDetailJson::of(delivery, body, shown)).collect();
        Self { event: detail.meta.into(), received, payload_state, payload, deliveries }
    }
}

fn payload(detail: &EventDetail, shown: Shown) -> (PayloadState, Option<Value>) {
    if detail.meta.payload == Payload::Erased {
        return (PayloadState::Erased, None);
    }
    let Some(event) = &detail.event else { return (PayloadState::Unreadable, None) };
    let (state, payload) = match shown {
        Shown::Whole => (PayloadState::Revealed, serde_json::from_slice(&event.body).ok()),
        Shown::Redacted => match redact(&event.event_type, &event.body) {
            Redacted::Json(payload) => (PayloadState::Redacted, Some(payload)),
            Redacted::NotJson => (PayloadState::Redacted, None),
        },
    };
    if payload.is_none() { (PayloadState::NotJson, None) } else { (state, payload) }
}
