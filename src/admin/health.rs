//! `/health/live` and `/health/ready` of the admin listener, without a token and without details.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};

use crate::store::readiness::{Readiness, Ready};

/// Status, header and text of an answer.
type Answer = (StatusCode, [(HeaderName, &'static str); 1], &'static str);

/// The process is there.
pub async fn live() -> Answer {
    answer(Ready::Yes)
}

/// Whether an event that comes now would be kept.
pub async fn ready(State(readiness): State<Arc<Readiness>>) -> Answer {
    answer(readiness.ask().await)
}

fn answer(ready: Ready) -> Answer {
    let status = match ready {
        Ready::Yes | Ready::Degraded => StatusCode::OK,
        Ready::No => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, [(header::CACHE_CONTROL, "no-store")], ready.as_str())
}
