//! What is counted: by the runs of this process as they go, and by the queue and the schedules when somebody asks.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant as Moment;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::house::House;
use crate::error::{Context as _, Kind, Result};
use crate::model::run::{RunStatus, TaskEvent, TaskId};
use crate::monitor::{Event, Monitor};
use crate::schedule::Timetable;
use crate::traces::{Counts, Traces};

/// So many pipelines have lines of their own; the others are counted together.
const MOST_PIPELINES: usize = 500;

/// The label of the others.
const OTHERS: &str = "_others";

/// What is counted in this process; a cheap clone.
#[derive(Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

struct Inner {
    traces: Option<Traces>,
    spans: Family<Span, Counter>,
    registry: Registry,
    pipelines: Mutex<BTreeSet<Arc<str>>>,
    runs: Family<Ended, Counter>,
    run_seconds: Family<Of, Histogram, fn() -> Histogram>,
    tasks: Family<Ended, Counter>,
    task_seconds: Family<Of, Histogram, fn() -> Histogram>,
    rows: Family<Of, Counter>,
    bytes: Family<Of, Counter>,
    billed: Family<Of, Counter>,
    retried: Family<Of, Counter>,
    queue: Family<Queued, Gauge>,
    oldest: Family<OfClass, Gauge<f64, std::sync::atomic::AtomicU64>>,
    lag: Family<Of, Gauge<f64, std::sync::atomic::AtomicU64>>,
    next: Family<Of, Gauge>,
    paused: Gauge,
    loaded: Gauge,
    uptime: Gauge,
    memory: Gauge,
}

/// A pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    pipeline: Name,
}

/// How something of a pipeline ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    pipeline: Name,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfClass {
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Queued {
    class: &'static str,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Span {
    outcome: &'static str,
}

/// A pipeline's name, or the word for all others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Name(Arc<str>);

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::result::Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&&*self.0, encoder)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(None)
    }
}

/// From 50 ms to about 14 hours.
fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.05, 4.0, 11))
}

impl Metrics {
    /// Nothing is counted yet; of `traces` it is told what became of their spans.
    pub fn new(traces: Option<Traces>) -> Self {
        let mut registry = Registry::with_prefix("haul");
        let mut inner = Inner {
            traces,
            spans: Family::default(),
            registry: Registry::default(),
            pipelines: Mutex::default(),
            runs: Family::default(),
            run_seconds: Family::new_with_constructor(durations as fn() -> Histogram),
            tasks: Family::default(),
            task_seconds: Family::new_with_constructor(durations as fn() -> Histogram),
            rows: Family::default(),
            bytes: Family::default(),
            billed: Family::default(),
            retried: Family::default(),
            queue: Family::default(),
            oldest: Family::default(),
            lag: Family::default(),
            next: Family::default(),
            paused: Gauge::default(),
            loaded: Gauge::default(),
            uptime: Gauge::default(),
            memory: Gauge::default(),
        };
        registry.register("build", "The version of haul", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        counted(&mut registry, &inner);
        asked(&mut registry, &inner);
        inner.registry = registry;
        Self { inner: Arc::new(inner) }
    }

    /// Counts what happens in a run of a pipeline.
    pub fn listen(&self, pipeline: &str) -> Arc<dyn Monitor> {
        let of = Of { pipeline: self.name(pipeline) };
        Arc::new(RunCount { metrics: self.clone(), of, begun: Moment::now(), tasks: Mutex::default() })
    }

    /// The label of a pipeline: its name as long as there are not too many.
    fn name(&self, pipeline: &str) -> Name {
        let mut known = self.inner.pipelines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = known.get(pipeline) {
            return Name(Arc::clone(name));
        }
        if known.len() >= MOST_PIPELINES {
            return Name(Arc::from(OTHERS));
        }
        let name: Arc<str> = Arc::from(pipeline);
        known.insert(Arc::clone(&name));
        Name(name)
    }

    /// All of it, in the text format of OpenMetrics.
    ///
    /// # Errors
    /// A store that cannot be read.
    pub async fn text(&self, house: &House) -> Result<String> {
        self.look(house).await?;
        let mut text = String::new();
        encode(&mut text, &self.inner.registry).context(Kind::Internal, || "writing the metrics".to_owned())?;
        Ok(text)
    }

    /// Looks at the queue and the schedules.
    async fn look(&self, house: &House) -> Result<()> {
        let (inner, state, now) = (&self.inner, house.state(), house.now());
        let seconds = |since: crate::time::Instant| (now - since).as_seconds_f64().max(0.0);
        for (class, depth) in state.queue_depth(now).await? {
            let class = class.name();
            for (state, count) in [("ready", depth.ready), ("waiting", depth.waiting), ("leased", depth.leased)] {
                inner.queue.get_or_create(&Queued { class, state }).set(whole(count));
            }
            inner.oldest.get_or_create(&OfClass { class }).set(depth.oldest.map_or(0.0, seconds));
        }
        let (project, paused, cursors) = (house.project(), state.paused().await?, state.cursors().await?);
        inner.lag.clear();
        inner.next.clear();
        for pipeline in &project.pipelines {
            let Some(schedule) = pipeline.schedule.as_ref().filter(|schedule| !schedule.paused) else { continue };
            if paused.contains_key(&pipeline.name) {
                continue;
            }
            let of = Of { pipeline: self.name(&pipeline.name) };
            let timetable = Timetable::of(schedule, pipeline.timezone)?;
            if let Some(next) = timetable.next(now) {
                inner.next.get_or_create(&of).set(next.at.timestamp());
            }
            let open = cursors.get(&pipeline.name).and_then(|cursor| timetable.next(*cursor));
            let lag = open.filter(|open| open.at <= now).map_or(0.0, |open| seconds(open.at));
            // Of those that are counted together, the one that is latest tells.
            let gauge = inner.lag.get_or_create(&of);
            gauge.set(gauge.get().max(lag));
        }
        inner.paused.set(whole(paused.len() as u64));
        inner.loaded.set(whole(project.pipelines.len() as u64));
        if let Some(Counts { sent, dropped }) = inner.traces.as_ref().map(Traces::counts) {
            for (outcome, count) in [("sent", sent), ("dropped", dropped)] {
                inner.spans.get_or_create(&Span { outcome }).inner().store(count, Ordering::Relaxed);
            }
        }
        inner.uptime.set(whole(house.age().as_secs()));
        inner.memory.set(resident_bytes().map_or(0, whole));
        Ok(())
    }
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What runs count as they go.
fn counted(registry: &mut Registry, inner: &Inner) {
    registry.register("runs", "Runs of this process that have ended", inner.runs.clone());
    registry.register_with_unit("run_duration", "How long they took", Unit::Seconds, inner.run_seconds.clone());
    registry.register("tasks", "Tasks that have ended", inner.tasks.clone());
    registry.register_with_unit(
        "task_duration",
        "How long tasks took that were begun",
        Unit::Seconds,
        inner.task_seconds.clone(),
    );
    registry.register("rows_loaded", "Rows of the units that were loaded", inner.rows.clone());
    registry.register("bytes_received", "Bytes of pages that came from sources", inner.bytes.clone());
    registry.register("bytes_billed", "Bytes that runs were billed for", inner.billed.clone());
    if inner.traces.is_some() {
        registry.register("trace_spans", "Spans of traces that arrived, and that were dropped", inner.spans.clone());
    }
    registry.register("requests_retried", "Requests that were sent again", inner.retried.clone());
}

/// What is looked up when somebody asks.
fn asked(registry: &mut Registry, inner: &Inner) {
    registry.register("queue_jobs", "Jobs that can begin, wait for their time, or are under way", inner.queue.clone());
    registry.register_with_unit(
        "queue_oldest_wait",
        "How long the first job that can begin has waited",
        Unit::Seconds,
        inner.oldest.clone(),
    );
    registry.register_with_unit(
        "occurrence_lag",
        "How long the first occurrence without an end is overdue",
        Unit::Seconds,
        inner.lag.clone(),
    );
    registry.register_with_unit(
        "next_occurrence_timestamp",
        "When the pipeline runs next, since 1970",
        Unit::Seconds,
        inner.next.clone(),
    );
    registry.register("pipelines_paused", "Pipelines that somebody has paused", inner.paused.clone());
    registry.register("pipelines", "Pipelines of the project", inner.loaded.clone());
    registry.register_with_unit("uptime", "How long the daemon answers", Unit::Seconds, inner.uptime.clone());
    registry.register_with_unit("resident_memory", "Memory of the process", Unit::Bytes, inner.memory.clone());
}

/// The memory that the process has in use; known on Linux only.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// Counts one run.
struct RunCount {
    metrics: Metrics,
    of: Of,
    begun: Moment,
    tasks: Mutex<HashMap<TaskId, Moment>>,
}

impl RunCount {
    fn task(&self, task: &TaskId, event: &TaskEvent) {
        let inner = &self.metrics.inner;
        match event {
            TaskEvent::Started { .. } => {
                let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
                tasks.entry(task.clone()).or_insert_with(Moment::now);
                return;
            }
            TaskEvent::Retried { .. } => return,
            TaskEvent::Loaded { rows, .. } => drop(inner.rows.get_or_create(&self.of).inc_by(*rows)),
            _ => {}
        }
        let status = event.word();
        inner.tasks.get_or_create(&Ended { pipeline: self.of.pipeline.clone(), status }).inc();
        let begun = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).remove(task);
        if let Some(begun) = begun {
            inner.task_seconds.get_or_create(&self.of).observe(begun.elapsed().as_secs_f64());
        }
    }
}

impl Monitor for RunCount {
    fn event(&self, event: &Event<'_>) {
        let inner = &self.metrics.inner;
        match event {
            Event::Task { task, event } => self.task(task, event),
            Event::Page { bytes, .. } => {
                inner.bytes.get_or_create(&self.of).inc_by(*bytes);
            }
            Event::Retry { .. } => {
                inner.retried.get_or_create(&self.of).inc();
            }
            Event::RunFinished { run } => {
                let status = match run.status {
                    RunStatus::Running => "running",
                    RunStatus::Succeeded => "succeeded",
                    RunStatus::Failed => "failed",
                    RunStatus::Held => "held",
                    RunStatus::Late => "late",
                    RunStatus::Cancelled => "cancelled",
                    RunStatus::Refused => "refused",
                };
                inner.runs.get_or_create(&Ended { pipeline: self.of.pipeline.clone(), status }).inc();
                inner.run_seconds.get_or_create(&self.of).observe(self.begun.elapsed().as_secs_f64());
                inner.billed.get_or_create(&self.of).inc_by(run.counts.billed_bytes);
            }
            _ => {}
        }
    }
}
