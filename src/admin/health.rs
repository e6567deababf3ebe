//! How the relay is: `/health/live` and `/health/ready` of the admin listener, without a token and without details, and
//! `GET /api/v1/health` with them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::asked::{Nothing, Params};
use super::problem::answers;
use super::views::health::HealthJson;
use super::{Answer, Deps};
use crate::store::readiness::{Readiness, Ready};

/// Status and text of a probe's answer.
type Probed = (StatusCode, &'static str);

/// The route below `/api/v1`.
pub fn routes() -> OpenApiRouter<Deps> {
    OpenApiRouter::new().routes(routes!(health))
}

/// How the relay is, and why it is not as it should be
#[utoipa::path(get, path = "/health", tag = "relay", operation_id = "getHealth",
    responses((status = 200, description = "How it is, also where events are not taken", body = HealthJson),
        answers::Always))]
async fn health(Shared(deps): Shared<Deps>, _: Params<Nothing>) -> Answer<HealthJson> {
    Ok(Json(deps.readiness.health().await.into()))
}

/// The routes that need no token.
pub fn probes() -> OpenApiRouter<Arc<Readiness>> {
    OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready))
}

/// The process is there
#[utoipa::path(get, path = "/health/live", tag = "relay", operation_id = "isLive", security(()),
    responses((status = 200, description = "It is", body = String)))]
async fn live() -> Probed {
    answer(Ready::Yes)
}

/// Whether an event that comes now would be kept
#[utoipa::path(get, path = "/health/ready", tag = "relay", operation_id = "isReady", security(()),
    responses((status = 200, description = "It would", body = String),
        (status = 503, description = "It would not", body = String)))]
async fn ready(Shared(readiness): Shared<Arc<Readiness>>) -> Probed {
    answer(readiness.ask().await)
}

fn answer(ready: Ready) -> Probed {
    let status = match ready {
        Ready::Yes | Ready::Degraded => StatusCode::OK,
        Ready::No => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, ready.as_str())
}
