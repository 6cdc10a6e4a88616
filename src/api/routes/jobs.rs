//! The queue: what waits and what is under way, runs that are asked for, cancelled or tried again, and schedules at rest.

use axum::extract::State;
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::exchange::{Answer, Body, Named, Page, Params, json, limit, no_page};
use crate::api::fault::{Fault, FaultBody};
use crate::api::house::House;
use crate::error::{Error, Kind};
use crate::model::job::{Class, Job, JobEnd, JobFilter, JobState, OccurrenceEnd};
use crate::serve::Steward;
use crate::time::Instant;

/// Who asks, for the record.
const BY: &str = "api";

/// A job: one run that is asked for.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// Its number.
    pub id: i64,
    /// The pipeline.
    pub pipeline: String,
    /// What is asked for, the same for the same work.
    pub key: String,
    /// How urgent it is.
    #[schema(value_type = String)]
    pub class: Class,
    /// How it stands: `queued`, `leased` or `done`.
    #[schema(value_type = String)]
    pub state: JobState,
    /// The occurrence of a schedule that it is the run of.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub scheduled_for: Option<Instant>,
    /// It does not begin earlier.
    #[schema(value_type = String, format = DateTime)]
    pub not_before: Instant,
    /// The backfill that it is a piece of.
    pub backfill: Option<String>,
    /// Whether it waits until its backfill goes on.
    pub on_hold: bool,
    /// How often it was begun.
    pub attempts: u32,
    /// The process that has it, or had it last.
    pub owner: Option<String>,
    /// The last run that was begun for it.
    pub run: Option<String>,
    /// All runs that were begun for it.
    pub runs: Vec<String>,
    /// Whether somebody asked to cancel it.
    pub cancel_asked: bool,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub queued_at: Instant,
    /// When its run began.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Instant>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Instant>,
    /// How it ended: `succeeded`, `late`, `held`, `failed`, `cancelled`, `refused` or `superseded`.
    #[schema(value_type = Option<String>)]
    pub outcome: Option<JobEnd>,
    /// Why it ended so, or why it waits again.
    pub reason: Option<String>,
}

impl From<Job> for JobView {
    fn from(job: Job) -> Self {
        Self {
            id: job.id,
            pipeline: job.pipeline,
            key: job.key,
            class: job.class,
            state: job.state,
            scheduled_for: job.scheduled_for,
            not_before: job.not_before,
            backfill: job.backfill,
            on_hold: job.on_hold,
            attempts: job.attempts,
            owner: job.owner,
            run: job.run,
            runs: job.runs,
            cancel_asked: job.cancel_asked,
            queued_at: job.queued_at,
            started_at: job.started_at,
            finished_at: job.finished_at,
            outcome: job.outcome,
            reason: job.reason,
        }
    }
}

/// A job with what happened to it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct JobWithNotes {
    /// The job.
    pub job: JobView,
    /// What happened to it besides its plain life, in the order of time.
    pub notes: Vec<NoteView>,
}

/// Something that happened to a job.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct NoteView {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Instant,
    /// What.
    note: String,
}

/// What became of asking for a run.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct TriggeredView {
    /// The job.
    pub job: JobView,
    /// Whether it is a new one; otherwise the same work was asked for before and has not ended.
    pub new: bool,
}

/// Which jobs.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct JobsParams {
    /// Only of this pipeline.
    pipeline: Option<String>,
    /// Only of this backfill.
    backfill: Option<String>,
    /// Only those that stand so: `queued`, `leased` or `done`, with commas between. Default `queued,leased`.
    state: Option<String>,
    /// What the page before said as `next`.
    after: Option<String>,
    /// How many, 100 by default and 1000 at the most.
    limit: Option<u32>,
}

/// A run that is asked for.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TriggerBody {
    /// The logical date; today in the pipeline's zone by default.
    #[schema(value_type = Option<String>, format = Date)]
    pub date: Option<NaiveDate>,
    /// Only these steps: `name`, `+name` with what it reads, `name+` with what reads it.
    pub select: Vec<String>,
    /// Also where nothing has changed.
    pub force: bool,
    /// Only those requests of fan-outs once more that failed for good; `select` may name one step then.
    pub retry: bool,
}

/// Why a pipeline is paused.
#[derive(Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PauseBody {
    /// Why, for whoever wonders.
    pub reason: Option<String>,
}

/// Whether a pipeline is paused now.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct PausedView {
    /// The pipeline.
    pub pipeline: String,
    /// Whether it is paused now.
    pub paused: bool,
    /// Whether it was before.
    pub was: bool,
}

/// Which occurrences.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OccurrencesParams {
    /// Only of this pipeline.
    pipeline: Option<String>,
    /// Only since this instant; a week back by default.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Instant>,
    /// What the page before said as `next`.
    after: Option<String>,
    /// How many, 100 by default and 1000 at the most.
    limit: Option<u32>,
}

/// How an occurrence of a schedule ended.
#[derive(Debug, Serialize, ToSchema)]
pub struct OccurrenceView {
    /// The pipeline.
    pipeline: String,
    /// Its instant.
    #[schema(value_type = String, format = DateTime)]
    at: Instant,
    /// The date that it is for.
    logical_date: String,
    /// `ran`, `coalesced`, `skipped` or `missed`; `waiting` while it waits for the run before.
    end: String,
    /// Why, where it did not run itself.
    reason: Option<String>,
    /// The job that was made for it.
    job: Option<i64>,
    /// The run.
    run: Option<String>,
}

impl From<OccurrenceEnd> for OccurrenceView {
    fn from(end: OccurrenceEnd) -> Self {
        let OccurrenceEnd { pipeline, at, logical_date, end, reason, job, run } = end;
        Self { pipeline, at, logical_date, end, reason, job, run }
    }
}

fn steward(house: &House) -> Steward {
    let gear = house.gear();
    Steward::new(gear.state.clone(), std::sync::Arc::clone(&gear.project), gear.clock, BY)
}

/// What the queue does not know is not found; what it cannot do is a conflict.
fn told(error: Error) -> Fault {
    Fault::from(error)
}

/// The jobs, newest first.
#[utoipa::path(get, path = "/api/v1/jobs", tag = "jobs", security(("token" = [])), params(JobsParams),
    responses((status = 200, body = Page<JobView>), (status = 400, body = FaultBody), (status = 401, body = FaultBody)))]
pub async fn list(State(house): State<House>, Params(params): Params<JobsParams>) -> Answer {
    let limit = limit(params.limit)?;
    let before = params.after.map(|after| after.parse()).transpose().map_err(|_| no_page())?;
    let (pipeline, backfill) = (params.pipeline, params.backfill);
    let mut filter = JobFilter { pipeline, backfill, before, limit: limit + 1, ..JobFilter::default() };
    for word in params.state.as_deref().unwrap_or("queued,leased").split(',') {
        let state = serde_json::from_value(word.trim().into());
        filter.states.insert(
            state.map_err(|_| {
                Fault::bad(format!("`{word}` is no state of a job")).hint("queued, leased and done are")
            })?,
        );
    }
    let jobs = house.state().jobs(&filter).await?;
    json(&house, &Page::cut(jobs, limit, |job| job.id.to_string()).map(JobView::from))
}

/// One job with what happened to it.
#[utoipa::path(get, path = "/api/v1/jobs/{job}", tag = "jobs", security(("token" = [])),
    params(("job" = i64, Path, description = "Its number.")),
    responses((status = 200, body = JobWithNotes), (status = 400, body = FaultBody), (status = 401, body = FaultBody),
        (status = 404, body = FaultBody)))]
pub async fn one(State(house): State<House>, Named(id): Named<i64>) -> Answer {
    let state = house.state();
    let job = state.job(id).await?.ok_or_else(|| missing(id))?;
    let notes = state.job_notes(id).await?.into_iter().map(|note| NoteView { at: note.at, note: note.note });
    json(&house, &JobWithNotes { job: job.into(), notes: notes.collect() })
}

fn missing(id: i64) -> Fault {
    Fault::missing("job", &id.to_string()).hint("GET /api/v1/jobs lists them")
}

/// Cancels a job: at once where it waits, else its process stops it at its next beat.
#[utoipa::path(post, path = "/api/v1/jobs/{job}/cancel", tag = "jobs", security(("token" = [])),
    params(("job" = i64, Path, description = "Its number.")),
    responses((status = 200, body = JobView), (status = 400, body = FaultBody), (status = 401, body = FaultBody),
        (status = 404, body = FaultBody), (status = 409, body = FaultBody)))]
pub async fn cancel(State(house): State<House>, Named(id): Named<i64>) -> Answer {
    let job = house.state().job(id).await?.ok_or_else(|| missing(id))?;
    stop(&house, &job).await
}

/// Cancels the job that a run belongs to.
#[utoipa::path(post, path = "/api/v1/runs/{run}/cancel", tag = "runs", security(("token" = [])),
    params(("run" = String, Path, description = "The run.")),
    responses((status = 200, body = JobView), (status = 401, body = FaultBody), (status = 404, body = FaultBody),
        (status = 409, body = FaultBody)))]
pub async fn cancel_run(State(house): State<House>, Named(run): Named<String>) -> Answer {
    let job = of_run(&house, &run).await?;
    stop(&house, &job).await
}

async fn stop(house: &House, job: &Job) -> Answer {
    let ended = |job: &Job| {
        let end = job.outcome.map_or("ended", JobEnd::name);
        Fault::from(Error::new(Kind::Cancelled, format!("job {} is over: {end}", job.id)))
    };
    if job.state == JobState::Done {
        return Err(ended(job));
    }
    let job = steward(house).cancel(&job.id.to_string()).await.map_err(told)?;
    house.wake();
    json(house, &JobView::from(job))
}

/// Asks for the run of an ended job once more.
#[utoipa::path(post, path = "/api/v1/runs/{run}/retry", tag = "runs", security(("token" = [])),
    params(("run" = String, Path, description = "The run.")),
    responses((status = 202, body = TriggeredView), (status = 401, body = FaultBody), (status = 404, body = FaultBody),
        (status = 409, body = FaultBody)))]
pub async fn retry(State(house): State<House>, Named(run): Named<String>) -> Answer {
    let job = of_run(&house, &run).await?;
    if job.state != JobState::Done {
        let error = Error::new(Kind::Cancelled, format!("job {} has not ended", job.id));
        return Err(Fault::from(error.hint("it is tried again by itself")));
    }
    let triggered = steward(&house).retry(&job.id.to_string()).await.map_err(told)?;
    accepted(&house, TriggeredView { job: triggered.job.into(), new: triggered.new })
}

async fn of_run(house: &House, run: &str) -> Result<Job, Fault> {
    let job = house.state().job_of_run(run).await?;
    job.ok_or_else(|| {
        Fault::missing("job of the run", run).hint("a run that was begun on the command line is steered there")
    })
}

/// Asks for a run of a pipeline; an unfinished job for the same work is that job.
#[utoipa::path(post, path = "/api/v1/pipelines/{pipeline}/trigger", tag = "pipelines", security(("token" = [])),
    params(("pipeline" = String, Path, description = "The pipeline.")), request_body = TriggerBody,
    responses((status = 202, body = TriggeredView), (status = 400, body = FaultBody), (status = 401, body = FaultBody),
        (status = 404, body = FaultBody)))]
pub async fn trigger(State(house): State<House>, Named(name): Named<String>, Body(body): Body<TriggerBody>) -> Answer {
    house.pipeline(&name)?;
    let asked = if body.retry {
        if body.date.is_some() || body.force || body.select.len() > 1 {
            return Err(Fault::bad("`retry` goes with one step at the most, and neither with `date` nor with `force`")
                .hint("{ \"retry\": true, \"select\": [\"stats\"] }: what has failed is known by its units"));
        }
        steward(&house).retry_requests(&name, body.select.into_iter().next()).await
    } else {
        steward(&house).trigger(&name, body.date, body.select, body.force).await
    };
    let triggered = asked.map_err(told)?;
    accepted(&house, TriggeredView { job: triggered.job.into(), new: triggered.new })
}

pub(super) fn accepted(house: &House, value: impl Serialize) -> Answer {
    house.wake();
    let mut response = json(house, &value)?;
    *response.status_mut() = axum::http::StatusCode::ACCEPTED;
    Ok(response)
}

/// Pauses the schedule of a pipeline: its occurrences are recorded as skipped until it is resumed. What is under way goes on.
#[utoipa::path(post, path = "/api/v1/pipelines/{pipeline}/pause", tag = "pipelines", security(("token" = [])),
    params(("pipeline" = String, Path, description = "The pipeline.")), request_body = PauseBody,
    responses((status = 200, body = PausedView), (status = 400, body = FaultBody), (status = 401, body = FaultBody),
        (status = 404, body = FaultBody)))]
pub async fn pause(State(house): State<House>, Named(name): Named<String>, Body(body): Body<PauseBody>) -> Answer {
    house.pipeline(&name)?;
    let was = house.state().paused().await?.contains_key(&name);
    steward(&house).pause(&name, body.reason.as_deref()).await.map_err(told)?;
    house.wake();
    json(&house, &PausedView { pipeline: name, paused: true, was })
}

/// Resumes the schedule of a pipeline.
#[utoipa::path(post, path = "/api/v1/pipelines/{pipeline}/resume", tag = "pipelines", security(("token" = [])),
    params(("pipeline" = String, Path, description = "The pipeline.")),
    responses((status = 200, body = PausedView), (status = 401, body = FaultBody), (status = 404, body = FaultBody)))]
pub async fn resume(State(house): State<House>, Named(name): Named<String>) -> Answer {
    house.pipeline(&name)?;
    let was = steward(&house).resume(&name).await.map_err(told)?;
    house.wake();
    json(&house, &PausedView { pipeline: name, paused: false, was })
}

/// What became of the occurrences of schedules, newest first.
#[utoipa::path(get, path = "/api/v1/occurrences", tag = "pipelines", security(("token" = [])), params(OccurrencesParams),
    responses((status = 200, body = Page<OccurrenceView>), (status = 400, body = FaultBody), (status = 401, body = FaultBody),
        (status = 404, body = FaultBody)))]
pub async fn occurrences(State(house): State<House>, Params(params): Params<OccurrencesParams>) -> Answer {
    let limit = limit(params.limit)?;
    if let Some(name) = &params.pipeline {
        house.pipeline(name)?;
    }
    let since = params.since.unwrap_or_else(|| house.now() - chrono::Duration::days(7));
    let behind = params.after.as_deref().map(|after| behind(after).ok_or_else(no_page)).transpose()?;
    let ends = house.state().occurrences_before(params.pipeline.as_deref(), since, behind, limit + 1).await?;
    let page = Page::cut(ends, limit, |end| format!("{}~{}", end.at.timestamp_micros(), end.pipeline));
    json(&house, &page.map(OccurrenceView::from))
}

/// Where a page of occurrences ended: an instant in microseconds, and a pipeline.
fn behind(after: &str) -> Option<(Instant, &str)> {
    let (micros, pipeline) = after.split_once('~')?;
    Some((Instant::from_timestamp_micros(micros.parse().ok()?)?, pipeline))
}
