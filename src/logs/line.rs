//! One line of a log.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::time::{Instant, UnitKey};

/// One line of a run's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Line {
    /// Its number in the run, from 1.
    pub n: u64,
    /// When it was written.
    #[schema(value_type = String, format = DateTime)]
    pub at: Instant,
    /// How much it matters.
    pub level: Level,
    /// The run.
    pub run: String,
    /// Its pipeline.
    pub pipeline: String,
    /// The step, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The step's unit, or the first of those that its task covers at once; `all` for a table without a window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub unit: Option<UnitKey>,
    /// What it tells.
    pub what: What,
    /// The same for people, of one or more lines.
    pub text: String,
    /// Of what a task says while it runs, the number of the line in the task, from 1: where some are missing, they were left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<u64>,
    /// The numbers behind it, by names: `rows`, `bytes`, `took_ms`, ….
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    pub data: Map<String, Value>,
}

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// How far it has come.
    Debug,
    /// What happened.
    Info,
    /// What somebody should look at.
    Warn,
    /// What failed.
    Error,
}

impl Level {
    /// The word as it is printed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// What a line tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The run has begun.
    RunStarted,
    /// The run has ended.
    RunFinished,
    /// An attempt of a task has begun.
    Started,
    /// The attempt failed, and there is another one.
    Retried,
    /// New rows are there.
    Loaded,
    /// The rows were the same.
    Unchanged,
    /// A guard refused the rows.
    Held,
    /// The source does not have the unit yet.
    Late,
    /// A wait or a command is done.
    Done,
    /// The task failed for good.
    Failed,
    /// The task was not begun.
    Skipped,
    /// The task was stopped.
    Cancelled,
    /// Pages or requests of an earlier attempt are used again.
    Resumed,
    /// The task has crossed a boundary of its work.
    Reached,
    /// How many pages or requests are done.
    Progress,
    /// A request is sent again after a pause.
    Waiting,
    /// A program, or a source, said it.
    Said,
    /// A source is asked less, or more again.
    Pace,
    /// Something that stops nothing.
    Warning,
}

impl What {
    /// The word as it is printed.
    pub fn word(self) -> &'static str {
        match self {
            Self::RunStarted => "run",
            Self::RunFinished => "end",
            Self::Started => "started",
            Self::Retried => "retried",
            Self::Loaded => "loaded",
            Self::Unchanged => "unchanged",
            Self::Held => "held",
            Self::Late => "late",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
            Self::Resumed => "resumed",
            Self::Reached => "reached",
            Self::Progress => "progress",
            Self::Waiting => "waiting",
            Self::Said => "says",
            Self::Pace => "pace",
            Self::Warning => "warning",
        }
    }
}
