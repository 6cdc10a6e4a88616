//! A plan in words and numbers, for screens and for JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::cost::{Expected, Sum};
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
    /// What it would be billed for, where something bills by the bytes that are read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<CostTotals>,
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
    /// What it would be billed for, where something bills by the bytes that are read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<CostText>,
}

/// What a task would be billed for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CostText {
    /// The bytes that it would read; none where that cannot be told yet.
    pub processed_bytes: Option<u64>,
    /// The bytes that it would be billed for.
    pub billed_bytes: Option<u64>,
    /// What that costs, by its currency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub money: Option<Sum>,
    /// Why there is no number, or why it is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a plan would be billed for, in all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CostTotals {
    /// The bytes that it would read, as far as that is known.
    pub processed_bytes: u64,
    /// The bytes that it would be billed for, as far as that is known.
    pub billed_bytes: u64,
    /// What that costs.
    pub money: Sum,
    /// Tasks of which it cannot be told yet.
    pub unknown: usize,
    /// Tasks that read nothing, since their source is as it was.
    pub spared: usize,
    /// The most that all of it may be billed for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// The same of each step, in the order of their names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub by_step: BTreeMap<String, Self>,
}

/// What a plan would be billed for; none where nothing bills by the bytes that are read.
pub fn cost_of(plan: &Plan) -> Option<CostTotals> {
    let mut totals =
        CostTotals { max_bytes: plan.pipeline.max_bytes.map(|limit| limit.bytes), ..CostTotals::default() };
    for task in plan.tasks.iter().filter(|task| task.expected != Expected::Free) {
        let mut by_step = std::mem::take(&mut totals.by_step);
        let step = by_step.entry(task.step.name.clone()).or_default();
        for sums in [&mut totals, step] {
            match &task.expected {
                Expected::Free => {}
                Expected::Spared => sums.spared += 1,
                Expected::Unknown(_) => sums.unknown += 1,
                Expected::Priced(quote) => {
                    sums.processed_bytes += quote.price.processed;
                    sums.billed_bytes += quote.price.billed;
                    sums.money.add(&quote.money());
                }
            }
        }
        step.max_bytes = task.step.max_bytes().map(|limit| limit.bytes);
        totals.by_step = by_step;
    }
    (!totals.by_step.is_empty()).then_some(totals)
}

fn cost(expected: &Expected) -> Option<CostText> {
    let nothing = CostText { processed_bytes: Some(0), billed_bytes: Some(0), money: None, reason: None };
    Some(match expected {
        Expected::Free => return None,
        Expected::Spared => CostText { reason: Some("the source is as it was".to_owned()), ..nothing },
        Expected::Unknown(why) => {
            CostText { processed_bytes: None, billed_bytes: None, money: None, reason: Some(format!("unknown {why}")) }
        }
        Expected::Priced(quote) => {
            let mut money = Sum::default();
            money.add(&quote.money());
            CostText {
                processed_bytes: Some(quote.price.processed),
                billed_bytes: Some(quote.price.billed),
                money: Some(money),
                reason: None,
            }
        }
    })
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
                cost: cost(&task.expected),
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
        cost: cost_of(plan),
    }
}
