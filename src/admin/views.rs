//! The JSON of the admin API: the port's answers with their names and units. Times are RFC 3339 in UTC. Never a payload.

use serde::Serialize;

use crate::clock::Timestamp;
use crate::lifecycle::attempt::{Attempt, ErrorClass, ReplyRead};
use crate::lifecycle::breaker::{Breaker, Phase};
use crate::lifecycle::hint::Hint;
use crate::store::ledger::Refusal;
use crate::store::query::{
    DeliveryDetail, DeliveryView, EventDetail, EventMeta, Overview, Paged, TargetOverview, TargetStatus,
};

/// One page of a list.
#[derive(Serialize)]
pub struct PageJson<T> {
    rows: Vec<T>,
    /// Give it back as `cursor` for the next page.
    next: Option<String>,
}

impl<T> PageJson<T> {
    /// The page with its rows as JSON.
    pub fn of<R>(page: Paged<R>, row: impl Fn(R) -> T) -> Self {
        Self {
            next: page.next.map(|cursor| cursor.to_string()),
            rows: page.rows.into_iter().map(row).collect(),
        }
    }
}

fn time(at: Timestamp) -> String {
    at.to_string()
}

/// An event in a list.
#[derive(Serialize)]
pub struct EventJson {
    id: String,
    accepted_at: String,
    source: String,
    svix_id: String,
    #[serde(rename = "type")]
    event_type: String,
    subject: Option<String>,
    body_bytes: u64,
}

impl From<EventMeta> for EventJson {
    fn from(meta: EventMeta) -> Self {
        let accepted_ms = i64::try_from(meta.id.ms).unwrap_or(i64::MAX);
        Self {
            id: meta.id.to_string(),
            accepted_at: time(Timestamp::from_ms(accepted_ms)),
            source: meta.source.to_string(),
            svix_id: meta.svix_id,
            event_type: meta.event_type,
            subject: meta.subject,
            body_bytes: meta.body_bytes,
        }
    }
}

/// One event with all that happened to it.
#[derive(Serialize)]
pub struct EventDetailJson {
    #[serde(flatten)]
    event: EventJson,
    #[serde(flatten)]
    received: Option<ReceivedJson>,
    deliveries: Vec<DeliveryDetailJson>,
}

/// How an event came in; absent where its frame cannot be read.
#[derive(Serialize)]
struct ReceivedJson {
    received_at: String,
    born_at: String,
    late_ms: u64,
    signed_at: String,
    instance_id: Option<String>,
    secret: String,
    remote: Option<String>,
    user_agent: Option<String>,
}

/// One delivery with its attempts.
#[derive(Serialize)]
struct DeliveryDetailJson {
    #[serde(flatten)]
    delivery: DeliveryJson,
    attempts_kept: Vec<AttemptJson>,
}

impl From<EventDetail> for EventDetailJson {
    fn from(detail: EventDetail) -> Self {
        let received = detail.event.map(|event| ReceivedJson {
            received_at: time(event.received_at),
            born_at: time(event.born_at()),
            late_ms: event.received_at.since(event.born_at()).as_millis() as u64,
            signed_at: time(event.signed_at),
            instance_id: event.instance_id.as_deref().map(str::to_owned),
            secret: event.secret_id.to_string(),
            remote: event.remote.as_deref().map(str::to_owned),
            user_agent: event.user_agent.as_deref().map(str::to_owned),
        });
        let deliveries = detail.deliveries.into_iter().map(DeliveryDetailJson::from).collect();
        Self { event: detail.meta.into(), received, deliveries }
    }
}

impl From<DeliveryDetail> for DeliveryDetailJson {
    fn from(detail: DeliveryDetail) -> Self {
        let attempts_kept = detail.attempts.into_iter().map(AttemptJson::from).collect();
        Self { delivery: detail.view.into(), attempts_kept }
    }
}

/// A delivery in a list.
#[derive(Serialize)]
pub struct DeliveryJson {
    event_id: String,
    target: String,
    #[serde(rename = "type")]
    event_type: String,
    subject: Option<String>,
    state: &'static str,
    reason: Option<String>,
    attempts: u32,
    last_status: Option<u16>,
    last_error: Option<&'static str>,
    /// What the last attempt looks like, where that is known.
    last_hint: Option<HintJson>,
    due_at: Option<String>,
    updated_at: String,
    takeovers: u32,
}

impl From<DeliveryView> for DeliveryJson {
    fn from(view: DeliveryView) -> Self {
        Self {
            event_id: view.event_id.to_string(),
            target: view.target.to_string(),
            event_type: view.event_type,
            subject: view.subject,
            state: view.state.as_str(),
            reason: view.reason,
            attempts: view.attempts,
            last_status: view.last_status,
            last_error: view.last_error.map(ErrorClass::as_str),
            last_hint: view.last_hint.map(HintJson::from),
            due_at: view.due_at.map(time),
            updated_at: time(view.updated_at),
            takeovers: view.takeovers,
        }
    }
}

/// A likely cause, and what to do about it.
#[derive(Serialize)]
struct HintJson {
    code: &'static str,
    text: &'static str,
}

impl From<Hint> for HintJson {
    fn from(hint: Hint) -> Self {
        Self { code: hint.as_str(), text: hint.text() }
    }
}

/// One attempt.
#[derive(Serialize)]
struct AttemptJson {
    number: u32,
    at: String,
    took_ms: u64,
    status: Option<u16>,
    error: Option<&'static str>,
    /// What it looks like, where that is known.
    hint: Option<HintJson>,
    reply: String,
    reply_truncated: bool,
}

impl From<Attempt> for AttemptJson {
    fn from(attempt: Attempt) -> Self {
        Self {
            number: attempt.number,
            at: time(attempt.at),
            took_ms: attempt.took.as_millis() as u64,
            status: attempt.status,
            error: attempt.error.map(ErrorClass::as_str),
            hint: attempt.hint.map(HintJson::from),
            reply: String::from_utf8_lossy(&attempt.reply).into_owned(),
            reply_truncated: attempt.reply_read == ReplyRead::Truncated,
        }
    }
}

/// The state of the store and its targets.
#[derive(Serialize)]
pub struct OverviewJson {
    events: u64,
    store_bytes: u64,
    store_bytes_max: u64,
    durability: &'static str,
    targets: Vec<TargetJson>,
}

#[derive(Serialize)]
struct TargetJson {
    name: String,
    status: &'static str,
    paused_by: Option<&'static str>,
    queued: u64,
    in_flight: u64,
    waiting: u64,
    parked: u64,
    dead: u64,
    oldest_unfinished_at: Option<String>,
    breaker: BreakerJson,
}

#[derive(Serialize)]
struct BreakerJson {
    state: &'static str,
    /// When it opened or, where it is closed, when it last closed.
    since: Option<String>,
    failed_probes: u32,
    next_probe_at: Option<String>,
}

impl From<Breaker> for BreakerJson {
    fn from(breaker: Breaker) -> Self {
        match breaker.phase {
            Phase::Closed { since } => {
                Self { state: "closed", since: since.map(time), failed_probes: 0, next_probe_at: None }
            }
            Phase::Open { since, failed_probes, probe_at } => Self {
                state: "open",
                since: Some(time(since)),
                failed_probes,
                next_probe_at: Some(time(probe_at)),
            },
        }
    }
}

impl From<Overview> for OverviewJson {
    fn from(overview: Overview) -> Self {
        Self {
            events: overview.events,
            store_bytes: overview.size_bytes,
            store_bytes_max: overview.size_max_bytes,
            durability: overview.durability.as_str(),
            targets: overview.targets.into_iter().map(TargetJson::from).collect(),
        }
    }
}

impl From<TargetOverview> for TargetJson {
    fn from(target: TargetOverview) -> Self {
        let (status, paused_by) = match target.status {
            TargetStatus::Active => ("active", None),
            TargetStatus::Paused(reason) => ("paused", Some(reason.as_str())),
            TargetStatus::Orphan => ("orphan", None),
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
            oldest_unfinished_at: target.oldest_unfinished.map(time),
            breaker: target.breaker.into(),
        }
    }
}

/// A refused request.
#[derive(Serialize)]
pub struct RefusalJson {
    at: String,
    source: Option<String>,
    status: u16,
    code: String,
    cause: String,
    remote: Option<String>,
    svix_id: Option<String>,
    user_agent: Option<String>,
    body_bytes: u64,
}

impl From<Refusal> for RefusalJson {
    fn from(refusal: Refusal) -> Self {
        Self {
            at: time(refusal.at),
            source: refusal.source.map(|name| name.to_string()),
            status: refusal.status,
            code: refusal.code,
            cause: refusal.cause,
            remote: refusal.remote,
            svix_id: refusal.svix_id,
            user_agent: refusal.user_agent,
            body_bytes: refusal.body_bytes,
        }
    }
}
