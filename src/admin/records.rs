//! `GET /api/v1/refusals` and `GET /api/v1/audit`: what was not accepted, and who did what.

use axum::Json;
use axum::extract::State as Shared;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::asked::Params;
use super::asked::lists::NumberedParams;
use super::problem::answers;
use super::views::PageJson;
use super::views::ledger::{AuditJson, RefusalJson};
use super::{Answer, Deps};
use crate::store::ledger::{AuditQuery, RefusalQuery};

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Deps> {
    OpenApiRouter::new().routes(routes!(refusals)).routes(routes!(audit))
}

/// Requests that were not accepted, with the likely cause, newest first
#[utoipa::path(get, path = "/refusals", tag = "relay", operation_id = "listRefusals", params(NumberedParams),
    responses((status = 200, description = "A page", body = PageJson<RefusalJson>), answers::Always))]
async fn refusals(
    Shared(deps): Shared<Deps>, Params(params): Params<NumberedParams>,
) -> Answer<PageJson<RefusalJson>> {
    let page = deps.store.refusals(RefusalQuery::List(params.read()?)).await?;
    Ok(Json(PageJson::of(page, RefusalJson::from)))
}

/// What was done and revealed through this API, newest first
#[utoipa::path(get, path = "/audit", tag = "relay", operation_id = "listAudit", params(NumberedParams),
    responses((status = 200, description = "A page", body = PageJson<AuditJson>), answers::Always))]
async fn audit(
    Shared(deps): Shared<Deps>, Params(params): Params<NumberedParams>,
) -> Answer<PageJson<AuditJson>> {
    let page = deps.store.audit(AuditQuery::List(params.read()?)).await?;
    Ok(Json(PageJson::of(page, AuditJson::from)))
}
