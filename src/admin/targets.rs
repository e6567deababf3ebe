//! `/api/v1/targets…`: the state of every target, and what an operator does to one. What is so already stays so, answers
//! 204 and is not written into the audit.

use axum::Json;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::Actor;
use super::asked::{Named, Nothing, Params, parsed};
use super::noted::{Deed, noted};
use super::problem::{Problem, answers};
use super::stats::{Attempts, last_hour};
use super::views::target::{OverviewJson, TargetJson};
use super::{Answer, Deps};
use crate::event::TargetName;
use crate::lifecycle::breaker::{Phase, RECOVERY_SPREAD};
use crate::store::query::{TargetOverview, TargetStatus};
use crate::store::{Control, Controlled, PauseReason, Turn};
use crate::telemetry::controls::{self, By, Closed};
use crate::telemetry::tally::Counted;

/// The answer where a path names a target that the store never heard of, or has forgotten.
pub const NO_TARGET: Problem = Problem::NotFound("the store knows no such target");

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Deps> {
    OpenApiRouter::new()
        .routes(routes!(targets))
        .routes(routes!(target, forget))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(close_breaker))
}

/// The state of the store and of every target
#[utoipa::path(get, path = "/targets", tag = "targets", operation_id = "listTargets",
    responses((status = 200, description = "All targets", body = OverviewJson), answers::Always))]
async fn targets(Shared(deps): Shared<Deps>, _: Params<Nothing>) -> Answer<OverviewJson> {
    let (overview, tallies) = (deps.store.overview().await?, last_hour(&deps).await?);
    let attempts = |target: &TargetOverview| Attempts::among(&tallies, &Counted::Target(target.name.clone()));
    Ok(Json(OverviewJson::of(overview, attempts)))
}

/// The state of one target
#[utoipa::path(get, path = "/targets/{target}", tag = "targets", operation_id = "getTarget",
    params(("target" = String, Path, description = "Its name", pattern = "^[a-z0-9_-]{1,40}$")),
    responses((status = 200, description = "The target", body = TargetJson), answers::Named))]
async fn target(
    Shared(deps): Shared<Deps>, Named(target): Named<String>, _: Params<Nothing>,
) -> Answer<TargetJson> {
    let target = look(&deps, &target).await?;
    let attempts = Attempts::among(&last_hour(&deps).await?, &Counted::Target(target.name.clone()));
    Ok(Json(TargetJson::of(target, attempts)))
}

/// Take nothing more until it is resumed; everything is kept
#[utoipa::path(post, path = "/targets/{target}/pause", tag = "targets", operation_id = "pauseTarget",
    params(("target" = String, Path, description = "Its name", pattern = "^[a-z0-9_-]{1,40}$")),
    responses((status = 204, description = "It is paused"), answers::Named))]
async fn pause(
    actor: Actor, Shared(deps): Shared<Deps>, Named(target): Named<String>, _: Params<Nothing>,
) -> Result<StatusCode, Problem> {
    let target = look(&deps, &target).await?;
    if matches!(target.status, TargetStatus::Paused(_)) {
        return Ok(StatusCode::NO_CONTENT);
    }
    control(&deps, &actor, &target, "target.paused", Control::Pause(PauseReason::Operator)).await
}

/// Go on with a paused target
#[utoipa::path(post, path = "/targets/{target}/resume", tag = "targets", operation_id = "resumeTarget",
    params(("target" = String, Path, description = "Its name", pattern = "^[a-z0-9_-]{1,40}$")),
    responses((status = 204, description = "It is not paused"), answers::Named))]
async fn resume(
    actor: Actor, Shared(deps): Shared<Deps>, Named(target): Named<String>, _: Params<Nothing>,
) -> Result<StatusCode, Problem> {
    let target = look(&deps, &target).await?;
    if target.status == TargetStatus::Active {
        return Ok(StatusCode::NO_CONTENT);
    }
    control(&deps, &actor, &target, "target.resumed", Control::Resume).await
}

/// Attempt again without waiting for a probe: whoever has repaired the app knows better
#[utoipa::path(post, path = "/targets/{target}/close-breaker", tag = "targets", operation_id = "closeBreaker",
    params(("target" = String, Path, description = "Its name", pattern = "^[a-z0-9_-]{1,40}$")),
    responses((status = 204, description = "The breaker is closed"), answers::Named))]
async fn close_breaker(
    actor: Actor, Shared(deps): Shared<Deps>, Named(target): Named<String>, _: Params<Nothing>,
) -> Result<StatusCode, Problem> {
    let target = look(&deps, &target).await?;
    if matches!(target.breaker.phase, Phase::Closed { .. }) {
        return Ok(StatusCode::NO_CONTENT);
    }
    let turn = Control::Turn { from: target.breaker.revision, to: Turn::Close { spread: RECOVERY_SPREAD } };
    control(&deps, &actor, &target, "breaker.closed", turn).await
}

/// Parameters of `DELETE targets/{target}`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ForgetOptions {
    /// Only count.
    #[serde(default)]
    #[param(required = false)]
    dry_run: bool,
}

/// What forgetting a target would come to.
#[derive(Serialize, ToSchema)]
struct ForgetJson {
    /// Deliveries that would end cancelled.
    cancels: u64,
}

/// Forget a target that has left the configuration; what is unfinished or dead of it ends cancelled
#[utoipa::path(delete, path = "/targets/{target}", tag = "targets", operation_id = "forgetTarget",
    params(("target" = String, Path, description = "Its name", pattern = "^[a-z0-9_-]{1,40}$"), ForgetOptions),
    responses((status = 200, description = "Dry run: what would be cancelled", body = ForgetJson),
        (status = 204, description = "It is forgotten"), answers::Named))]
async fn forget(
    actor: Actor, Shared(deps): Shared<Deps>, Named(target): Named<String>,
    Params(options): Params<ForgetOptions>,
) -> Result<Response, Problem> {
    let target = look(&deps, &target).await?;
    if target.status != TargetStatus::Orphan {
        return Err(configured());
    }
    if options.dry_run {
        return Ok(Json(ForgetJson { cancels: unended(&target) }).into_response());
    }
    Ok(control(&deps, &actor, &target, "target.forgotten", Control::Forget).await?.into_response())
}

fn configured() -> Problem {
    let message = "this target is configured; only one that has left the configuration can be forgotten";
    Problem::Conflict("configured", message.to_owned())
}

/// Its deliveries that have not ended, dead ones included.
fn unended(target: &TargetOverview) -> u64 {
    target.queued + target.in_flight + target.waiting + target.parked + target.dead
}

async fn look(deps: &Deps, name: &str) -> Result<TargetOverview, Problem> {
    let name: TargetName = parsed("target", name)?;
    let targets = deps.store.overview().await?.targets;
    targets.into_iter().find(|one| one.name == name).ok_or(NO_TARGET)
}

async fn control(
    deps: &Deps, actor: &Actor, target: &TargetOverview, action: &'static str, control: Control,
) -> Result<StatusCode, Problem> {
    let detail = match control {
        Control::Forget => format!("{} deliveries not ended", unended(target)),
        Control::Pause(_) | Control::Resume | Control::Turn { .. } => String::new(),
    };
    let deed = Deed { action, object: target.name.to_string(), detail };
    noted(deps, actor, deed, async {
        match (deps.store.control(&target.name, control).await?, control) {
            (Controlled::Changed, _) => {
                tell(deps, actor, target, control);
                Ok(StatusCode::NO_CONTENT)
            }
            (Controlled::Unchanged, _) => Ok(StatusCode::NO_CONTENT),
            (Controlled::Refused, Control::Forget) => Err(configured()),
            (Controlled::Refused, Control::Turn { .. }) => Err(Problem::Conflict(
                "changed_meanwhile",
                "the breaker was turned meanwhile: look again".to_owned(),
            )),
            (Controlled::Refused, Control::Pause(_) | Control::Resume) => Err(NO_TARGET),
        }
    })
    .await
}

/// Tells those who listen, as it is told when the relay itself does so.
fn tell(deps: &Deps, actor: &Actor, target: &TargetOverview, control: Control) {
    let (telemetry, at, by) = (&deps.telemetry, deps.clock.now(), By::Operator(actor.name()));
    match control {
        Control::Pause(_) => controls::paused(telemetry, at, &target.name, by),
        Control::Resume => controls::resumed(telemetry, at, &target.name, by),
        Control::Turn { .. } => {
            let closed = match target.breaker.phase {
                Phase::Open { since, failed_probes, .. } => {
                    Closed { open_for: Some(at.since(since)), failed_probes: Some(failed_probes) }
                }
                Phase::Closed { .. } => Closed::default(),
            };
            controls::breaker_closed(telemetry, at, &target.name, by, closed);
        }
        Control::Forget => {}
    }
}
