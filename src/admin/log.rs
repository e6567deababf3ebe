//! `/api/v1/log`: how much is logged, while the relay runs. A restart goes back to what the configuration says.

use axum::Json;
use axum::extract::State as Shared;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::Actor;
use super::asked::body::Body;
use super::asked::{Nothing, Params};
use super::noted::{Deed, noted};
use super::problem::{Problem, answers};
use super::{Answer, Deps};
use crate::telemetry::level::{LogLevel, NotOurLog, word};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Deps> {
    OpenApiRouter::new().routes(routes!(level, set_level))
}

/// The least severe level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<tracing::Level> for Level {
    fn from(level: tracing::Level) -> Self {
        [Self::Error, Self::Warn, Self::Info, Self::Debug]
            .into_iter()
            .find(|one| tracing::Level::from(*one) == level)
            .unwrap_or(Self::Trace)
    }
}

impl From<Level> for tracing::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}

/// The log of this relay.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LogJson {
    level: Level,
}

/// How much is logged
#[utoipa::path(get, path = "/log", tag = "relay", operation_id = "getLog",
    responses((status = 200, description = "The level", body = LogJson), answers::Named))]
async fn level(Shared(deps): Shared<Deps>, _: Params<Nothing>) -> Answer<LogJson> {
    Ok(Json(LogJson { level: present(&deps.telemetry.log)? }))
}

/// Log more or less, until the relay is started again
#[utoipa::path(put, path = "/log", tag = "relay", operation_id = "setLog", request_body = LogJson,
    responses((status = 200, description = "The level that is set", body = LogJson), answers::Bodied))]
async fn set_level(
    actor: Actor, Shared(deps): Shared<Deps>, _: Params<Nothing>, Body(wanted): Body<LogJson>,
) -> Answer<LogJson> {
    let (log, level) = (&deps.telemetry.log, wanted.level);
    let before = present(log)?;
    if before == level {
        return Ok(Json(wanted));
    }
    let detail = format!("from {} to {}", word(before.into()), word(level.into()));
    let deed = Deed { action: "log.changed", object: "log".to_owned(), detail };
    noted(&deps, &actor, deed, async {
        log.set(level.into()).map_err(not_ours)?;
        Ok(Json(wanted))
    })
    .await
}

fn present(log: &LogLevel) -> Result<Level, Problem> {
    log.get().map(Level::from).ok_or(not_ours(NotOurLog))
}

fn not_ours(error: NotOurLog) -> Problem {
    Problem::Conflict("not_our_log", error.to_string())
}
