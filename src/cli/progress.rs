//! A run on the screen: bars on a terminal, plain lines elsewhere.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};

use super::Screen;
use super::fan_view::{FanView, grouped};
use super::screen::{BAD, DIM, GOOD, WARN, counted, indented};
use crate::model::plan::{Plan, PlannedTask};
use crate::model::run::{TaskEvent, TaskId};
use crate::monitor::{Boundary, Event, Monitor};
use crate::time::display_pause;

/// Shows what happens in a run.
pub(super) struct Progress {
    screen: Screen,
    bars: Option<MultiProgress>,
    tasks: Mutex<HashMap<TaskId, Task>>,
    /// The names of tasks over several units, which their identifiers call by the first one.
    spans: HashMap<TaskId, String>,
    fans: Mutex<FanView>,
    kill_at: Option<(String, u64)>,
    crossed: Mutex<HashMap<&'static str, u64>>,
}

struct Task {
    begun: Instant,
    bar: Option<ProgressBar>,
    pages: u64,
    rows: u64,
    bytes: u64,
    /// When the bar was last drawn.
    drawn: Option<Instant>,
}

/// A bar is drawn so often at the most: answers may come by the thousand.
const DRAWN_EVERY: Duration = Duration::from_millis(100);

/// The name of a task over several units.
fn span(task: &PlannedTask) -> Option<(TaskId, String)> {
    match task.units.as_slice() {
        [first, .., last] => Some((task.id.clone(), format!("{} {first} to {last}", task.id.step))),
        _ => None,
    }
}

impl Progress {
    pub fn new(screen: &Screen, plan: &Plan, kill_at: Option<&str>) -> Self {
        let kill_at = kill_at.and_then(|text| {
            let (boundary, nth) = text.split_once(':')?;
            Some((boundary.to_owned(), nth.parse().ok()?))
        });
        Self {
            screen: screen.clone(),
            bars: screen.has_bars().then(MultiProgress::new),
            tasks: Mutex::default(),
            spans: plan.tasks.iter().filter_map(span).collect(),
            fans: Mutex::new(FanView::of(plan)),
            kill_at,
            crossed: Mutex::default(),
        }
    }

    fn name(&self, id: &TaskId) -> String {
        self.spans.get(id).cloned().unwrap_or_else(|| id.to_string())
    }

    fn line(&self, text: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| self.screen.note(text)),
            None => self.screen.note(text),
        }
    }

    /// Dies as a power cut would have it, where a crash test asked for that.
    fn cross(&self, boundary: &'static str) {
        let Some((wanted, nth)) = &self.kill_at else { return };
        let mut crossed = self.crossed.lock().unwrap_or_else(PoisonError::into_inner);
        let count = crossed.entry(boundary).or_default();
        *count += 1;
        if wanted == boundary && count == nth {
            let _ = std::process::Command::new("kill").args(["-KILL", &std::process::id().to_string()]).status();
            std::thread::sleep(Duration::from_secs(10));
        }
    }

    fn task(&self, id: &TaskId, event: &TaskEvent) {
        let name = self.name(id);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if let TaskEvent::Started { .. } = event {
            let bar = self.bars.as_ref().map(|bars| {
                let bar = bars.add(ProgressBar::new_spinner());
                if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                    bar.set_style(style);
                }
                bar.set_message(name.clone());
                bar.enable_steady_tick(Duration::from_millis(120));
                bar
            });
            tasks.insert(id.clone(), Task { begun: Instant::now(), bar, pages: 0, rows: 0, bytes: 0, drawn: None });
            return;
        }
        let task = tasks.remove(id);
        drop(tasks);
        let mut cost = String::new();
        if let Some(task) = task {
            if let Some(bar) = task.bar {
                bar.finish_and_clear();
            }
            if task.pages > 0 {
                cost = format!("{}, {}, ", counted(task.pages, "page"), HumanBytes(task.bytes));
            }
            cost = format!("{DIM}({cost}{:.1} s){DIM:#}", task.begun.elapsed().as_secs_f64());
        }
        match event {
            TaskEvent::Loaded { rows, changes, .. } => {
                let changes =
                    changes.map(|changes| format!(", +{} -{} ~{}", changes.added, changes.removed, changes.changed));
                let rows = counted(*rows, "row");
                self.line(&format!("{GOOD}loaded{GOOD:#}    {name}: {rows}{} {cost}", changes.unwrap_or_default()));
            }
            TaskEvent::Unchanged { rows, .. } => {
                self.line(&format!("unchanged {name}: {} {cost}", counted(*rows, "row")));
            }
            TaskEvent::Held { reason } => self.line(&format!("{WARN}held{WARN:#}      {name}: {reason}")),
            TaskEvent::Done { note } => self.line(&format!("{GOOD}done{GOOD:#}      {name}: {note} {cost}")),
            TaskEvent::Late { reason } => self.line(&format!("{WARN}late{WARN:#}      {name}: {reason}")),
            TaskEvent::Failed { kind, reason } => {
                self.line(&format!("{BAD}failed{BAD:#}    {name}: {kind}: {}", indented(reason, 10)));
            }
            TaskEvent::Skipped { reason } if self.screen.is_verbose() => {
                self.line(&format!("skipped   {name}: {reason}"));
            }
            TaskEvent::Retried { reason } => self.line(&format!("{WARN}retrying{WARN:#}  {name}: {reason}")),
            TaskEvent::Skipped { .. } | TaskEvent::Cancelled | TaskEvent::Started { .. } => {}
        }
    }

    fn page(&self, id: &TaskId, rows: u64, bytes: u64, total: Option<u64>) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(task) = tasks.get_mut(id) else { return };
        task.pages += 1;
        task.rows += rows;
        task.bytes += bytes;
        if let Some(bar) = &task.bar
            && task.drawn.is_none_or(|drawn| drawn.elapsed() >= DRAWN_EVERY)
        {
            task.drawn = Some(Instant::now());
            let total = total.map(|total| format!(" of {total}")).unwrap_or_default();
            #[expect(clippy::cast_precision_loss, reason = "a rate on a screen")]
            let rate = task.rows as f64 / task.begun.elapsed().as_secs_f64().max(0.001);
            let name = self.name(id);
            bar.set_message(format!(
                "{name}: {} pages, {}{total} rows, {}, {rate:.0} rows/s",
                task.pages,
                task.rows,
                HumanBytes(task.bytes)
            ));
        }
    }
}

impl Monitor for Progress {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::RunStarted { run, tasks } => {
                self.line(&format!(
                    "{DIM}run {} for {}, {}{DIM:#}",
                    run.id,
                    run.logical_date,
                    counted(*tasks as u64, "task")
                ));
            }
            Event::Task { task, event } => self.task(task, event),
            Event::Page { task, rows, bytes, total } => {
                self.page(task, *rows, *bytes, *total);
                self.cross("page");
            }
            Event::Fan { task, tally } => {
                let mut fans = self.fans.lock().unwrap_or_else(PoisonError::into_inner);
                let line = fans.tally(task, *tally, self.bars.as_ref(), Instant::now());
                drop(fans);
                if let Some(line) = line {
                    self.line(&line);
                }
            }
            Event::ResumedFan { task, finished, of, rows } => {
                let task = self.name(task);
                self.line(&format!(
                    "resumed   {task}: {} of {} requests are done already, with {}",
                    grouped(*finished),
                    grouped(*of),
                    counted(*rows, "row")
                ));
            }
            Event::Resumed { task, pages, rows } => {
                let task = self.name(task);
                self.line(&format!(
                    "resumed   {task}: {} with {} on disk already",
                    counted(*pages, "page"),
                    counted(*rows, "row")
                ));
            }
            Event::Boundary { boundary, .. } => self.cross(match boundary {
                Boundary::Leased => "leased",
                Boundary::Sealed => "sealed",
                Boundary::Judged => "judged",
                Boundary::Written => "written",
                Boundary::Flipped => "flipped",
                Boundary::Committed => "committed",
                Boundary::Recorded => "recorded",
            }),
            Event::Retry { task, reason, pause } => {
                let task = self.name(task);
                self.line(&format!("{WARN}waiting{WARN:#}   {task}: {reason}; again in {}", display_pause(*pause)));
            }
            Event::Said { task, line } if self.screen.is_verbose() => {
                let task = self.name(task);
                self.line(&format!("{DIM}says      {task}: {line}{DIM:#}"));
            }
            Event::Said { .. } | Event::Idle { .. } => {}
            Event::Pace { sentence } => self.line(&format!("{WARN}pace{WARN:#}      {sentence}")),
            Event::Warning { task: Some(task), message } => {
                let task = self.name(task);
                self.line(&format!("{WARN}warning{WARN:#}   {task}: {message}"));
            }
            Event::Warning { task: None, message } => self.line(&format!("{WARN}warning{WARN:#}   {message}")),
            Event::RunFinished { .. } => self.fans.lock().unwrap_or_else(PoisonError::into_inner).end(),
        }
    }
}
