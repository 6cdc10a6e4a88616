//! What the daemon tells of its own doings: one line each, for a terminal, a journal, or a program.

use std::sync::Arc;

use serde::Serialize;

use crate::error::Error;

/// How much a note matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The plain course of things.
    Info,
    /// Something that somebody should know.
    Warning,
    /// Something that keeps work from being done.
    Error,
}

/// One line of the daemon's log; redacted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// How much it matters.
    pub level: Level,
    /// One sentence.
    pub message: String,
    /// The pipeline that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// The job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<i64>,
    /// The run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// More lines, such as a fault that is drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Where notes go; called from many threads, and never blocks for long.
pub type Tell = Arc<dyn Fn(Note) + Send + Sync>;

impl Note {
    fn new(level: Level, message: impl Into<String>) -> Self {
        Self { level, message: message.into(), pipeline: None, job: None, run: None, detail: None }
    }

    /// The plain course of things.
    pub fn info(message: impl Into<String>) -> Self {
        Self::new(Level::Info, message)
    }

    /// Something that somebody should know.
    pub fn warning(message: impl Into<String>) -> Self {
        Self::new(Level::Warning, message)
    }

    /// Something that keeps work from being done.
    pub fn error(message: impl Into<String>) -> Self {
        Self::new(Level::Error, message)
    }

    /// An error, with what would help.
    pub fn fault(error: &Error) -> Self {
        let hints = error.hints().join("\n");
        let note = Self::error(error.chain());
        if hints.is_empty() { note } else { note.detail(hints) }
    }

    /// About this pipeline.
    #[must_use]
    pub fn of(self, pipeline: &str) -> Self {
        Self { pipeline: Some(pipeline.to_owned()), ..self }
    }

    /// About this job.
    #[must_use]
    pub fn job(self, id: i64) -> Self {
        Self { job: Some(id), ..self }
    }

    /// About this run, if there is one.
    #[must_use]
    pub fn run(self, run: Option<&str>) -> Self {
        Self { run: run.map(str::to_owned), ..self }
    }

    /// With more lines.
    #[must_use]
    pub fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }
}
