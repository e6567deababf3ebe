//! What an operator does to many deliveries at once: retries, discards, replays and erasures as jobs, and the jobs
//! themselves. The steps are done by another flow, of this relay or another one; this one starts, shows and cancels. A
//! button that is pressed twice starts one job.

use std::time::Duration;

use axum::Json;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::access::Actor;
use super::asked::body::Body;
use super::asked::filter::{JobBody, ReplayBody, Wish};
use super::asked::{Named, Nothing, Params, parsed};
use super::noted::{Deed, noted};
use super::problem::{Problem, answers};
use super::views::PageJson;
use super::views::job::JobJson;
use super::{Answer, Deps};
use crate::event::Subject;
use crate::store::job::asking::{self, Cancelled, Started};
use crate::store::job::{Job, JobAction, JobSpec, JobState};
use crate::store::query::{DeliveryQuery, Mode, Paged};

/// How long a dry run is waited for, so that most answer with their count; below the deadline of a whole request.
const COUNT_WAIT: Duration = Duration::from_secs(5);
/// The answer where a path names a job that is not kept.
const NO_JOB: Problem = Problem::NotFound("no such job is kept");

/// What starting a job answers.
type Accepted = Result<(StatusCode, Json<JobJson>), Problem>;

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Deps> {
    OpenApiRouter::new()
        .routes(routes!(retries))
        .routes(routes!(discards))
        .routes(routes!(replays))
        .routes(routes!(erase))
        .routes(routes!(jobs))
        .routes(routes!(job, cancel))
}

/// Retry many deliveries that are dead or waiting
///
/// A dry run changes nothing; it answers with its count, or after 5 s with the job that goes on counting.
#[utoipa::path(post, path = "/retries", tag = "jobs", operation_id = "startRetry", request_body = JobBody,
    responses((status = 202, description = "The job, or the one that does the same already", body = JobJson),
        answers::Bodied))]
async fn retries(
    actor: Actor, Shared(deps): Shared<Deps>, _: Params<Nothing>, Body(body): Body<JobBody>,
) -> Accepted {
    start(&deps, &actor, JobAction::Retry, body.read()?).await
}

/// End many deliveries that are queued, waiting, parked or dead
#[utoipa::path(post, path = "/discards", tag = "jobs", operation_id = "startDiscard", request_body = JobBody,
    responses((status = 202, description = "The job, or the one that does the same already", body = JobJson),
        answers::Bodied))]
async fn discards(
    actor: Actor, Shared(deps): Shared<Deps>, _: Params<Nothing>, Body(body): Body<JobBody>,
) -> Accepted {
    start(&deps, &actor, JobAction::Discard, body.read()?).await
}

/// Deliver a range of past events to one target again
///
/// Takes what has ended, and what came before the target began.
#[utoipa::path(post, path = "/replays", tag = "jobs", operation_id = "startReplay", request_body = ReplayBody,
    responses((status = 202, description = "The job, or the one that does the same already", body = JobJson),
        answers::Bodied))]
async fn replays(
    actor: Actor, Shared(deps): Shared<Deps>, _: Params<Nothing>, Body(body): Body<ReplayBody>,
) -> Accepted {
    start(&deps, &actor, JobAction::Replay, body.read()?).await
}

/// Parameters of `DELETE subjects/{subject}`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct EraseOptions {
    /// Only count.
    #[serde(default)]
    #[param(required = false)]
    dry_run: bool,
}

/// Erase what is kept about a user or organization: payloads, replies, refusals, dead letters
#[utoipa::path(delete, path = "/subjects/{subject}", tag = "jobs", operation_id = "eraseSubject",
    params(("subject" = String, Path, description = "Its id, or an e-mail address", min_length = 1), EraseOptions),
    responses((status = 202, description = "The job, or the one that does the same already", body = JobJson),
        answers::Named))]
async fn erase(
    actor: Actor, Shared(deps): Shared<Deps>, Named(subject): Named<String>,
    Params(options): Params<EraseOptions>,
) -> Accepted {
    let empty = || Problem::BadRequest("the subject is empty".to_owned());
    let subject = Subject::of(&subject).ok_or_else(empty)?;
    let query = DeliveryQuery { subject: Some(subject), ..DeliveryQuery::default() };
    let mode = if options.dry_run { Mode::Count } else { Mode::Apply };
    start(&deps, &actor, JobAction::Erase, Wish { query, mode, per_second: None }).await
}

/// The jobs that are kept, newest first
#[utoipa::path(get, path = "/jobs", tag = "jobs", operation_id = "listJobs",
    responses((status = 200, description = "All of them", body = PageJson<JobJson>), answers::Always))]
async fn jobs(Shared(deps): Shared<Deps>, _: Params<Nothing>) -> Answer<PageJson<JobJson>> {
    let rows = asking::list(&*deps.store).await?;
    Ok(Json(PageJson::of(Paged { rows, next: None }, JobJson::from)))
}

/// One job and how far it is
#[utoipa::path(get, path = "/jobs/{job}", tag = "jobs", operation_id = "getJob",
    params(("job" = u64, Path, description = "Its number", minimum = 0, maximum = 9223372036854775807_i64)),
    responses((status = 200, description = "The job", body = JobJson), answers::Named))]
async fn job(Shared(deps): Shared<Deps>, Named(job): Named<String>, _: Params<Nothing>) -> Answer<JobJson> {
    let job = asking::find(&*deps.store, parsed("job", &job)?).await?;
    Ok(Json(job.ok_or(NO_JOB)?.into()))
}

/// Stop a job where it is; what it has done stays done
#[utoipa::path(delete, path = "/jobs/{job}", tag = "jobs", operation_id = "cancelJob",
    params(("job" = u64, Path, description = "Its number", minimum = 0, maximum = 9223372036854775807_i64)),
    responses((status = 200, description = "The job as it was stopped", body = JobJson), answers::Named))]
async fn cancel(
    actor: Actor, Shared(deps): Shared<Deps>, Named(job): Named<String>, _: Params<Nothing>,
) -> Answer<JobJson> {
    let job = asking::find(&*deps.store, parsed("job", &job)?).await?.ok_or(NO_JOB)?;
    if job.state != JobState::Running {
        return Err(already_ended(&job));
    }
    let detail = format!("{} after {}", job.spec.action.as_str(), job.moved);
    let deed = Deed { action: "job.cancelled", object: job.id.to_string(), detail };
    noted(&deps, &actor, deed, async {
        match asking::cancel(&*deps.store, &deps.job_bell, job.id).await? {
            Cancelled::Now(job) => Ok(Json(job.into())),
            Cancelled::Before(job) => Err(already_ended(&job)),
            Cancelled::Unknown => Err(NO_JOB),
        }
    })
    .await
}

fn already_ended(job: &Job) -> Problem {
    Problem::Conflict("already_ended", format!("job {} is {}", job.id, job.state.as_str()))
}

/// Starts a job. What only counts is not written into the audit; it is waited for.
async fn start(deps: &Deps, actor: &Actor, action: JobAction, wish: Wish) -> Accepted {
    let Wish { query, mode, per_second } = wish;
    let deed = deed(action, &query);
    let spec = JobSpec { action, query, mode, per_second, by: actor.name().to_owned() };
    let job = match mode {
        Mode::Apply => noted(deps, actor, deed, create(deps, spec)).await?,
        Mode::Count => {
            let job = create(deps, spec).await?;
            asking::ended(&*deps.store, &deps.job_bell, job.id, COUNT_WAIT).await?.unwrap_or(job)
        }
    };
    Ok((StatusCode::ACCEPTED, Json(job.into())))
}

async fn create(deps: &Deps, spec: JobSpec) -> Result<Job, Problem> {
    match asking::start(&*deps.store, &deps.job_bell, spec).await? {
        Started::New(job) | Started::Twin(job) => Ok(job),
        Started::Full => Err(Problem::Conflict(
            "too_many_jobs",
            "too many jobs are unfinished: wait for one, or cancel one".to_owned(),
        )),
    }
}

/// What the audit says of a job's start. It has no number yet: the entry is there before the job is.
fn deed(action: JobAction, query: &DeliveryQuery) -> Deed {
    let subject = query.subject.as_ref().map(Subject::as_str);
    if action == JobAction::Erase {
        let object = subject.unwrap_or_default().to_owned();
        return Deed { action: "subject.erased", object, detail: String::new() };
    }
    let states: Vec<_> = query.states.iter().map(|state| state.as_str()).collect();
    let conditions = [
        ("target", query.target.as_ref().map(ToString::to_string)),
        ("state", (!states.is_empty()).then(|| states.join(","))),
        ("type", query.event_type.clone()),
        ("subject", subject.map(str::to_owned)),
        ("source", query.source.as_ref().map(ToString::to_string)),
        ("since", query.since.map(|time| time.to_string())),
        ("until", query.until.map(|time| time.to_string())),
    ];
    let told = conditions.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?)));
    let detail = told.collect::<Vec<_>>().join(" ");
    Deed { action: "job.started", object: action.as_str().to_owned(), detail }
}
