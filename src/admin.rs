//! The admin API: what happened to each event, and the few things an operator must be able to do about it. Stands
//! beside the flow and knows only the store. JSON under `/api/v1`, errors as `{"error":{"code","message"}}`, lists
//! paged by cursor; what happens is told live. Payloads are not shown. Beside it `/health/live` and `/health/ready`.

mod access;
mod asked;
mod health;
mod problem;
mod stream;
mod views;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json, Router, middleware};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config::AdminToken;
use crate::event::{EventId, TargetName};
use crate::http;
use crate::lifecycle::breaker::RECOVERY_SPREAD;
use crate::shutdown::Shutdown;
use crate::store::job::asking::JobBell;
use crate::store::ledger::RefusalQuery;
use crate::store::query::{DeliveryQuery, EventDetail, EventLookup, EventRef, Mode, Redrive, RedriveAction};
use crate::store::readiness::Readiness;
use crate::store::{Control, Controlled, PauseReason, Store, Turn};

use crate::telemetry::Telemetry;

use access::Actor;
use asked::{DeadLetterParams, DeliveryParams, EventParams, Named, Nothing, Params, RefusalParams, parsed};
use problem::Problem;
use views::{DeliveryJson, EventDetailJson, EventJson, OverviewJson, PageJson, RefusalJson};

/// A handful of people and a scraper; far below ingress, so that they cannot take its file descriptors.
const CONNECTIONS_MAX: usize = 128;
/// From a request's first byte to the end of its head.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

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

/// What the admin API works with.
#[derive(Clone)]
pub struct Deps {
    /// What is asked and told.
    pub store: Arc<dyn Store>,
    /// Who may use it; empty: whoever reaches the loopback address.
    pub tokens: Arc<[AdminToken]>,
    /// Answers `/health/ready`.
    pub readiness: Arc<Readiness>,
    /// What it serves of what happens.
    pub telemetry: Telemetry,
    /// How long a connection may be silent.
    pub timing: Timing,
    /// Rung when a job is started here.
    pub job_bell: JobBell,
}

/// Serves the API until told to stop.
pub async fn run(listener: TcpListener, deps: Deps, shutdown: Shutdown) {
    let settings = http::Settings {
        connections: CONNECTIONS_MAX,
        idle_timeout: deps.timing.idle,
        request_deadline: REQUEST_DEADLINE,
    };
    let service = TowerToHyperService::new(router(deps, shutdown.stop.clone()));
    http::serve(listener, settings, shutdown, service).await;
}

fn router(deps: Deps, stop: CancellationToken) -> Router {
    let readiness = deps.readiness.clone();
    let stream = stream::routes(deps.telemetry.feed.clone(), deps.timing, stop);
    let api = Router::new()
        .route("/events", get(events))
        .route("/events/{event}", get(event))
        .route("/deliveries", get(deliveries))
        .route("/deliveries/{event}/{target}/retry", post(retry))
        .route("/dead-letters", get(dead_letters))
        .route("/targets", get(targets))
        .route("/targets/{target}", delete(forget))
        .route("/targets/{target}/pause", post(pause))
        .route("/targets/{target}/resume", post(resume))
        .route("/targets/{target}/close-breaker", post(close_breaker))
        .route("/refusals", get(refusals))
        .merge(stream)
        .fallback(|| async { Problem::NotFound("there is no such route") })
        .method_not_allowed_fallback(|| async { Problem::MethodNotAllowed })
        .layer(middleware::from_fn_with_state(deps.tokens.clone(), access::check))
        .with_state(deps);
    Router::new()
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .method_not_allowed_fallback(|| async { Problem::MethodNotAllowed })
        .with_state(readiness)
        .nest("/api/v1", api)
        .fallback(|| async { Problem::NotFound("the API is under /api/v1") })
}

type Answer<T> = Result<Json<T>, Problem>;

async fn events(
    Shared(deps): Shared<Deps>, Params(params): Params<EventParams>,
) -> Answer<PageJson<EventJson>> {
    let (query, page) = params.read()?;
    Ok(Json(PageJson::of(deps.store.events(query, page).await?, EventJson::from)))
}

async fn event(
    Shared(deps): Shared<Deps>, Named(event): Named<String>, _: Params<Nothing>,
) -> Answer<EventDetailJson> {
    Ok(Json(EventDetailJson::from(find(&deps, &event).await?)))
}

/// The event with this id or `svix-id`.
async fn find(deps: &Deps, event: &str) -> Result<EventDetail, Problem> {
    match deps.store.event(EventRef::from(event)).await? {
        EventLookup::None => Err(Problem::NotFound("no such event is kept")),
        EventLookup::One(detail) => Ok(*detail),
        EventLookup::Many(ids) => {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            Err(Problem::Conflict(format!(
                "several sources had this svix-id; ask for one of {}",
                ids.join(", ")
            )))
        }
    }
}

async fn deliveries(
    Shared(deps): Shared<Deps>, Params(params): Params<DeliveryParams>,
) -> Answer<PageJson<DeliveryJson>> {
    let (query, page) = params.read()?;
    Ok(Json(PageJson::of(deps.store.deliveries(query, page).await?, DeliveryJson::from)))
}

async fn dead_letters(
    Shared(deps): Shared<Deps>, Params(params): Params<DeadLetterParams>,
) -> Answer<PageJson<DeliveryJson>> {
    let (query, page) = params.read()?;
    Ok(Json(PageJson::of(deps.store.deliveries(query, page).await?, DeliveryJson::from)))
}

async fn targets(Shared(deps): Shared<Deps>, _: Params<Nothing>) -> Answer<OverviewJson> {
    Ok(Json(OverviewJson::from(deps.store.overview().await?)))
}

async fn refusals(
    Shared(deps): Shared<Deps>, Params(params): Params<RefusalParams>,
) -> Answer<PageJson<RefusalJson>> {
    let page = deps.store.refusals(RefusalQuery::List(params.read()?)).await?;
    Ok(Json(PageJson::of(page, RefusalJson::from)))
}

/// Re-arms one delivery; its budget starts again.
async fn retry(
    actor: Actor, Shared(deps): Shared<Deps>, Named((event, target)): Named<(String, String)>,
    _: Params<Nothing>,
) -> Result<StatusCode, Problem> {
    let target: TargetName = parsed("target", &target)?;
    let id = find(&deps, &event).await?.meta.id;
    // Retry covers what is unfinished or dead, replay what ended otherwise.
    for action in [RedriveAction::Retry, RedriveAction::Replay] {
        if deps.store.redrive(one_delivery(id, &target, action)).await?.moved > 0 {
            info!(event_id = %id, %target, actor = actor.name(), "admin.retried");
            return Ok(StatusCode::ACCEPTED);
        }
    }
    Err(if is_known(&deps, &target).await? {
        Problem::Conflict("this delivery is in flight, queued or parked: nothing to retry".to_owned())
    } else {
        NO_TARGET
    })
}

/// The answer where a path names a target that the store never heard of, or has forgotten.
const NO_TARGET: Problem = Problem::NotFound("the store knows no such target");

async fn is_known(deps: &Deps, target: &TargetName) -> Result<bool, Problem> {
    Ok(deps.store.overview().await?.targets.iter().any(|one| one.name == *target))
}

fn one_delivery(event: EventId, target: &TargetName, action: RedriveAction) -> Redrive {
    let query = DeliveryQuery { target: Some(target.clone()), ..DeliveryQuery::default() };
    Redrive {
        event: Some(event),
        query,
        action,
        mode: Mode::Apply,
        as_of: None,
        spread: Duration::ZERO,
        max: 1,
        after: None,
    }
}

async fn pause(
    actor: Actor, deps: Shared<Deps>, target: Named<String>, _: Params<Nothing>,
) -> Result<StatusCode, Problem> {
    control(&actor, &deps, &target.0, Control::Pause(PauseReason::Operator)).await
}

async fn resume(
    actor: Actor, deps: Shared<Deps>, target: Named<String>, _: Params<Nothing>,
) -> Result<StatusCode, Problem> {
    control(&actor, &deps, &target.0, Control::Resume).await
}

/// Closes the breaker without waiting for a probe: whoever has repaired the app knows better.
async fn close_breaker(
    actor: Actor, deps: Shared<Deps>, Named(target): Named<String>, _: Params<Nothing>,
) -> Result<StatusCode, Problem> {
    let name: TargetName = parsed("target", &target)?;
    let targets = deps.store.overview().await?.targets;
    let found = targets.into_iter().find(|one| one.name == name).ok_or(NO_TARGET)?;
    let to = Turn::Close { spread: RECOVERY_SPREAD };
    control(&actor, &deps, &target, Control::Turn { from: found.breaker.revision, to }).await
}

async fn forget(
    actor: Actor, deps: Shared<Deps>, target: Named<String>, _: Params<Nothing>,
) -> Result<StatusCode, Problem> {
    control(&actor, &deps, &target.0, Control::Forget).await
}

async fn control(actor: &Actor, deps: &Deps, target: &str, control: Control) -> Result<StatusCode, Problem> {
    let target: TargetName = parsed("target", target)?;
    const CONFIGURED: &str =
        "this target is configured; only one that has left the configuration can be forgotten";
    const TURNED: &str = "the breaker was turned meanwhile: look again";
    let (line, refusal) = match control {
        Control::Pause(_) => ("admin.paused", CONFIGURED),
        Control::Resume => ("admin.resumed", CONFIGURED),
        Control::Forget => ("admin.forgotten", CONFIGURED),
        Control::Turn { .. } => ("admin.breaker_closed", TURNED),
    };
    match deps.store.control(&target, control).await? {
        Controlled::Changed => info!(%target, actor = actor.name(), "{line}"),
        Controlled::Unchanged => {}
        Controlled::Refused if is_known(deps, &target).await? => {
            return Err(Problem::Conflict(refusal.to_owned()));
        }
        Controlled::Refused => return Err(NO_TARGET),
    }
    Ok(StatusCode::NO_CONTENT)
}
