//! `/api/v1/deliveries…` and `/api/v1/dead-letters`: lists, and what an operator does to one delivery. Two operators who
//! press the same button move a delivery once: the change is bound to the state that was looked at.

use std::time::Duration;

use axum::Json;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::Actor;
use super::asked::body::BodyIfAny;
use super::asked::lists::{DeadLetterParams, DeliveryParams};
use super::asked::{Named, Nothing, Params, parsed};
use super::noted::{Deed, noted};
use super::problem::{Problem, answers};
use super::targets::NO_TARGET;
use super::views::PageJson;
use super::views::delivery::DeliveryJson;
use super::{Answer, Deps, events};
use crate::event::TargetName;
use crate::lifecycle::State;
use crate::store::query::{DeliveryQuery, DeliveryView, Mode, Redrive, RedriveAction};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Deps> {
    let lists = OpenApiRouter::new().routes(routes!(deliveries)).routes(routes!(dead_letters));
    lists.routes(routes!(retry)).routes(routes!(discard))
}

/// Deliveries, those of the newest events first
#[utoipa::path(get, path = "/deliveries", tag = "deliveries", operation_id = "listDeliveries",
    params(DeliveryParams),
    responses((status = 200, description = "A page", body = PageJson<DeliveryJson>), answers::Always))]
async fn deliveries(
    Shared(deps): Shared<Deps>, Params(params): Params<DeliveryParams>,
) -> Answer<PageJson<DeliveryJson>> {
    let (query, page) = params.read()?;
    Ok(Json(PageJson::of(deps.store.deliveries(query, page).await?, DeliveryJson::from)))
}

/// Deliveries that were given up, those of the newest events first
#[utoipa::path(get, path = "/dead-letters", tag = "deliveries", operation_id = "listDeadLetters",
    params(DeadLetterParams),
    responses((status = 200, description = "A page", body = PageJson<DeliveryJson>), answers::Always))]
async fn dead_letters(
    Shared(deps): Shared<Deps>, Params(params): Params<DeadLetterParams>,
) -> Answer<PageJson<DeliveryJson>> {
    let (query, page) = params.read()?;
    Ok(Json(PageJson::of(deps.store.deliveries(query, page).await?, DeliveryJson::from)))
}

/// Body of a retry.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
struct RetryBody {
    /// Also where it has ended otherwise than dead: delivered, skipped or cancelled.
    again: bool,
    /// The `updated_at` that was seen; where the delivery has changed since, nothing is done.
    #[schema(value_type = Option<String>, format = DateTime)]
    seen: Option<jiff::Timestamp>,
}

/// Attempt a delivery again, now
///
/// Takes a dead or waiting one; its budget of attempts starts again.
#[utoipa::path(post, path = "/deliveries/{event}/{target}/retry", tag = "deliveries",
    operation_id = "retryDelivery",
    params(("event" = String, Path, description = "The event's id or svix-id", min_length = 1),
        ("target" = String, Path, description = "The target's name", pattern = "^[a-z0-9_-]{1,40}$")),
    request_body = Option<RetryBody>,
    responses((status = 202, description = "It is due", body = DeliveryJson), answers::Bodied))]
async fn retry(
    actor: Actor, Shared(deps): Shared<Deps>, Named((event, target)): Named<(String, String)>,
    _: Params<Nothing>, BodyIfAny(wish): BodyIfAny<RetryBody>,
) -> Result<(StatusCode, Json<DeliveryJson>), Problem> {
    let view = look(&deps, &event, &target).await?;
    if wish.seen.is_some_and(|seen| seen.as_millisecond() != view.updated_at.as_ms()) {
        return Err(changed_meanwhile(&view));
    }
    let action = match view.state {
        State::Dead | State::Waiting => RedriveAction::Retry,
        State::Delivered | State::Skipped | State::Cancelled if wish.again => RedriveAction::Replay,
        State::Delivered | State::Skipped | State::Cancelled => {
            let message =
                format!("this delivery is {}; send \"again\": true to repeat it", view.state.as_str());
            return Err(Problem::Conflict("already_ended", message));
        }
        State::Queued | State::InFlight | State::Parked => {
            let message = format!("this delivery is {}: it is attempted anyway", view.state.as_str());
            return Err(Problem::Conflict("nothing_to_retry", message));
        }
    };
    change(&deps, &actor, view, action, "delivery.retried").await
}

/// End a delivery without another attempt
///
/// Takes one that is queued, waiting, parked or dead; it ends cancelled.
#[utoipa::path(post, path = "/deliveries/{event}/{target}/discard", tag = "deliveries",
    operation_id = "discardDelivery",
    params(("event" = String, Path, description = "The event's id or svix-id", min_length = 1),
        ("target" = String, Path, description = "The target's name", pattern = "^[a-z0-9_-]{1,40}$")),
    responses((status = 202, description = "It is cancelled", body = DeliveryJson), answers::Named))]
async fn discard(
    actor: Actor, Shared(deps): Shared<Deps>, Named((event, target)): Named<(String, String)>,
    _: Params<Nothing>,
) -> Result<(StatusCode, Json<DeliveryJson>), Problem> {
    let view = look(&deps, &event, &target).await?;
    if !RedriveAction::Cancel.moves().contains(&view.state) {
        let message = format!("this delivery is {}: nothing is left to discard", view.state.as_str());
        return Err(Problem::Conflict("nothing_to_discard", message));
    }
    change(&deps, &actor, view, RedriveAction::Cancel, "delivery.discarded").await
}

/// The delivery as it is now.
async fn look(deps: &Deps, event: &str, target: &str) -> Result<DeliveryView, Problem> {
    let target: TargetName = parsed("target", target)?;
    let deliveries = events::find(deps, event).await?.deliveries;
    let found = deliveries.into_iter().map(|detail| detail.view).find(|view| view.target == target);
    found.ok_or(NO_TARGET)
}

fn changed_meanwhile(view: &DeliveryView) -> Problem {
    let (state, since) = (view.state.as_str(), view.updated_at);
    Problem::Conflict("changed_meanwhile", format!("this delivery is {state} since {since}: look again"))
}

/// Moves the delivery, where it still is as `view` shows it, and returns it as it is then.
async fn change(
    deps: &Deps, actor: &Actor, view: DeliveryView, action: RedriveAction, word: &'static str,
) -> Result<(StatusCode, Json<DeliveryJson>), Problem> {
    let redrive = Redrive {
        event: Some(view.event_id),
        query: DeliveryQuery {
            target: Some(view.target.clone()),
            states: vec![view.state],
            ..DeliveryQuery::default()
        },
        action,
        mode: Mode::Apply,
        as_of: Some(view.updated_at),
        spread: Duration::ZERO,
        max: 1,
        after: None,
    };
    let detail = format!("to {}, was {}", view.target, view.state.as_str());
    let deed = Deed { action: word, object: view.event_id.to_string(), detail };
    noted(deps, actor, deed, async {
        let moved = deps.store.redrive(redrive).await?.moved;
        let now = look(deps, &view.event_id.to_string(), view.target.as_str()).await?;
        if moved == 0 { Err(changed_meanwhile(&now)) } else { Ok((StatusCode::ACCEPTED, Json(now.into()))) }
    })
    .await
}
