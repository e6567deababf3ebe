//! `/metrics`: what is counted and what the store says of itself at the moment, in the text form of OpenMetrics 1.0. For
//! any token, or without tokens for whoever is on this machine.

use axum::extract::State;
use axum::http::{HeaderName, header};
use axum::routing::get;
use axum::{Router, middleware};

use super::problem::Problem;
use super::{Deps, access};
use crate::store::figures;

/// What scrapers must be told to read it as OpenMetrics.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The route, with its own rule of access.
pub fn routes(deps: &Deps) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(|| async { Problem::MethodNotAllowed })
        .layer(middleware::from_fn_with_state(deps.tokens.clone(), access::check_scrape))
        .with_state(deps.clone())
}

/// Asks the store at most once a second, however many scrape.
async fn metrics(State(deps): State<Deps>) -> ([(HeaderName, &'static str); 2], String) {
    let health = deps.readiness.health().await;
    let text = deps.telemetry.meters.encode(&figures::of(&health));
    ([(header::CONTENT_TYPE, CONTENT_TYPE), (header::CACHE_CONTROL, "no-store")], text)
}
