//! A plan: what a run is going to do, and why; made once, printed by `haul plan`, walked by `haul run`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::cost::Expected;
use super::pipeline::{Pipeline, Step};
use super::run::{TaskId, Trigger};
use crate::time::{Unit, UnitKey, Window};

/// What a run is going to do, and why.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The pipeline.
    pub pipeline: Arc<Pipeline>,
    /// What asked for it.
    pub trigger: Trigger,
    /// The date that the run is for; with a window, the unit that follows the window.
    pub logical_date: chrono::NaiveDate,
    /// The units that the run is about; none for a pipeline without a window.
    pub window: Option<Window>,
    /// The tasks; each stands behind those that it waits for.
    pub tasks: Vec<PlannedTask>,
    /// The runs that this one goes on with: what they brought to its end is not asked for again, and what failed in them in
    /// a way that cannot pass fails again at once.
    pub goes_on_with: Vec<String>,
    /// The job of the queue that it is walked for, with the generation of the lease.
    pub leased: Option<(i64, u64)>,
    /// The units that were looked at and left alone.
    pub left: Vec<LeftAlone>,
    /// How many requests each task of a fan-out sends, by its step, where that is known before it begins.
    pub requests: BTreeMap<String, u64>,
}

/// One step for one unit, or for several at once, or for all there is.
#[derive(Debug, Clone)]
pub struct PlannedTask {
    /// Its name in the run.
    pub id: TaskId,
    /// The step.
    pub step: Arc<Step>,
    /// The units that it covers: one, or all of a step that runs per window; none for a table without a window.
    pub units: Vec<Unit>,
    /// Why it is in the plan.
    pub due: Due,
    /// The places, in the plan, of the tasks that must have ended before it begins.
    pub after: Vec<usize>,
    /// What it is going to be billed for.
    pub expected: Expected,
}

impl PlannedTask {
    /// The keys of its units; `all` for a table without a window.
    pub fn keys(&self) -> Vec<UnitKey> {
        if self.units.is_empty() { vec![UnitKey::whole()] } else { self.units.iter().map(Unit::key).collect() }
    }
}

/// Why a task is in a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Due {
    /// The unit was never loaded.
    New,
    /// The unit is in the window and may still have changed.
    Repull,
    /// The unit lies between loaded units and was never loaded.
    Gap,
    /// The last pull failed.
    Failed,
    /// The last pull was held.
    Held,
    /// Some of its requests failed, and only these are sent.
    Retry,
    /// At the last pull, the source did not have the unit yet.
    Late,
    /// The warehouse no longer has it.
    Missing,
    /// The user asked for it.
    Forced,
    /// Something that it reads may change in this run, or has changed since it was computed.
    Downstream,
    /// The table has no window: it is made anew.
    Snapshot,
    /// What comes after it waits for it.
    Wait,
}

impl Due {
    /// The words on a screen.
    pub fn words(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Repull => "re-pull",
            Self::Gap => "gap",
            Self::Failed => "failed before",
            Self::Held => "held before",
            Self::Retry => "its failed requests",
            Self::Late => "late before",
            Self::Missing => "missing in the warehouse",
            Self::Forced => "asked for",
            Self::Downstream => "if what it reads has changed",
            Self::Snapshot => "snapshot",
            Self::Wait => "before what comes after it",
        }
    }
}

/// A unit that was looked at and left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftAlone {
    /// The step.
    pub step: String,
    /// The unit.
    pub unit: UnitKey,
    /// Why.
    pub why: String,
}
