//! Refusals and the audit as JSON.

use serde::Serialize;
use utoipa::ToSchema;

use super::Time;
use crate::store::ledger::{AuditEntry, Refusal};

/// A refused request.
#[derive(Serialize, ToSchema)]
pub struct RefusalJson {
    at: Time,
    /// The source, where the path named one.
    #[schema(required)]
    source: Option<String>,
    /// The status that was answered.
    status: u16,
    code: String,
    /// The likely cause.
    cause: String,
    #[schema(required)]
    remote: Option<String>,
    /// The id it carried, not believed.
    #[schema(required)]
    svix_id: Option<String>,
    #[schema(required)]
    user_agent: Option<String>,
    /// How much of a body came.
    body_bytes: u64,
}

impl From<Refusal> for RefusalJson {
    fn from(refusal: Refusal) -> Self {
        Self {
            at: Time(refusal.at),
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

/// What somebody did.
#[derive(Serialize, ToSchema)]
pub struct AuditJson {
    at: Time,
    /// The token's name, or `local` where there are no tokens.
    actor: String,
    /// Such as `delivery.retried`.
    action: String,
    /// Upon what: an event's id, a target's name, a job's number, a subject.
    object: String,
    /// What it changed; may be empty.
    detail: String,
}

impl From<AuditEntry> for AuditJson {
    fn from(entry: AuditEntry) -> Self {
        let AuditEntry { at, actor, action, object, detail } = entry;
        Self { at: Time(at), actor, action, object, detail }
    }
}
