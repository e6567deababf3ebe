//! `/health/live` and `/health/ready` of the admin listener, without a token and without details.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::store::readiness::{Readiness, Ready};

/// Status and text of an answer.
type Answer = (StatusCode, &'static str);

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Arc<Readiness>> {
    OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready))
}

/// The process is there
#[utoipa::path(get, path = "/health/live", tag = "relay", operation_id = "isLive", security(()),
    responses((status = 200, description = "It is", body = String)))]
async fn live() -> Answer {
    answer(Ready::Yes)
}

/// Whether an event that comes now would be kept
#[utoipa::path(get, path = "/health/ready", tag = "relay", operation_id = "isReady", security(()),
    responses((status = 200, description = "It would", body = String),
        (status = 503, description = "It would not", body = String)))]
async fn ready(State(readiness): State<Arc<Readiness>>) -> Answer {
    answer(readiness.ask().await)
}

fn answer(ready: Ready) -> Answer {
    let status = match ready {
        Ready::Yes | Ready::Degraded => StatusCode::OK,
        Ready::No => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, ready.as_str())
}
