//! A plan in words and numbers, for screens and for JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::plan::{Due, LeftAlone, Plan};
use crate::model::run::Trigger;
use crate::time::{Instant, UnitKey};

/// What a plan does, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The pipeline.
    pub pipeline: String,
    /// The date that the run is for.
    pub logical_date: chrono::NaiveDate,
    /// What asked for it.
    pub trigger: Trigger,
    /// The window; none for a pipeline that covers all there is.
    pub window: Option<WindowText>,
    /// The tasks in the order in which they may run.
    pub tasks: Vec<Explained>,
    /// The units that were looked at and left alone.
    pub left: Vec<LeftAlone>,
    /// All of it in numbers.
    pub totals: Totals,
}

/// The window of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WindowText {
    /// The first unit.
    pub first: UnitKey,
    /// The last unit.
    pub last: UnitKey,
    /// How many units.
    pub units: usize,
    /// What they are: `days`.
    pub grain: &'static str,
    /// The first instant.
    pub start: Instant,
    /// The first instant after it.
    pub end: Instant,
    /// The zone of its units.
    pub timezone: &'static str,
}

/// A task in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// Its name in the run.
    pub task: String,
    /// The step.
    pub step: String,
    /// `extract` or `transform`.
    pub kind: &'static str,
    /// The table that it writes.
    pub into: String,
    /// How rows get into the table.
    pub write: &'static str,
    /// Its units; `all` for a table without a window.
    pub units: Vec<UnitKey>,
    /// Why it is in the plan.
    pub due: Due,
    /// The same in words.
    pub why: &'static str,
    /// The tasks that it waits for.
    pub after: Vec<String>,
}

/// A plan in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Tasks.
    pub tasks: usize,
    /// Units of all tasks.
    pub units: usize,
    /// Units that are left alone.
    pub left: usize,
    /// Requests of all fan-outs of which their number is known before they begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Tasks of each step.
    pub by_step: BTreeMap<String, usize>,
    /// Tasks of each reason, in words.
    pub by_reason: BTreeMap<&'static str, usize>,
}

/// Says what a plan does, and why.
pub fn explain(plan: &Plan) -> Explanation {
    let names: Vec<String> = plan.tasks.iter().map(|task| task.id.to_string()).collect();
    let requests =
        plan.tasks.iter().filter_map(|task| plan.requests.get(&task.step.name)).copied().reduce(|a, b| a + b);
    let mut totals = Totals { tasks: plan.tasks.len(), left: plan.left.len(), requests, ..Totals::default() };
    let tasks = plan
        .tasks
        .iter()
        .zip(&names)
        .map(|(task, name)| {
            let units = task.keys();
            totals.units += units.len();
            *totals.by_step.entry(task.step.name.clone()).or_default() += 1;
            *totals.by_reason.entry(task.due.words()).or_default() += 1;
            Explained {
                task: name.clone(),
                step: task.step.name.clone(),
                kind: task.step.action.word(),
                into: task.step.into.to_string(),
                write: task.step.write.word(),
                units,
                due: task.due,
                why: task.due.words(),
                after: task.after.iter().filter_map(|place| names.get(*place).cloned()).collect(),
            }
        })
        .collect();
    Explanation {
        pipeline: plan.pipeline.name.clone(),
        logical_date: plan.logical_date,
        trigger: plan.trigger,
        window: plan.window.as_ref().map(|window| WindowText {
            first: window.first().key(),
            last: window.last().key(),
            units: window.units().len(),
            grain: window.first().calendar.grain.plural(),
            start: window.start(),
            end: window.end(),
            timezone: window.first().calendar.tz.name(),
        }),
        tasks,
        left: plan.left.clone(),
        totals,
    }
}
