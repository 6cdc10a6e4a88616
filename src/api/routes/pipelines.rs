//! Pipelines, when they run by themselves, and what a run of one would do.

use axum::extract::State;
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::exchange::{Answer, Named, Params, json};
use crate::api::fault::{Fault, FaultBody};
use crate::api::house::House;
use crate::execute;
use crate::model::pipeline::Pipeline;
use crate::model::run::{RunRecord, Trigger};
use crate::model::schedule::When;
use crate::plan::{self, Ask};
use crate::schedule::{Timetable, window};
use crate::time::{Instant, display_duration};

/// A pipeline.
#[derive(Debug, Serialize, ToSchema)]
pub struct PipelineView {
    /// Its name.
    name: String,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// Its file, relative to the project.
    file: String,
    /// The zone of its days.
    timezone: String,
    /// The connection of its warehouse.
    warehouse: String,
    /// When it runs by itself, in words: `0 6 * * *`, `every 6h`, `after ratings`, `on demand`.
    schedule: String,
    /// Whether somebody has paused it, or its file has.
    paused: Option<PauseView>,
    /// When it runs next by itself, if nothing happens before.
    #[schema(value_type = Option<String>, format = DateTime)]
    next: Option<Instant>,
    /// Its last run.
    last_run: Option<RunRecord>,
    /// Its steps, in the order of the file.
    steps: Vec<StepView>,
}

/// Who paused a pipeline.
#[derive(Debug, Serialize, ToSchema)]
pub struct PauseView {
    /// Who; `file` where the pipeline's own file says so.
    by: String,
    /// Why.
    reason: Option<String>,
    /// Since when.
    #[schema(value_type = Option<String>, format = DateTime)]
    since: Option<Instant>,
}

/// A step.
#[derive(Debug, Serialize, ToSchema)]
pub struct StepView {
    /// Its name.
    name: String,
    /// `extract`, `transform`, `load`, `wait` or `run`.
    kind: &'static str,
    /// The table that it writes, as the ledger calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    into: Option<String>,
    /// The steps and tables that it reads, and the steps that it begins after.
    after: Vec<String>,
}

/// What a plan is made for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PlanParams {
    /// The logical date; today in the pipeline's zone by default.
    #[param(value_type = Option<String>, format = Date)]
    date: Option<NaiveDate>,
    /// Only these steps, with commas between: `name`, `+name` with what it reads, `name+` with what reads it.
    select: Option<String>,
    /// Also where nothing has changed.
    #[serde(default)]
    force: bool,
}

/// Of which pipeline, and how much of the time to come.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ScheduleParams {
    /// Only of this pipeline.
    pipeline: Option<String>,
    /// How many occurrences of each, 10 by default and 1000 at the most.
    next: Option<usize>,
}

/// An occurrence that is to come.
#[derive(Debug, Serialize, ToSchema)]
pub struct ComingView {
    /// The pipeline.
    pipeline: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Instant,
    /// The same on the clock of the schedule's zone.
    local: String,
    /// That zone.
    timezone: String,
    /// The date that the run is for.
    #[schema(value_type = String, format = Date)]
    logical_date: NaiveDate,
    /// The first and the last unit that it covers.
    covers: Option<CoversView>,
    /// Whether it runs: a rule for odd days may leave it out.
    runs: bool,
    /// What is unusual about it, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    odd: Option<String>,
}

/// Units from one to another, both included.
#[derive(Debug, Serialize, ToSchema)]
pub struct CoversView {
    /// The first.
    first: String,
    /// The last.
    last: String,
}

/// The pipelines, by their names.
#[utoipa::path(get, path = "/api/v1/pipelines", tag = "pipelines", security(("token" = [])),
    responses((status = 200, body = Vec<PipelineView>), (status = 401, body = FaultBody)))]
pub async fn list(State(house): State<House>) -> Answer {
    let mut views = Vec::new();
    for pipeline in &house.project().pipelines {
        views.push(view(&house, pipeline).await?);
    }
    json(&house, &views)
}

/// One pipeline.
#[utoipa::path(get, path = "/api/v1/pipelines/{pipeline}", tag = "pipelines", security(("token" = [])),
    params(("pipeline" = String, Path, description = "The pipeline.")),
    responses((status = 200, body = PipelineView), (status = 401, body = FaultBody), (status = 404, body = FaultBody)))]
pub async fn one(State(house): State<House>, Named(name): Named<String>) -> Answer {
    let pipeline = house.pipeline(&name)?;
    json(&house, &view(&house, &pipeline).await?)
}

/// What a run would do, and why; nothing is begun.
#[utoipa::path(get, path = "/api/v1/pipelines/{pipeline}/plan", tag = "pipelines", security(("token" = [])),
    params(("pipeline" = String, Path, description = "The pipeline."), PlanParams),
    responses((status = 200, body = Object), (status = 400, body = FaultBody), (status = 401, body = FaultBody),
        (status = 404, body = FaultBody), (status = 409, body = FaultBody), (status = 422, body = FaultBody)))]
pub async fn plan(
    State(house): State<House>,
    Named(name): Named<String>,
    Params(params): Params<PlanParams>,
) -> Answer {
    let pipeline = house.pipeline(&name)?;
    let ask = Ask {
        trigger: Trigger::Manual,
        logical_date: params.date.unwrap_or_else(|| today(&house, &pipeline)),
        select: params.select.iter().flat_map(|text| text.split(',')).map(|step| step.trim().to_owned()).collect(),
        range: None,
        window: None,
        force: params.force,
        retry: false,
    };
    let (plan, noticed) = execute::foresee(&house.gear(), &pipeline, &ask).await?;
    let mut explained = serde_json::to_value(plan::explain(&plan)).unwrap_or_default();
    explained["mended"] = noticed.mended.into();
    explained["unseen"] = noticed.unseen.into();
    json(&house, &explained)
}

/// When pipelines run by themselves from now on.
#[utoipa::path(get, path = "/api/v1/schedule", tag = "pipelines", security(("token" = [])), params(ScheduleParams),
    responses((status = 200, body = Vec<ComingView>), (status = 400, body = FaultBody), (status = 401, body = FaultBody),
        (status = 404, body = FaultBody)))]
pub async fn schedule(State(house): State<House>, Params(params): Params<ScheduleParams>) -> Answer {
    let count = params.next.unwrap_or(10);
    if count > 1000 {
        return Err(Fault::bad("`next` is more than 1000"));
    }
    let pipelines = match &params.pipeline {
        Some(name) => vec![house.pipeline(name)?],
        None => house.project().pipelines.clone(),
    };
    let mut all = Vec::new();
    for pipeline in &pipelines {
        let Some(schedule) = pipeline.schedule.as_ref().filter(|schedule| !schedule.paused) else { continue };
        let timetable = Timetable::of(schedule, pipeline.timezone)?;
        let mut at = house.now();
        for _ in 0..count {
            let Some(occurrence) = timetable.next(at) else { break };
            at = occurrence.at;
            let units = window(pipeline, &occurrence).zip(pipeline.calendar());
            let covers = units.map(|(range, calendar)| CoversView {
                first: calendar.containing(range.start).key().to_string(),
                last: calendar.previous(&calendar.containing(range.end)).key().to_string(),
            });
            all.push(ComingView {
                pipeline: pipeline.name.clone(),
                at,
                local: at.with_timezone(&timetable.zone()).to_rfc3339(),
                timezone: timetable.zone().name().to_owned(),
                logical_date: occurrence.logical_date,
                covers,
                runs: occurrence.runs,
                odd: occurrence.odd.as_ref().map(|odd| odd.words(occurrence.runs)),
            });
        }
    }
    all.sort_by(|one, other| (one.at, &one.pipeline).cmp(&(other.at, &other.pipeline)));
    json(&house, &all)
}

/// Today, on the clock of a pipeline's days.
pub(super) fn today(house: &House, pipeline: &Pipeline) -> NaiveDate {
    house.now().with_timezone(&pipeline.timezone).date_naive()
}

async fn view(house: &House, pipeline: &Pipeline) -> Result<PipelineView, Fault> {
    let schedule = pipeline.schedule.as_ref();
    let words = match schedule.map(|schedule| &schedule.when) {
        None => "on demand".to_owned(),
        Some(When::Cron(texts)) => texts.join(" | "),
        Some(When::Every { every, .. }) => format!("every {}", display_duration(*every)),
        Some(When::After(other)) => format!("after {other}"),
    };
    let state = house.state();
    let paused = state.paused().await?.remove(&pipeline.name);
    let by_file = || PauseView { by: "file".to_owned(), reason: None, since: None };
    let paused = paused
        .map(|pause| PauseView { by: pause.by, reason: pause.reason, since: Some(pause.at) })
        .or_else(|| schedule.is_some_and(|schedule| schedule.paused).then(by_file));
    let next = match schedule.filter(|_| paused.is_none()) {
        Some(schedule) => Timetable::of(schedule, pipeline.timezone)?.next(house.now()).map(|occurrence| occurrence.at),
        None => None,
    };
    let steps = pipeline.steps.iter().map(|step| {
        let mut after: Vec<String> = step.action.reads().iter().map(|read| read.name.clone()).collect();
        after.extend(step.after.iter().cloned());
        let into = step.writes().then(|| step.into.to_string());
        StepView { name: step.name.clone(), kind: step.action.word(), into, after }
    });
    Ok(PipelineView {
        name: pipeline.name.clone(),
        description: pipeline.description.clone(),
        file: pipeline.file.display().to_string(),
        timezone: pipeline.timezone.name().to_owned(),
        warehouse: pipeline.warehouse.clone(),
        schedule: words,
        paused,
        next,
        last_run: state.runs(Some(&pipeline.name), 1).await?.into_iter().next(),
        steps: steps.collect(),
    })
}
