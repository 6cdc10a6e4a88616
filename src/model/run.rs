//! Runs and tasks: what happened to them, and the one function that says what may follow what.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ledger::Changes;
use crate::error::{Error, Result};
use crate::time::{Instant, UnitKey};

/// One execution of a pipeline for one logical date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunRecord {
    /// The run's name: pipeline, logical date and a number, such as `ratings-2024-05-01-3`.
    pub id: String,
    /// The pipeline.
    pub pipeline: String,
    /// The logical date's unit, or the date for a pipeline without a window.
    pub logical_date: String,
    /// What asked for it.
    pub trigger: Trigger,
    /// How it stands.
    pub status: RunStatus,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Instant,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Instant>,
    /// How many tasks ended how.
    pub counts: RunCounts,
}

/// Which runs are listed, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Only of this pipeline.
    pub pipeline: Option<String>,
    /// Only those that stand so.
    pub status: Option<RunStatus>,
    /// Only those that began before this one.
    pub before: Option<String>,
    /// So many at the most.
    pub limit: u32,
}

/// What asked for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// A person, on the command line.
    Manual,
    /// A backfill.
    Backfill,
    /// A schedule.
    Schedule,
}

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It is under way, or its process died.
    Running,
    /// Every task is fine.
    Succeeded,
    /// Some task failed.
    Failed,
    /// None failed, but some unit is held.
    Held,
    /// None failed and none is held, but the source does not have some unit yet.
    Late,
    /// It was stopped before its end.
    Cancelled,
    /// It would have been billed for more than `max_bytes` allows: nothing was begun, and nothing was spent.
    Refused,
}

/// How many tasks of a run ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunCounts {
    /// New rows were written.
    pub loaded: u64,
    /// Nothing had changed.
    pub unchanged: u64,
    /// They wait for a decision.
    pub held: u64,
    /// Their source does not have them yet.
    #[serde(default)]
    pub late: u64,
    /// Waits and commands that are done: they write no table. Counted while the run is walked, and not stored.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub done: u64,
    /// They failed.
    pub failed: u64,
    /// They did not run, since something before them failed, was held or late, or did not change.
    pub skipped: u64,
    /// Of those that were loaded or unchanged: they lack the rows of requests that failed.
    #[serde(default)]
    pub incomplete: u64,
    /// The bytes that all their jobs were billed for, where a system bills by them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub billed_bytes: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl RunCounts {
    /// Counts one ended task.
    pub fn count(&mut self, state: &TaskState) {
        self.incomplete += u64::from(state.incomplete().is_some());
        match state {
            TaskState::Loaded { .. } => self.loaded += 1,
            TaskState::Unchanged { .. } => self.unchanged += 1,
            TaskState::Held { .. } => self.held += 1,
            TaskState::Late { .. } => self.late += 1,
            TaskState::Done { .. } => self.done += 1,
            TaskState::Failed { .. } => self.failed += 1,
            TaskState::Skipped { .. } => self.skipped += 1,
            TaskState::Waiting | TaskState::Running { .. } | TaskState::Cancelled => {}
        }
    }
}

/// A task: one step for one unit, or for the whole window.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskId {
    /// The step.
    pub step: String,
    /// The unit, or the first unit of the window that the task covers at once.
    pub unit: UnitKey,
}

impl std::fmt::Display for TaskId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.unit.is_whole() { f.pad(&self.step) } else { f.pad(&format!("{} {}", self.step, self.unit)) }
    }
}

/// What happened to a task; the store keeps these, and nothing else, of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum TaskEvent {
    /// A worker began an attempt.
    Started {
        /// The attempt, from 1.
        attempt: u32,
    },
    /// The attempt failed in a way that another attempt may mend.
    Retried {
        /// Why, redacted.
        reason: String,
    },
    /// New rows were committed.
    Loaded {
        /// How many rows its units have now.
        rows: u64,
        /// What that changed, where older rows were there.
        changes: Option<Changes>,
        /// What its units lack: the requests that failed, and why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        incomplete: Option<String>,
    },
    /// The rows were the same.
    Unchanged {
        /// How many rows its units have.
        rows: u64,
        /// What its units lack: the requests that failed, and why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        incomplete: Option<String>,
    },
    /// A guard refused the rows.
    Held {
        /// Why.
        reason: String,
    },
    /// The source does not have the unit yet; the next run asks again.
    Late {
        /// What is missing.
        reason: String,
    },
    /// It writes no table, and is done.
    Done {
        /// What it saw, or how it ended.
        note: String,
    },
    /// It failed for good.
    Failed {
        /// The error's kind.
        kind: String,
        /// Why, redacted.
        reason: String,
    },
    /// It was not begun.
    Skipped {
        /// Why.
        reason: String,
    },
    /// The run was stopped.
    Cancelled,
}

impl TaskEvent {
    /// The word by which it is stored.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Retried { .. } => "retried",
            Self::Loaded { .. } => "loaded",
            Self::Unchanged { .. } => "unchanged",
            Self::Held { .. } => "held",
            Self::Late { .. } => "late",
            Self::Done { .. } => "done",
            Self::Failed { .. } => "failed",
            Self::Skipped { .. } => "skipped",
            Self::Cancelled => "cancelled",
        }
    }
}

/// How a task stands: its events, folded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum TaskState {
    /// It has not begun.
    #[default]
    Waiting,
    /// A worker has it.
    Running {
        /// The attempt, from 1.
        attempt: u32,
    },
    /// New rows are in the warehouse.
    Loaded {
        /// How many.
        rows: u64,
        /// What that changed.
        changes: Option<Changes>,
        /// What its units lack: the requests that failed, and why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        incomplete: Option<String>,
    },
    /// The rows were the same.
    Unchanged {
        /// How many.
        rows: u64,
        /// What its units lack: the requests that failed, and why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        incomplete: Option<String>,
    },
    /// A guard refused the rows.
    Held {
        /// Why.
        reason: String,
    },
    /// The source does not have the unit yet; the next run asks again.
    Late {
        /// What is missing.
        reason: String,
    },
    /// It writes no table, and is done.
    Done {
        /// What it saw, or how it ended.
        note: String,
    },
    /// It failed for good.
    Failed {
        /// The error's kind.
        kind: String,
        /// Why.
        reason: String,
    },
    /// It was not begun.
    Skipped {
        /// Why.
        reason: String,
    },
    /// The run was stopped.
    Cancelled,
}

impl TaskState {
    /// Whether nothing more can happen to the task in this run.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Waiting | Self::Running { .. })
    }

    /// What its units lack, if they lack anything.
    pub fn incomplete(&self) -> Option<&str> {
        match self {
            Self::Loaded { incomplete, .. } | Self::Unchanged { incomplete, .. } => incomplete.as_deref(),
            _ => None,
        }
    }

    /// The word as it is printed.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running { .. } => "running",
            Self::Loaded { .. } => "loaded",
            Self::Unchanged { .. } => "unchanged",
            Self::Held { .. } => "held",
            Self::Late { .. } => "late",
            Self::Done { .. } => "done",
            Self::Failed { .. } => "failed",
            Self::Skipped { .. } => "skipped",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state after an event: the only place where a status changes.
    ///
    /// # Errors
    /// An event that cannot follow this state: a defect.
    pub fn apply(&self, event: &TaskEvent) -> Result<Self> {
        let next = match (self, event) {
            (Self::Waiting, TaskEvent::Started { attempt }) => Self::Running { attempt: *attempt },
            (Self::Waiting, TaskEvent::Skipped { reason }) => Self::Skipped { reason: reason.clone() },
            (Self::Waiting | Self::Running { .. }, TaskEvent::Cancelled) => Self::Cancelled,
            (Self::Running { .. }, TaskEvent::Retried { .. }) => Self::Waiting,
            (Self::Running { .. }, TaskEvent::Loaded { rows, changes, incomplete }) => {
                Self::Loaded { rows: *rows, changes: *changes, incomplete: incomplete.clone() }
            }
            (Self::Running { .. }, TaskEvent::Unchanged { rows, incomplete }) => {
                Self::Unchanged { rows: *rows, incomplete: incomplete.clone() }
            }
            (Self::Running { .. }, TaskEvent::Held { reason }) => Self::Held { reason: reason.clone() },
            (Self::Running { .. }, TaskEvent::Done { note }) => Self::Done { note: note.clone() },
            (Self::Running { .. }, TaskEvent::Late { reason }) => Self::Late { reason: reason.clone() },
            (Self::Running { .. }, TaskEvent::Failed { kind, reason }) => {
                Self::Failed { kind: kind.clone(), reason: reason.clone() }
            }
            (state, event) => {
                return Err(Error::internal(format!("a task that is {} cannot get {event:?}", state.name())));
            }
        };
        Ok(next)
    }
}

/// One event with its place in the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskLog {
    /// The task.
    pub task: TaskId,
    /// When it happened.
    pub at: Instant,
    /// What happened.
    pub event: TaskEvent,
}

/// How the tasks of a run stand after these events.
///
/// # Errors
/// Events that cannot follow each other: a defect, or a damaged store.
pub fn fold(logs: &[TaskLog]) -> Result<BTreeMap<TaskId, TaskState>> {
    let mut states: BTreeMap<TaskId, TaskState> = BTreeMap::new();
    for log in logs {
        let state = states.entry(log.task.clone()).or_default();
        *state = state.apply(&log.event)?;
    }
    Ok(states)
}
