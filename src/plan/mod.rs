//! Planning: from pipeline, ledger and request to a plan; pure functions.
//!
//! ```text
//!  Pipeline ─▶ graph: order and selection ─┐
//!  Snapshot ─▶ timeline: units with places ├─▶ due: extracts ─▶ reach: transforms ─▶ Plan ─▶ explain
//!  Ask ────────────────────────────────────┘
//! ```

mod asked;
mod attempt;
mod due;
mod explain;
mod graph;
mod limits;
mod pieces;
mod reach;
#[cfg(test)]
mod tests;
mod timeline;

use std::sync::Arc;

use chrono::{Datelike, NaiveDate};
use serde::{Deserialize, Serialize};

pub use asked::{key, read, written};
pub use attempt::{next_attempt, passes};
pub use explain::{CostText, CostTotals, Explained, Explanation, Totals, WindowText, cost_of, explain};
pub use limits::{over_step, within};
pub use pieces::{instants, pieces};

use crate::error::{Error, Kind, Result};
use crate::model::cost::Expected;
use crate::model::ledger::Snapshot;
use crate::model::pipeline::{Action, Per, Pipeline, Step, Write};
use crate::model::plan::{Due, LeftAlone, Plan, PlannedTask};
use crate::model::run::{TaskId, Trigger};
use crate::time::{Instant, UnitKey};
use graph::Graph;
use timeline::Timeline;

/// More tasks than this are taken for a mistake.
const MAX_TASKS: usize = 100_000;

/// What a run is asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// What asked for it.
    pub trigger: Trigger,
    /// The date that the run is for: the window ends where its unit begins.
    pub logical_date: NaiveDate,
    /// The steps to run: `name`, `+name` with what it reads, `name+` with what reads it; none for all.
    #[serde(default)]
    pub select: Vec<String>,
    /// The dates of a backfill, instead of the window.
    #[serde(default)]
    pub range: Option<Range>,
    /// What the run covers, where that is not the lookback before its logical date: whole units, as a schedule counts them
    /// for an occurrence, or for several at once.
    #[serde(default)]
    pub window: Option<std::ops::Range<Instant>>,
    /// Whether to do everything again, whatever the ledger says.
    #[serde(default)]
    pub force: bool,
    /// Whether only the requests of fan-outs are sent once more that failed for good; `select` names at most one step then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retry: bool,
}

/// The dates of a backfill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// The first date.
    pub from: NaiveDate,
    /// The first date that no longer belongs to it.
    pub to: NaiveDate,
    /// Which of its units are done again.
    pub reprocess: Reprocess,
}

/// Which units of a backfill are done again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reprocess {
    /// Those that are not loaded.
    #[default]
    Missing,
    /// Those that failed or are held.
    Failed,
    /// All of them.
    All,
}

/// Makes the plan of a run.
///
/// # Errors
/// A cycle, a name that does not exist, a range that makes no sense, and a run that would do nothing.
pub fn build(pipeline: &Arc<Pipeline>, snapshot: &Snapshot, ask: &Ask, now: Instant) -> Result<Plan> {
    plausible(ask)?;
    let graph = Graph::of(pipeline)?;
    let selected = graph.select(pipeline, &ask.select)?;
    let timeline = Timeline::of(pipeline, snapshot, ask, now)?;
    let mut draft = Draft {
        pipeline,
        snapshot,
        ask,
        now,
        timeline: timeline.as_ref(),
        graph: &graph,
        selected: &selected,
        tasks: Vec::new(),
        left: Vec::new(),
        planned: vec![Vec::new(); pipeline.steps.len()],
    };
    for &index in &graph.order {
        if selected[index] {
            draft.step(index)?;
        }
    }
    let only_waits = draft.tasks.iter().all(|task| task.due == Due::Wait);
    let has_others = pipeline.steps.iter().any(|step| !matches!(step.action, Action::Wait(_)));
    // Nobody waits for what nothing comes after.
    if draft.tasks.is_empty() || only_waits && has_others && ask.select.is_empty() {
        return Err(nothing_to_do(pipeline, ask, &draft.left));
    }
    let Draft { mut tasks, left, .. } = draft;
    if ask.force {
        for task in tasks.iter_mut().filter(|task| task.due != Due::Wait) {
            task.due = Due::Forced;
        }
    }
    Ok(Plan {
        pipeline: pipeline.clone(),
        trigger: ask.trigger,
        logical_date: ask.logical_date,
        tasks,
        left,
        goes_on_with: Vec::new(),
        leased: None,
        requests: std::collections::BTreeMap::new(),
        window: timeline.map(Timeline::into_window).transpose()?,
    })
}

/// A plan that is being made, step by step in topological order.
struct Draft<'a> {
    pipeline: &'a Arc<Pipeline>,
    snapshot: &'a Snapshot,
    ask: &'a Ask,
    now: Instant,
    timeline: Option<&'a Timeline>,
    graph: &'a Graph,
    selected: &'a [bool],
    tasks: Vec<PlannedTask>,
    left: Vec<LeftAlone>,
    /// For each step, its tasks: their place in the plan and the places of their units in the timeline.
    planned: Vec<Vec<Placed>>,
}

/// A task's place in the plan, and those of its units in the timeline; no units for a whole table.
#[derive(Debug, Clone)]
struct Placed {
    task: usize,
    units: Vec<usize>,
}

impl Draft<'_> {
    fn step(&mut self, index: usize) -> Result<()> {
        let step = &self.pipeline.steps[index];
        if let Action::Wait(wait) = &step.action {
            return self.wait(index, wait.per);
        }
        let Some(timeline) = self.timeline.filter(|_| step.write != Write::Full) else {
            if self.whole_is_due(index) {
                self.add(index, Due::Snapshot, Vec::new())?;
            }
            return Ok(());
        };
        let due = match &step.action {
            Action::Extract(_) => due::extract(self, step, timeline),
            // What no step of the project writes may have changed unseen, as an API's rows may.
            Action::Load(load) if load.reads.is_empty() => due::extract(self, step, timeline),
            Action::Wait(_) => Vec::new(),
            action @ (Action::Transform(_) | Action::Load(_) | Action::Run(_)) => {
                reach::reader(self, index, action, timeline)
            }
        };
        match step.action.per() {
            Per::Unit => due.into_iter().try_for_each(|(unit, due)| self.add(index, due, vec![unit])),
            Per::Window => self.runs(index, due, timeline),
        }
    }

    /// A wait is due whenever its pipeline runs: once, or for each unit of the window.
    fn wait(&mut self, index: usize, per: Per) -> Result<()> {
        let units = self.timeline.filter(|_| per == Per::Unit).map(|timeline| timeline.window.clone());
        match units {
            Some(mut units) => units.try_for_each(|unit| self.add(index, Due::Wait, vec![unit])),
            None => self.add(index, Due::Wait, Vec::new()),
        }
    }

    /// Whether a table without units is made anew: always, but in a backfill only when what it reads is.
    fn whole_is_due(&mut self, index: usize) -> bool {
        let step = &self.pipeline.steps[index];
        let loaded = self.snapshot.unit(&step.into, &UnitKey::whole()).is_some_and(|record| record.loaded.is_some());
        let upstream = self.graph.upstream[index].iter().any(|(upstream, _)| !self.planned[*upstream].is_empty());
        let due = self.ask.range.is_none() || !loaded || upstream || self.ask.force;
        if !due {
            self.leave(step, UnitKey::whole(), "a whole table has no units to backfill".to_owned());
        }
        due
    }

    /// One task for each contiguous run of units; the window is not divided.
    fn runs(&mut self, index: usize, due: Vec<(usize, Due)>, timeline: &Timeline) -> Result<()> {
        let mut due: std::collections::BTreeMap<usize, Due> = due.into_iter().collect();
        if let Some((_, reason)) = due.range(timeline.window.clone()).min_by_key(|(_, due)| rank(**due)) {
            let reason = *reason;
            let begun = timeline.window.clone().filter(|unit| due::begun(self, timeline, *unit).is_ok());
            for unit in begun.collect::<Vec<_>>() {
                due.entry(unit).or_insert(reason);
            }
            let step = &self.pipeline.steps[index].name;
            let covered = |left: &LeftAlone| timeline.place(&left.unit).is_some_and(|unit| due.contains_key(&unit));
            self.left.retain(|left| left.step != *step || !covered(left));
        }
        // The window is a task of its own for an extract: what its request says is the window's.
        let extract = matches!(self.pipeline.steps[index].action, Action::Extract(_));
        let border = |unit: usize| extract && (unit == timeline.window.start || unit == timeline.window.end);
        let mut run: Vec<usize> = Vec::new();
        let mut reason = Due::Downstream;
        for (unit, due) in due {
            if run.last().is_some_and(|last| last + 1 != unit || border(unit)) {
                self.add(index, reason, std::mem::take(&mut run))?;
            }
            reason = if run.is_empty() || rank(due) < rank(reason) { due } else { reason };
            run.push(unit);
        }
        if run.is_empty() { Ok(()) } else { self.add(index, reason, run) }
    }

    fn add(&mut self, index: usize, due: Due, places: Vec<usize>) -> Result<()> {
        if self.tasks.len() == MAX_TASKS {
            return Err(too_many());
        }
        let step = self.pipeline.steps[index].clone();
        let units: Vec<_> = self.timeline.map_or_else(Vec::new, |line| places.iter().map(|p| line.units[*p]).collect());
        let unit = units.first().map_or_else(UnitKey::whole, crate::time::Unit::key);
        let after = reach::after(self, index, &places);
        self.planned[index].push(Placed { task: self.tasks.len(), units: places });
        self.tasks.push(PlannedTask {
            id: TaskId { step: step.name.clone(), unit },
            step,
            units,
            due,
            after,
            expected: Expected::Free,
        });
        Ok(())
    }

    fn leave(&mut self, step: &Step, unit: UnitKey, why: String) {
        self.left.push(LeftAlone { step: step.name.clone(), unit, why });
    }
}

/// Of several reasons, the one that says most of a task comes first.
fn rank(due: Due) -> usize {
    const ORDER: [Due; 12] = [
        Due::Forced,
        Due::Failed,
        Due::Held,
        Due::Retry,
        Due::Late,
        Due::Missing,
        Due::Gap,
        Due::New,
        Due::Repull,
        Due::Downstream,
        Due::Snapshot,
        Due::Wait,
    ];
    ORDER.iter().position(|other| *other == due).unwrap_or(ORDER.len())
}

/// Refuses dates that no calendar of a source has.
fn plausible(ask: &Ask) -> Result<()> {
    let range = ask.range.map(|range| [range.from, range.to]);
    for date in [ask.logical_date].into_iter().chain(range.into_iter().flatten()) {
        if !(1..=9998).contains(&date.year()) {
            return Err(Error::usage(format!("the date {date} lies outside of the years 1 to 9998")));
        }
    }
    match ask.range {
        Some(range) if range.from >= range.to => {
            Err(Error::usage(format!("the range from {} to {} holds no date", range.from, range.to))
                .hint("the end of a range is not part of it; it lies behind the beginning"))
        }
        _ => Ok(()),
    }
}

fn too_many() -> Error {
    Error::usage(format!("the plan would have more than {MAX_TASKS} tasks"))
        .hint("choose a shorter range, fewer steps, or a coarser grain")
}

/// A run over nothing is an error, not a success.
fn nothing_to_do(pipeline: &Pipeline, ask: &Ask, left: &[LeftAlone]) -> Error {
    let what = match ask.range {
        Some(range) => format!("backfilling `{}` from {} to {}", pipeline.name, range.from, range.to),
        None => format!("running `{}` for {}", pipeline.name, ask.logical_date),
    };
    let mut reasons: Vec<(&str, usize)> = Vec::new();
    for left in left {
        match reasons.iter_mut().find(|(why, _)| *why == left.why) {
            Some((_, count)) => *count += 1,
            None => reasons.push((&left.why, 1)),
        }
    }
    let reasons: Vec<String> = reasons.iter().take(3).map(|(why, count)| format!("{count} × {why}")).collect();
    let why = if reasons.is_empty() { "there are no steps".to_owned() } else { reasons.join("; ") };
    let hint = match ask.range {
        Some(_) => "--reprocess all does loaded units again",
        None => "--force does them again; another --date has another window",
    };
    Error::new(Kind::NothingDue, format!("{what}: nothing is due: {why}")).hint(hint)
}
