//! Going on: what runs before have brought to its end is not asked for again, and what cannot pass is not tried again.

use std::collections::{HashMap, HashSet};

use super::gear::Gear;
use crate::error::{Kind, Result};
use crate::model::ledger::PullOutcome;
use crate::model::pipeline::Action;
use crate::model::plan::{Due, Plan};
use crate::model::run::{RunRecord, RunStatus, TaskEvent, TaskState, Trigger, fold};

/// What is known of a plan's tasks before they begin, by their place in the plan.
#[derive(Debug, Default)]
pub(super) struct Resumed {
    /// The extracts that were brought to their end.
    pub done: HashSet<usize>,
    /// The tasks that failed by errors which cannot pass.
    pub failed: HashMap<usize, TaskEvent>,
}

impl Resumed {
    /// Looks at the runs that this one goes on with: those that it was told, and those for the same date that were stopped.
    pub async fn of(gear: &Gear, plan: &Plan, record: &RunRecord) -> Result<Self> {
        let mut resumed = Self { done: done_before(gear, plan, record).await?, failed: HashMap::new() };
        if plan.goes_on_with.is_empty() {
            return Ok(resumed);
        }
        for (index, task) in plan.tasks.iter().enumerate() {
            if matches!(task.step.action, Action::Extract(_)) && done_in(gear, plan, index, &plan.goes_on_with).await? {
                resumed.done.insert(index);
            }
        }
        let Some(last) = plan.goes_on_with.last() else { return Ok(resumed) };
        let Some((_, logs)) = gear.state.run(last).await? else { return Ok(resumed) };
        let states = fold(&logs)?;
        for (index, task) in plan.tasks.iter().enumerate() {
            let Some(TaskState::Failed { kind, reason }) = states.get(&task.id) else { continue };
            if !Kind::named(kind).is_some_and(crate::plan::passes) {
                resumed.failed.insert(index, TaskEvent::Failed { kind: kind.clone(), reason: reason.clone() });
            }
        }
        Ok(resumed)
    }
}

/// How many runs in a row may have been stopped before one goes on with them all.
const MOST_STOPS: u32 = 20;

/// The extracts that runs for the same date had brought to their end before they were stopped: they are not asked for again.
async fn done_before(gear: &Gear, plan: &Plan, current: &RunRecord) -> Result<HashSet<usize>> {
    let mut done = HashSet::new();
    if plan.trigger == Trigger::Schedule {
        return Ok(done);
    }
    let runs = gear.state.runs(Some(&plan.pipeline.name), MOST_STOPS).await?;
    let goes_on = |run: &&RunRecord| {
        let recent = current.started_at - run.started_at < chrono::Duration::hours(12);
        run.status == RunStatus::Cancelled && run.logical_date == current.logical_date && recent
    };
    let stopped: Vec<&RunRecord> = runs.iter().filter(|run| run.id != current.id).take_while(goes_on).collect();
    if stopped.is_empty() {
        return Ok(done);
    }
    // Who asks for everything again gets it; but a backfill of everything that was stopped goes on like any other.
    let backfills = plan.trigger == Trigger::Backfill && stopped.iter().all(|run| run.trigger == Trigger::Backfill);
    let stopped: Vec<String> = stopped.iter().map(|run| run.id.clone()).collect();
    for (index, task) in plan.tasks.iter().enumerate() {
        let again = task.due == Due::Forced && !backfills;
        if !matches!(task.step.action, Action::Extract(_)) || again {
            continue;
        }
        if done_in(gear, plan, index, &stopped).await? {
            done.insert(index);
        }
    }
    Ok(done)
}

/// Whether these runs have brought all units of a task to their end.
async fn done_in(gear: &Gear, plan: &Plan, index: usize, runs: &[String]) -> Result<bool> {
    let task = &plan.tasks[index];
    for key in task.keys() {
        let pulls = gear.state.pulls(&task.step.into, Some(&key)).await?;
        let done = pulls.last().is_some_and(|pull| {
            !matches!(pull.outcome, PullOutcome::Failed | PullOutcome::Held | PullOutcome::Late)
                && runs.contains(&pull.run)
        });
        if !done {
            return Ok(false);
        }
    }
    Ok(true)
}
