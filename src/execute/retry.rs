//! Requests of a fan-out that failed for good: found again in their stages, listed, and sent once more, just those.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::gear::Gear;
use super::{dispatcher, fan};
use crate::error::{Error, Result};
use crate::model::cost::Expected;
use crate::model::fanout::FailedRequest;
use crate::model::ledger::{Snapshot, UnitState};
use crate::model::pipeline::{Action, Per, Pipeline, Step, Write};
use crate::model::plan::{Due, Plan, PlannedTask};
use crate::model::run::{RunRecord, TaskId, Trigger};
use crate::monitor::Monitor;
use crate::stage;
use crate::time::{Unit, UnitKey, Window};

/// The failed requests of one task.
#[derive(Debug, Clone, Serialize)]
pub struct Unfinished {
    /// The step.
    pub step: String,
    /// Its unit, or the first of its window.
    pub unit: UnitKey,
    /// How many units the task has.
    pub units: usize,
    /// Whether the unit's other rows are loaded.
    pub loaded: bool,
    /// The requests.
    pub failed: Vec<FailedRequest>,
}

impl Unfinished {
    /// Why they failed, in one sentence.
    pub fn why(&self) -> String {
        fan::reasons(&self.failed)
    }
}

/// A task with failed requests, and its step.
struct Found {
    step: Arc<Step>,
    units: Vec<Unit>,
    unfinished: Unfinished,
}

/// The requests that failed for good in a pipeline, or in one of its steps, and whose answers are still missing.
pub async fn unfinished(gear: &Gear, pipeline: &Arc<Pipeline>, step: Option<&str>) -> Result<Vec<Unfinished>> {
    Ok(find(gear, pipeline, step).await?.into_iter().map(|found| found.unfinished).collect())
}

/// Plans to send them once more: a plan for all units, or one for each window that was asked for as a whole.
///
/// # Errors
/// No request has failed.
pub async fn plan_retry(gear: &Gear, pipeline: &Arc<Pipeline>, step: Option<&str>) -> Result<Vec<Plan>> {
    let found = find(gear, pipeline, step).await?;
    if found.is_empty() {
        let place = step.map_or_else(|| pipeline.name.clone(), |step| format!("{}.{step}", pipeline.name));
        return Err(Error::usage(format!("no request of `{place}` has failed, or what was answered is gone"))
            .hint("`haul status` shows units that failed for other reasons; the next `haul run` does them again"));
    }
    let (whole, by_unit): (Vec<_>, Vec<_>) = found.into_iter().partition(|found| found.units.len() != 1);
    let mut plans = Vec::new();
    if !by_unit.is_empty() {
        plans.push(plan_of(gear, pipeline, by_unit)?);
    }
    for window in whole {
        plans.push(plan_of(gear, pipeline, vec![window])?);
    }
    Ok(plans)
}

/// Walks a plan of [`plan_retry`].
pub async fn run_retry(
    gear: &Gear,
    plan: &Plan,
    monitor: Arc<dyn Monitor>,
    cancel: CancellationToken,
) -> Result<RunRecord> {
    dispatcher::run(gear, plan, monitor, cancel).await
}

fn plan_of(gear: &Gear, pipeline: &Arc<Pipeline>, found: Vec<Found>) -> Result<Plan> {
    let units: Vec<Unit> = found.iter().flat_map(|found| found.units.iter().copied()).collect();
    let first = units.iter().min_by_key(|unit| unit.start);
    let last = units.iter().max_by_key(|unit| unit.end);
    let window = match (first, last) {
        (Some(first), Some(last)) => Some(Window::spanning(first.calendar, first.start, last.end)?),
        _ => None,
    };
    let today = gear.clock.now().with_timezone(&pipeline.timezone).date_naive();
    let tasks = found
        .into_iter()
        .map(|found| PlannedTask {
            id: TaskId { step: found.step.name.clone(), unit: found.unfinished.unit },
            step: found.step,
            units: found.units,
            due: Due::Retry,
            after: Vec::new(),
            expected: Expected::Free,
        })
        .collect();
    Ok(Plan {
        pipeline: Arc::clone(pipeline),
        trigger: Trigger::Manual,
        logical_date: window.as_ref().map_or(today, |window| window.last().calendar.next(window.last()).date()),
        window,
        tasks,
        left: Vec::new(),
        goes_on_with: Vec::new(),
        leased: None,
        requests: std::collections::BTreeMap::new(),
    })
}

async fn find(gear: &Gear, pipeline: &Arc<Pipeline>, only: Option<&str>) -> Result<Vec<Found>> {
    if let Some(name) = only
        && pipeline.step(name).is_none()
    {
        let names: Vec<&str> = pipeline.steps.iter().map(|step| step.name.as_str()).collect();
        return Err(Error::usage(format!("the pipeline `{}` has no step `{name}`", pipeline.name))
            .hint(format!("its steps are {}", names.join(", "))));
    }
    let mut all = Vec::new();
    for step in pipeline.steps.iter().filter(|step| only.is_none_or(|only| only == step.name)) {
        let Action::Extract(extract) = &step.action else { continue };
        if extract.source.for_each().is_none() {
            continue;
        }
        let ledger = gear.state.snapshot(std::slice::from_ref(&step.into)).await?;
        let folder = gear.project.state_dir.join("stage").join(format!("{}.{}", pipeline.name, step.name));
        let mut found: Vec<Found> = folders(&folder)
            .into_iter()
            .filter_map(|(name, dir)| task_of(pipeline, step, extract.per, &ledger, &name, &dir).transpose())
            .collect::<Result<_>>()?;
        found.sort_by(|one, other| one.unfinished.unit.cmp(&other.unfinished.unit));
        all.extend(found);
    }
    Ok(all)
}

/// The stages of a step that are not set aside for a decision: the name of each one's unit, and its folder.
fn folders(step: &Path) -> Vec<(String, PathBuf)> {
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    let mut found = Vec::new();
    for unit in entries(step) {
        let stages = entries(&unit.path()).filter(|stage| {
            let name = stage.file_name().to_string_lossy().into_owned();
            name.starts_with("pull-") || name.starts_with("retry-")
        });
        let name = unit.file_name().to_string_lossy().into_owned();
        found.extend(stages.map(|stage| (name.clone(), stage.path())));
    }
    found
}

/// The task whose stage lies in a folder, if requests of it failed.
fn task_of(
    pipeline: &Pipeline,
    step: &Arc<Step>,
    per: Per,
    ledger: &Snapshot,
    name: &str,
    dir: &Path,
) -> Result<Option<Found>> {
    let failed = stage::failed(dir)?;
    let (first, count) = name.split_once('+').map_or((name, 1), |(first, count)| (first, count.parse().unwrap_or(1)));
    let plain = |key: &UnitKey| key.as_str().replace(':', "-");
    let Some(record) = ledger.table(&step.into).find(|record| plain(&record.unit) == first) else { return Ok(None) };
    // A stage that is under way, or was stopped, is the next run's.
    let settled = matches!(record.state, UnitState::Failed | UnitState::Loaded) && record.reason.is_some();
    if failed.is_empty() || !settled {
        return Ok(None);
    }
    let windowed = pipeline.window.is_some() && step.write != Write::Full;
    let units: Vec<Unit> = match pipeline.calendar().filter(|_| windowed && !record.unit.is_whole()) {
        None => Vec::new(),
        Some(calendar) => {
            let mut unit = calendar.parse(record.unit.as_str())?;
            let mut units = vec![unit];
            while units.len() < count && per == Per::Window {
                unit = calendar.next(&unit);
                units.push(unit);
            }
            units
        }
    };
    let unfinished = Unfinished {
        step: step.name.clone(),
        unit: record.unit.clone(),
        units: units.len(),
        loaded: record.state == UnitState::Loaded,
        failed,
    };
    Ok(Some(Found { step: Arc::clone(step), units, unfinished }))
}
