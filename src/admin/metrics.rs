//! `/metrics`: what is counted and what the store says of itself at the moment, in the text form of OpenMetrics 1.0. For
//! any token, or without tokens for whoever is on this machine.

use axum::extract::State as Shared;
use axum::http::{HeaderName, header};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Deps;
use super::problem::answers;
use crate::store::figures;

/// What scrapers must be told to read it as OpenMetrics.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Deps> {
    OpenApiRouter::new().routes(routes!(metrics))
}

/// Metrics for a scraper
///
/// Any token will do. Asks the store at most once a second, however many scrape.
#[utoipa::path(get, path = "/metrics", tag = "relay", operation_id = "getMetrics",
    responses((status = 200, description = "OpenMetrics text", body = String,
            content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        answers::Always))]
async fn metrics(Shared(deps): Shared<Deps>) -> ([(HeaderName, &'static str); 1], String) {
    let health = deps.readiness.health().await;
    let text = deps.telemetry.meters.encode(&figures::of(&health));
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text)
}
