//! Runs, and one run with its tasks.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::exchange::{Answer, Named, Page, Params, json, limit, no_page};
use crate::api::fault::{Fault, FaultBody};
use crate::api::house::House;
use crate::model::run::{RunFilter, RunRecord, RunStatus, TaskId, TaskLog, TaskState, fold};
use crate::time::{Instant, UnitKey};

/// Which runs.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RunsParams {
    /// Only of this pipeline.
    pipeline: Option<String>,
    /// Only those that stand so.
    status: Option<RunStatus>,
    /// What the page before said as `next`.
    after: Option<String>,
    /// How many, 100 by default and 1000 at the most.
    limit: Option<u32>,
}

/// A run with its tasks.
#[derive(Debug, Serialize, ToSchema)]
pub struct RunView {
    /// The run.
    run: RunRecord,
    /// Whether a process walks it now.
    alive: bool,
    /// Its tasks in the order in which they were first heard of.
    tasks: Vec<TaskView>,
}

/// A task of a run.
#[derive(Debug, Serialize, ToSchema)]
pub struct TaskView {
    /// The step.
    step: String,
    /// The unit, or the first of those that the task covers at once; `all` for a table without a window.
    #[schema(value_type = String)]
    unit: UnitKey,
    /// How it stands.
    #[serde(flatten)]
    state: TaskState,
    /// When its first attempt began.
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Instant>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Instant>,
}

/// The runs, newest first.
#[utoipa::path(get, path = "/api/v1/runs", tag = "runs", security(("token" = [])), params(RunsParams),
    responses((status = 200, body = Page<RunRecord>), (status = 400, body = FaultBody), (status = 401, body = FaultBody)))]
pub async fn list(State(house): State<House>, Params(params): Params<RunsParams>) -> Answer {
    let limit = limit(params.limit)?;
    if let Some(after) = &params.after
        && house.state().run(after).await?.is_none()
    {
        return Err(no_page());
    }
    let filter = RunFilter { pipeline: params.pipeline, status: params.status, before: params.after, limit: limit + 1 };
    let runs = house.state().runs_where(&filter).await?;
    json(&house, &Page::cut(runs, limit, |run: &RunRecord| run.id.clone()))
}

/// One run with its tasks.
#[utoipa::path(get, path = "/api/v1/runs/{run}", tag = "runs", security(("token" = [])),
    params(("run" = String, Path, description = "The run, or a pipeline for its last one.")),
    responses((status = 200, body = RunView), (status = 401, body = FaultBody), (status = 404, body = FaultBody)))]
pub async fn one(State(house): State<House>, Named(name): Named<String>) -> Answer {
    let (run, logs) = find(&house, &name).await?;
    let states = fold(&logs)?;
    let mut order: Vec<&TaskId> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for log in &logs {
        if seen.insert(&log.task) {
            order.push(&log.task);
        }
    }
    let mut times: std::collections::HashMap<&TaskId, (Option<Instant>, Instant)> = std::collections::HashMap::new();
    for log in &logs {
        let begun = matches!(log.event, crate::model::run::TaskEvent::Started { .. }).then_some(log.at);
        let entry = times.entry(&log.task).or_insert((begun, log.at));
        *entry = (entry.0.or(begun), log.at);
    }
    let tasks = order.into_iter().filter_map(|task| {
        let state = states.get(task)?.clone();
        let (started_at, last) = times.get(task).copied()?;
        let finished_at = state.is_final().then_some(last);
        Some(TaskView { step: task.step.clone(), unit: task.unit.clone(), state, started_at, finished_at })
    });
    let alive = run.status == RunStatus::Running && house.state().lives(&run.id);
    json(&house, &RunView { tasks: tasks.collect(), alive, run })
}

/// The run of this name, or a pipeline's last one.
pub(super) async fn find(house: &House, name: &str) -> Result<(RunRecord, Vec<TaskLog>), Fault> {
    let state = house.state();
    if let Some(found) = state.run(name).await? {
        return Ok(found);
    }
    let missing = || Fault::missing("run", name).hint("GET /api/v1/runs lists them");
    let last = state.runs(Some(name), 1).await?.into_iter().next().ok_or_else(missing)?;
    state.run(&last.id).await?.ok_or_else(missing)
}
