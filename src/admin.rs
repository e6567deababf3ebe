//! The admin API: what happened to each event, and what an operator must be able to do about it. Stands beside the flow
//! and knows only the store. JSON under `/api/v1`, errors as `{"error":{"code","message"}}`, lists paged by cursor,
//! described at `/openapi.json`. Beside it `/metrics`, `/health/live` and `/health/ready`.
//!
//! Here is what holds for every request: who may make it, how long it may take, what every answer says. The routes stand
//! in the folder beside this file, by theme.

mod access;
mod asked;
mod deliveries;
mod events;
mod health;
mod jobs;
mod log;
mod metrics;
mod noted;
mod openapi;
mod problem;
mod records;
mod stats;
mod stream;
mod targets;
mod views;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::{Json, Router};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::time::timeout;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::clock::Clock;
use crate::config::AdminToken;
use crate::http;
use crate::shutdown::Shutdown;
use crate::store::Store;
use crate::store::job::asking::JobBell;
use crate::store::readiness::Readiness;
use crate::telemetry::Telemetry;

use problem::Problem;

/// A handful of people and a scraper; far below ingress, so that they cannot take its file descriptors.
const CONNECTIONS_MAX: usize = 128;
/// From a request's first byte to the end of its head.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// From a request's head to the head of its answer: above every wait inside it, below the patience of a person.
const ANSWER_DEADLINE: Duration = Duration::from_secs(8);

/// What the admin API works with.
#[derive(Clone)]
pub struct Deps {
    /// What is asked and told.
    pub store: Arc<dyn Store>,
    /// When something was done.
    pub clock: Clock,
    /// Who may use it; empty: whoever reaches the loopback address.
    pub tokens: Arc<[AdminToken]>,
    /// Answers `/health/ready`.
    pub readiness: Arc<Readiness>,
    /// What it serves of what happens.
    pub telemetry: Telemetry,
    /// Rung when a job is started here.
    pub job_bell: JobBell,
}

/// How long a connection may be silent; shorter in tests.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// A connection without a byte in either direction ends after this.
    pub idle: Duration,
    /// A comment is sent on a stream where nothing else was for this long: well below `idle` and the 60 s after which
    /// proxies let go of a connection.
    pub comment_every: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { idle: Duration::from_secs(75), comment_every: Duration::from_secs(15) }
    }
}

/// What a route that only looks answers.
type Answer<T> = Result<Json<T>, Problem>;

/// Serves the API until told to stop.
pub async fn run(listener: TcpListener, deps: Deps, shutdown: Shutdown) {
    run_timed(listener, deps, Timing::default(), shutdown).await;
}

/// The same with other timing.
pub async fn run_timed(listener: TcpListener, deps: Deps, timing: Timing, shutdown: Shutdown) {
    let settings = http::Settings {
        connections: CONNECTIONS_MAX,
        idle_timeout: timing.idle,
        request_deadline: REQUEST_DEADLINE,
    };
    let live = stream::routes(deps.telemetry.feed.clone(), timing.comment_every, shutdown.stop.clone());
    let service = TowerToHyperService::new(router(deps, live));
    http::serve(listener, settings, shutdown, service).await;
}

fn router(deps: Deps, live: OpenApiRouter<Deps>) -> Router {
    let (readiness, tokens) = (deps.readiness.clone(), deps.tokens.clone());
    let (metrics, metrics_described) = metrics::routes().split_for_parts();
    let metrics = metrics
        .method_not_allowed_fallback(|| async { Problem::MethodNotAllowed })
        .layer(middleware::from_fn_with_state(tokens.clone(), access::check_scrape))
        .with_state(deps.clone());
    let (api, described) = api().merge(live).split_for_parts();
    let api = api
        .fallback(|| async { Problem::NotFound("there is no such route") })
        .method_not_allowed_fallback(|| async { Problem::MethodNotAllowed })
        .layer(middleware::from_fn(in_time))
        .layer(middleware::from_fn_with_state(tokens, access::check))
        .with_state(deps);
    let (probes, probes_described) = health::probes().split_for_parts();
    let mut document = openapi::frame().nest("/api/v1", described);
    document.merge(probes_described);
    document.merge(metrics_described);
    Router::new()
        .merge(probes.with_state(readiness))
        .merge(metrics)
        .merge(openapi::routes(&document))
        .method_not_allowed_fallback(|| async { Problem::MethodNotAllowed })
        .nest("/api/v1", api)
        .fallback(|| async { Problem::NotFound("the API is under /api/v1") })
        .layer(middleware::map_response(dull))
}

/// What stands under `/api/v1`.
fn api() -> OpenApiRouter<Deps> {
    OpenApiRouter::new()
        .merge(events::routes())
        .merge(deliveries::routes())
        .merge(jobs::routes())
        .merge(targets::routes())
        .merge(records::routes())
        .merge(log::routes())
        .merge(health::routes())
        .routes(routes!(stats::stats))
}

/// Bounds how long an answer takes to begin.
async fn in_time(request: Request, next: Next) -> Result<Response, Problem> {
    timeout(ANSWER_DEADLINE, next.run(request)).await.map_err(|_elapsed| Problem::StoreSlow)
}

/// Every answer may hold what only its asker may see, and is never to be taken for a page.
async fn dull(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
