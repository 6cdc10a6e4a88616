//! Hears a run and makes its spans.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant as Moment};

use super::About;
use super::queue::Queue;
use super::span::{Open, pair};
use crate::model::run::{RunRecord, RunStatus, TaskEvent, TaskId};
use crate::monitor::{Boundary, Event, Monitor};
use crate::secret::Redactor;
use crate::time::{Clock, Instant};

/// How far a pull has come is told so often.
const PAGES_EVERY: Duration = Duration::from_secs(1);

/// Makes the spans of one run, and passes everything on to whoever else listens.
pub(super) struct RunTrace {
    pub about: About,
    pub queue: Queue,
    pub clock: Clock,
    pub redactor: Redactor,
    pub next: Arc<dyn Monitor>,
    pub trace: Mutex<Option<Trace>>,
}

/// A run that is under way.
pub(super) struct Trace {
    root: Open,
    pipeline: String,
    run: String,
    tasks: HashMap<TaskId, Task>,
}

/// An attempt of a task.
struct Task {
    span: Open,
    /// When the last boundary was crossed, and which.
    crossed: (Instant, Option<Boundary>),
    /// What it pulls, from the first boundary on.
    pull: Option<Open>,
    /// When it was told the last time how far that has come.
    told: Option<Moment>,
    pages: u64,
    rows: u64,
    bytes: u64,
    /// Requests of a fan-out, and how many of them failed.
    requests: Option<(u64, u64)>,
}

impl Monitor for RunTrace {
    fn event(&self, event: &Event<'_>) {
        self.hear(event);
        self.next.event(event);
    }
}

impl RunTrace {
    fn hear(&self, event: &Event<'_>) {
        let now = self.clock.now();
        let mut trace = self.trace.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::RunStarted { run, tasks } => *trace = Some(self.begin(run, *tasks as u64)),
            Event::RunFinished { run } => {
                if let Some(trace) = trace.take() {
                    self.finish(trace, run, now);
                }
            }
            _ => {}
        }
        let Some(trace) = trace.as_mut() else { return };
        match event {
            Event::Task { task, event: TaskEvent::Started { attempt } } => {
                trace.task(task, now).span.set("haul.attempt", *attempt);
            }
            Event::Task { task, event } => self.task_event(trace, task, event, now),
            Event::Page { task, rows, bytes, .. } => trace.task(task, now).page(*rows, *bytes, now),
            Event::Fan { task, tally } => trace.task(task, now).requests = Some((tally.done, tally.failed)),
            Event::Boundary { task, boundary } => self.crossed(trace.task(task, now), *boundary, now),
            Event::Resumed { task, pages, rows } => {
                let told = vec![pair("haul.pages", *pages), pair("haul.rows", *rows)];
                trace.task(task, now).span.happened("resumed", now, told);
            }
            Event::ResumedFan { task, finished, rows, .. } => {
                let told = vec![pair("haul.requests", *finished), pair("haul.rows", *rows)];
                trace.task(task, now).span.happened("resumed", now, told);
            }
            Event::Retry { task, reason, pause } => {
                let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                let told = vec![pair("haul.reason", self.redactor.redact(reason)), pair("haul.pause_ms", pause)];
                trace.task(task, now).span.happened("retry", now, told);
            }
            Event::Warning { task, message } => {
                let told = vec![pair("haul.message", self.redactor.redact(message))];
                let span = match task {
                    Some(task) => &mut trace.task(task, now).span,
                    None => &mut trace.root,
                };
                span.happened("warning", now, told);
            }
            // What programs say is in the log, and what only paces or waits is no part of what was done.
            _ => {}
        }
    }

    fn begin(&self, run: &RunRecord, tasks: u64) -> Trace {
        let mut root = Open::root(&format!("run {}", run.pipeline), run.started_at);
        root.set("haul.run.id", run.id.as_str());
        root.set("haul.pipeline", run.pipeline.as_str());
        root.set("haul.logical_date", run.logical_date.as_str());
        root.set("haul.trigger", word(run.trigger));
        root.set("haul.run.tasks", tasks);
        root.set_known("haul.schedule.time", self.about.scheduled_for.map(|at| at.to_rfc3339()));
        root.set_known("haul.job.id", self.about.job);
        root.set_known("haul.job.attempt", self.about.attempt);
        root.set_known("haul.backfill", self.about.backfill.clone());
        Trace { root, pipeline: run.pipeline.clone(), run: run.id.clone(), tasks: HashMap::new() }
    }

    fn finish(&self, mut trace: Trace, run: &RunRecord, now: Instant) {
        let (root, counts) = (&mut trace.root, run.counts);
        root.set("haul.run.status", word(run.status));
        for (name, count) in [
            ("loaded", counts.loaded),
            ("unchanged", counts.unchanged),
            ("held", counts.held),
            ("late", counts.late),
            ("done", counts.done),
            ("failed", counts.failed),
            ("skipped", counts.skipped),
        ] {
            if count > 0 {
                root.set(&format!("haul.run.{name}"), count);
            }
        }
        if counts.billed_bytes > 0 {
            root.set("haul.billed_bytes", counts.billed_bytes);
        }
        match run.status {
            RunStatus::Failed => root.fail(format!("{} of the tasks failed", counts.failed)),
            RunStatus::Refused => root.fail("it would have been billed for more than it may".to_owned()),
            _ => {}
        }
        self.queue.push(trace.root.end(now));
    }

    fn task_event(&self, trace: &mut Trace, task: &TaskId, event: &TaskEvent, now: Instant) {
        // What was never begun has no time of its own; the root counts it.
        if let TaskEvent::Skipped { .. } | TaskEvent::Cancelled = event
            && !trace.tasks.contains_key(task)
        {
            return;
        }
        trace.task(task, now);
        let Some(mut ended) = trace.tasks.remove(task) else { return };
        let redacted = |text: &str| self.redactor.redact(text);
        let span = &mut ended.span;
        match event {
            TaskEvent::Started { .. } => {}
            TaskEvent::Loaded { rows, incomplete, .. } | TaskEvent::Unchanged { rows, incomplete } => {
                span.set("haul.rows", *rows);
                span.set_known("haul.incomplete", incomplete.as_deref().map(redacted));
            }
            TaskEvent::Held { reason } | TaskEvent::Late { reason } | TaskEvent::Skipped { reason } => {
                span.set("haul.reason", redacted(reason));
            }
            TaskEvent::Done { note } => span.set("haul.reason", redacted(note)),
            TaskEvent::Failed { kind, reason } => {
                span.set("error.type", kind.as_str());
                span.fail(redacted(reason));
            }
            TaskEvent::Retried { reason } => span.fail(redacted(reason)),
            TaskEvent::Cancelled => {}
        }
        self.end(ended, event.word(), now);
    }

    fn end(&self, mut task: Task, outcome: &str, now: Instant) {
        task.span.set("haul.outcome", outcome);
        if task.pages > 0 {
            task.span.set("haul.pages", task.pages);
            task.span.set("haul.bytes", task.bytes);
        }
        if let Some((requests, failed)) = task.requests {
            task.span.set("haul.requests", requests);
            task.span.set("haul.requests.failed", failed);
        }
        if let Some(pull) = task.take_pull().filter(|_| task.pages > 0) {
            self.queue.push(pull.end(now));
        }
        self.queue.push(task.span.end(now));
    }

    fn crossed(&self, task: &mut Task, boundary: Boundary, now: Instant) {
        let since = std::mem::replace(&mut task.crossed, (now, Some(boundary))).0;
        let step = match boundary {
            Boundary::Leased => {
                task.pull = Some(task.span.child("pull", now));
                return;
            }
            Boundary::Sealed => {
                if let Some(pull) = task.take_pull() {
                    self.queue.push(pull.end(now));
                }
                return;
            }
            Boundary::Written => "write",
            Boundary::Flipped => "flip",
            Boundary::Committed => "commit",
            Boundary::Judged | Boundary::Recorded => return,
        };
        self.queue.push(task.span.child(step, since).end(now));
    }
}

impl Trace {
    /// The attempt of a task that is under way; what it does may be heard before its first event is.
    fn task(&mut self, task: &TaskId, now: Instant) -> &mut Task {
        let Self { root, pipeline, run, tasks } = self;
        tasks.entry(task.clone()).or_insert_with(|| {
            let mut span = root.child(&task.step, now);
            span.set("haul.run.id", run.as_str());
            span.set("haul.pipeline", pipeline.as_str());
            span.set("haul.step", task.step.as_str());
            span.set("haul.unit", task.unit.to_string());
            let crossed = (now, None);
            Task { span, crossed, pull: None, told: None, pages: 0, rows: 0, bytes: 0, requests: None }
        })
    }
}

impl Task {
    fn page(&mut self, rows: u64, bytes: u64, now: Instant) {
        self.pages += 1;
        self.rows += rows;
        self.bytes += bytes;
        if let Some(pull) = self.pull.as_mut().filter(|_| self.told.is_none_or(|told| told.elapsed() >= PAGES_EVERY)) {
            self.told = Some(Moment::now());
            let told = [("haul.pages", self.pages), ("haul.rows", self.rows), ("haul.bytes", self.bytes)];
            pull.happened("pages", now, told.map(|(key, value)| pair(key, value)).to_vec());
        }
    }

    /// What it has pulled, if it has not been told yet.
    fn take_pull(&mut self) -> Option<Open> {
        let mut pull = self.pull.take()?;
        for (key, value) in [("haul.pages", self.pages), ("haul.rows", self.rows), ("haul.bytes", self.bytes)] {
            pull.set(key, value);
        }
        Some(pull)
    }
}

impl Drop for RunTrace {
    fn drop(&mut self) {
        // A run that ended by an error of its own has not told its end.
        let trace = self.trace.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut trace) = trace else { return };
        let now = self.clock.now();
        let tasks = std::mem::take(&mut trace.tasks);
        tasks.into_values().for_each(|task| self.end(task, "unknown", now));
        trace.root.fail("it ended without a word".to_owned());
        self.queue.push(trace.root.end(now));
    }
}

/// The word of something that is stored by one.
fn word(value: impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
