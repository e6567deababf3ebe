//! What an operator does is written down: one entry in the audit and one line in the log, each with the token's name.
//! The entry comes first, so that nothing is ever done or shown without one; where the store cannot take it, the
//! request fails and nothing was done. What then fails after all gets a second entry that says so.

use tracing::{info, warn};

use super::Deps;
use super::access::Actor;
use super::problem::Problem;
use crate::store::ledger::{AuditEntry, AuditQuery};

/// Something that an operator does.
#[derive(Debug, Clone)]
pub struct Deed {
    /// Such as `delivery.retried`.
    pub action: &'static str,
    /// Upon what: an event's id, a target's name, a job's number, a subject.
    pub object: String,
    /// What it changes, in words; may be empty. Never a payload or a secret.
    pub detail: String,
}

/// Writes `deed` down, then does it.
///
/// # Errors
/// The store's, where it cannot be written down (then nothing was done), and those of `doing`.
pub async fn noted<T>(
    deps: &Deps, actor: &Actor, deed: Deed, doing: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    append(deps, actor, deed.clone()).await?;
    let Deed { action, object, detail } = &deed;
    let actor_name = actor.name();
    match doing.await {
        Ok(done) => {
            info!(actor = actor_name, object, detail, "admin.{action}");
            Ok(done)
        }
        Err(problem) => {
            let reason = problem.code();
            info!(actor = actor_name, object, action, reason, "admin.not_done");
            let detail = format!("not done: {reason}");
            if let Err(problem) = append(deps, actor, Deed { detail, ..deed }).await {
                warn!(reason = problem.code(), "admin.not_recorded"); // the first entry is there, and the log
            }
            Err(problem)
        }
    }
}

async fn append(deps: &Deps, actor: &Actor, deed: Deed) -> Result<(), Problem> {
    let Deed { action, object, detail } = deed;
    let (at, actor) = (deps.clock.now(), actor.name().to_owned());
    let entry = AuditEntry { at, actor, action: action.to_owned(), object, detail };
    deps.store.audit(AuditQuery::Append(entry)).await?;
    Ok(())
}
