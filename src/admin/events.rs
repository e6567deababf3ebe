//! `GET /api/v1/events…`: which events came, and one event with its payload and all that happened to it. Who sees a
//! payload whole is written into the audit before it is shown.

use axum::Json;
use axum::extract::State as Shared;
use axum::http::{HeaderName, header};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::Actor;
use super::asked::lists::EventParams;
use super::asked::{Named, Nothing, Params};
use super::noted::{Deed, noted};
use super::problem::{Problem, answers};
use super::views::PageJson;
use super::views::event::{EventDetailJson, EventJson, Shown};
use super::{Answer, Deps};
use crate::store::query::{EventDetail, EventLookup, EventRef, Payload};

/// Where an event's body is not there.
const NO_BODY: Problem = Problem::NotFound("the payload of this event was erased or cannot be read");

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Deps> {
    OpenApiRouter::new().routes(routes!(events)).routes(routes!(event)).routes(routes!(body))
}

/// Events, newest first
#[utoipa::path(get, path = "/events", tag = "events", operation_id = "listEvents", params(EventParams),
    responses((status = 200, description = "A page", body = PageJson<EventJson>), answers::Always))]
async fn events(
    Shared(deps): Shared<Deps>, Params(params): Params<EventParams>,
) -> Answer<PageJson<EventJson>> {
    let (query, page) = params.read()?;
    Ok(Json(PageJson::of(deps.store.events(query, page).await?, EventJson::from)))
}

/// Parameters of `GET events/{event}`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct EventOptions {
    /// Show the payload whole. Takes a token that can write; is recorded in the audit.
    #[serde(default)]
    #[param(required = false)]
    reveal: bool,
}

/// One event with its payload, its deliveries and their attempts
#[utoipa::path(get, path = "/events/{event}", tag = "events", operation_id = "getEvent",
    params(("event" = String, Path, description = "Its id or its svix-id", min_length = 1), EventOptions),
    responses((status = 200, description = "The event", body = EventDetailJson), answers::Named))]
async fn event(
    actor: Actor, Shared(deps): Shared<Deps>, Named(event): Named<String>,
    Params(options): Params<EventOptions>,
) -> Answer<EventDetailJson> {
    if !options.reveal {
        return Ok(Json(EventDetailJson::of(find(&deps, &event).await?, Shown::Redacted)));
    }
    actor.must_write()?;
    let detail = find(&deps, &event).await?;
    let deed = revealed(&detail, "as JSON");
    noted(&deps, &actor, deed, async { Ok(Json(EventDetailJson::of(detail, Shown::Whole))) }).await
}

/// The body of one event as it was received, byte for byte
///
/// Takes a token that can write; is recorded in the audit.
#[utoipa::path(get, path = "/events/{event}/body", tag = "events", operation_id = "getEventBody",
    params(("event" = String, Path, description = "Its id or its svix-id", min_length = 1)),
    responses((status = 200, description = "The bytes", body = Vec<u8>, content_type = "application/octet-stream"),
        answers::Named))]
async fn body(
    actor: Actor, Shared(deps): Shared<Deps>, Named(event): Named<String>, _: Params<Nothing>,
) -> Result<([(HeaderName, &'static str); 1], bytes::Bytes), Problem> {
    actor.must_write()?;
    let detail = find(&deps, &event).await?;
    let kept = detail.event.as_ref().filter(|_| detail.meta.payload == Payload::Kept);
    let body = kept.ok_or(NO_BODY)?.body.clone();
    // What it is stays open, so that no browser ever renders what somebody sent.
    let content_type = [(header::CONTENT_TYPE, "application/octet-stream")];
    noted(&deps, &actor, revealed(&detail, "as bytes"), async { Ok((content_type, body)) }).await
}

fn revealed(detail: &EventDetail, how: &str) -> Deed {
    let object = detail.meta.id.to_string();
    Deed { action: "payload.revealed", object, detail: format!("{} {how}", detail.meta.event_type) }
}

/// The event with this id or `svix-id`.
///
/// # Errors
/// 404 where there is none, 409 where a `svix-id` names several.
pub async fn find(deps: &Deps, event: &str) -> Result<EventDetail, Problem> {
    match deps.store.event(EventRef::from(event)).await? {
        EventLookup::None => Err(Problem::NotFound("no such event is kept")),
        EventLookup::One(detail) => Ok(*detail),
        EventLookup::Many(ids) => {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            let message = format!("several sources had this svix-id; ask for one of {}", ids.join(", "));
            Err(Problem::Conflict("ambiguous", message))
        }
    }
}
