//! From what happens in a run to what its log says of it.

use serde_json::{Map, Value, json};

use super::line::{Level, What};
use crate::model::count::counted;
use crate::model::run::{RunRecord, RunStatus, TaskEvent, TaskId};
use crate::monitor::{Boundary, Event};
use crate::time::display_pause;

/// What a line is going to say.
pub(super) struct Words<'a> {
    pub task: Option<&'a TaskId>,
    pub level: Level,
    pub what: What,
    pub text: String,
    pub data: Map<String, Value>,
}

impl<'a> Words<'a> {
    pub fn new(task: Option<&'a TaskId>, level: Level, what: What, text: impl Into<String>) -> Self {
        Self { task, level, what, text: text.into(), data: Map::new() }
    }

    pub fn with(mut self, data: Value) -> Self {
        if let Value::Object(members) = data {
            self.data.extend(members);
        }
        self
    }

    /// Whether a task may say it any number of times: then it is counted, and of too many only the first and the last stay.
    pub fn is_chatter(&self) -> bool {
        let lasting = matches!(self.what, What::Said | What::Waiting | What::Progress | What::Warning);
        lasting && self.task.is_some()
    }
}

/// What is said of an event; nothing of those that are only counted.
pub(super) fn words<'a>(event: &Event<'a>) -> Option<Words<'a>> {
    let info = |task: Option<&'a TaskId>, what, text: String| Words::new(task, Level::Info, what, text);
    let warn = |task: Option<&'a TaskId>, what, text: String| Words::new(task, Level::Warn, what, text);
    Some(match event {
        Event::RunStarted { run, tasks } => begun(run, *tasks),
        Event::RunFinished { run } => ended(run),
        Event::Task { task, event } => of_task(task, event),
        Event::Resumed { task, pages, rows } => info(
            Some(task),
            What::Resumed,
            format!("{} with {} are on disk already", counted(*pages, "page"), counted(*rows, "row")),
        )
        .with(json!({ "pages": pages, "rows": rows })),
        Event::ResumedFan { task, finished, of, rows } => info(
            Some(task),
            What::Resumed,
            format!("{finished} of {of} requests are done already, with {}", counted(*rows, "row")),
        )
        .with(json!({ "requests": finished, "of": of, "rows": rows })),
        Event::Boundary { task, boundary } => Words::new(Some(task), Level::Debug, What::Reached, word(*boundary)),
        Event::Retry { task, reason, pause } => {
            warn(Some(task), What::Waiting, format!("{reason}; again in {}", display_pause(*pause)))
                .with(json!({ "pause_ms": u64::try_from(pause.as_millis()).unwrap_or(u64::MAX) }))
        }
        Event::Said { task, line } => info(Some(task), What::Said, line.clone()),
        Event::Pace { sentence } => info(None, What::Pace, sentence.clone()),
        Event::Warning { task, message } => warn(*task, What::Warning, message.clone()),
        Event::Page { .. } | Event::Fan { .. } | Event::Idle { .. } => return None,
    })
}

fn begun<'a>(run: &RunRecord, tasks: usize) -> Words<'a> {
    let text = format!("{} for {}, {}", run.id, run.logical_date, counted(tasks as u64, "task"));
    Words::new(None, Level::Info, What::RunStarted, text)
        .with(json!({ "logical_date": run.logical_date, "trigger": run.trigger, "tasks": tasks }))
}

fn ended<'a>(run: &RunRecord) -> Words<'a> {
    let level = match run.status {
        RunStatus::Succeeded => Level::Info,
        RunStatus::Held | RunStatus::Late | RunStatus::Cancelled | RunStatus::Running => Level::Warn,
        RunStatus::Failed | RunStatus::Refused => Level::Error,
    };
    let counts = run.counts;
    let status = serde_json::to_value(run.status).unwrap_or_default();
    let text = format!(
        "{}: {} loaded, {} unchanged, {} held, {} late, {} failed, {} skipped",
        status.as_str().unwrap_or_default(),
        counts.loaded,
        counts.unchanged,
        counts.held,
        counts.late,
        counts.failed,
        counts.skipped
    );
    Words::new(None, level, What::RunFinished, text).with(json!({ "status": status, "counts": counts }))
}

fn of_task<'a>(task: &'a TaskId, event: &TaskEvent) -> Words<'a> {
    let (level, what, text) = match event {
        TaskEvent::Started { attempt } => (Level::Info, What::Started, format!("attempt {attempt}")),
        TaskEvent::Retried { reason } => (Level::Warn, What::Retried, reason.clone()),
        TaskEvent::Loaded { rows, changes, incomplete } => {
            let changes = changes
                .map(|changes| format!(", +{} -{} ~{}", changes.added, changes.removed, changes.changed))
                .unwrap_or_default();
            (Level::Info, What::Loaded, format!("{}{changes}{}", counted(*rows, "row"), lacking(incomplete.as_deref())))
        }
        TaskEvent::Unchanged { rows, incomplete } => {
            (Level::Info, What::Unchanged, format!("{}{}", counted(*rows, "row"), lacking(incomplete.as_deref())))
        }
        TaskEvent::Held { reason } => (Level::Warn, What::Held, reason.clone()),
        TaskEvent::Late { reason } => (Level::Warn, What::Late, reason.clone()),
        TaskEvent::Done { note } => (Level::Info, What::Done, note.clone()),
        TaskEvent::Failed { kind, reason } => (Level::Error, What::Failed, format!("{kind}: {reason}")),
        TaskEvent::Skipped { reason } => (Level::Info, What::Skipped, reason.clone()),
        TaskEvent::Cancelled => (Level::Warn, What::Cancelled, String::new()),
    };
    let mut words = Words::new(Some(task), level, what, text);
    match event {
        TaskEvent::Started { attempt } => words = words.with(json!({ "attempt": attempt })),
        TaskEvent::Loaded { rows, changes, .. } => words = words.with(json!({ "rows": rows, "changes": changes })),
        TaskEvent::Unchanged { rows, .. } => words = words.with(json!({ "rows": rows })),
        TaskEvent::Failed { kind, .. } => words = words.with(json!({ "kind": kind })),
        _ => {}
    }
    words
}

fn lacking(incomplete: Option<&str>) -> String {
    incomplete.map(|why| format!("; incomplete: {why}")).unwrap_or_default()
}

fn word(boundary: Boundary) -> &'static str {
    match boundary {
        Boundary::Leased => "leased",
        Boundary::Sealed => "sealed",
        Boundary::Judged => "judged",
        Boundary::Written => "written",
        Boundary::Flipped => "flipped",
        Boundary::Committed => "committed",
        Boundary::Recorded => "recorded",
    }
}
