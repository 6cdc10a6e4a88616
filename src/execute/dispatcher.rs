//! The dispatcher: begins tasks as what they wait for ends, and is the only writer of task events.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::fan::Breakers;
use super::gear::Gear;
use super::purse::Purse;
use super::scope::Occasion;
use super::worker::{self, Shared};
use crate::error::{Error, Result};
use crate::logs::RunLog;
use crate::model::ledger::PullOutcome;
use crate::model::pipeline::Action;
use crate::model::plan::{Due, Plan, PlannedTask};
use crate::model::run::{RunCounts, RunRecord, RunStatus, TaskEvent, TaskLog, TaskState, Trigger};
use crate::monitor::{Event, Monitor};

/// Walks the plan.
pub(super) async fn run(
    gear: &Gear,
    plan: &Plan,
    monitor: Arc<dyn Monitor>,
    cancel: CancellationToken,
) -> Result<RunRecord> {
    let dead = gear.state.close_dead_runs(&plan.pipeline.name, gear.clock.now()).await?;
    let date = plan.logical_date.to_string();
    let record = gear.state.begin_run(&plan.pipeline.name, &date, plan.trigger, gear.clock.now()).await?;
    let monitor = RunLog::begin(&gear.project.state_dir, &record, gear.clock, gear.redactor.clone(), monitor);
    monitor.event(&Event::RunStarted { run: &record, tasks: plan.tasks.len() });
    for run in dead {
        let message = format!("the run {run} had ended without a word; what it made durable is used");
        monitor.event(&Event::Warning { task: None, message });
    }
    if let Err(refusal) = crate::plan::within(plan) {
        return refuse(gear, plan, record, &*monitor, &refusal).await;
    }
    let done = done_before(gear, plan, &record).await?;
    let ledger = super::ledger_of(gear, &plan.pipeline).await?;
    let (run, window) = (record.id.clone(), plan.window.clone());
    let shared = Shared {
        gear,
        pipeline: &plan.pipeline,
        occasion: Occasion::new(run, plan.logical_date, window, &plan.pipeline, &ledger),
        monitor: Arc::clone(&monitor),
        cancel,
        ledger: Mutex::new(ledger),
        breakers: Breakers::default(),
        purse: Purse::of(plan),
    };
    let mut dispatcher = Dispatcher::new(plan, &shared, done);
    dispatcher.walk().await?;
    let record = dispatcher.finish(record).await?;
    monitor.event(&Event::RunFinished { run: &record });
    Ok(record)
}

/// Ends a run that would be billed for more than it may, before any of its tasks has begun.
async fn refuse(
    gear: &Gear,
    plan: &Plan,
    mut record: RunRecord,
    monitor: &dyn Monitor,
    refusal: &Error,
) -> Result<RunRecord> {
    let event = TaskEvent::Skipped { reason: gear.redactor.redact(&refusal.chain()) };
    let at = gear.clock.now();
    let log = |task: &PlannedTask| TaskLog { task: task.id.clone(), at, event: event.clone() };
    gear.state.append(&record.id, &plan.tasks.iter().map(log).collect::<Vec<_>>()).await?;
    record.counts.skipped = plan.tasks.len() as u64;
    record.finished_at = Some(at);
    record.status = RunStatus::Refused;
    gear.state.finish_run(&record).await?;
    monitor.event(&Event::RunFinished { run: &record });
    Ok(record)
}

/// How many runs in a row may have been stopped before one goes on with them all.
const MOST_STOPS: u32 = 20;

/// The extracts that runs for the same date had brought to their end before they were stopped: they are not asked for again.
async fn done_before(gear: &Gear, plan: &Plan, current: &RunRecord) -> Result<HashSet<usize>> {
    let mut done = HashSet::new();
    if plan.trigger == Trigger::Schedule {
        return Ok(done);
    }
    let runs = gear.state.runs(Some(&plan.pipeline.name), MOST_STOPS).await?;
    let goes_on = |run: &&RunRecord| {
        let recent = current.started_at - run.started_at < chrono::Duration::hours(12);
        run.status == RunStatus::Cancelled && run.logical_date == current.logical_date && recent
    };
    let stopped: Vec<&RunRecord> = runs.iter().filter(|run| run.id != current.id).take_while(goes_on).collect();
    if stopped.is_empty() {
        return Ok(done);
    }
    // Who asks for everything again gets it; but a backfill of everything that was stopped goes on like any other.
    let backfills = plan.trigger == Trigger::Backfill && stopped.iter().all(|run| run.trigger == Trigger::Backfill);
    for (index, task) in plan.tasks.iter().enumerate() {
        let again = task.due == Due::Forced && !backfills;
        if !matches!(task.step.action, Action::Extract(_)) || again {
            continue;
        }
        let mut all = true;
        for key in task.keys() {
            let pulls = gear.state.pulls(&task.step.into, Some(&key)).await?;
            all &= pulls.last().is_some_and(|pull| {
                !matches!(pull.outcome, PullOutcome::Failed | PullOutcome::Held | PullOutcome::Late)
                    && stopped.iter().any(|run| run.id == pull.run)
            });
        }
        if all {
            done.insert(index);
        }
    }
    Ok(done)
}

/// Works on every task that is begun, many at once; ends when no more can come and all have ended.
async fn crew(
    plan: &Plan,
    shared: &Shared<'_>,
    mut begun: mpsc::UnboundedReceiver<usize>,
    events: mpsc::UnboundedSender<(usize, TaskEvent)>,
) {
    let mut workers = FuturesUnordered::new();
    let mut open = true;
    while open || !workers.is_empty() {
        tokio::select! {
            index = begun.recv(), if open => match index {
                // The receiver lives as long as the dispatcher does.
                Some(index) => workers.push(worker::work(shared, &plan.tasks[index], {
                    let events = events.clone();
                    move |event| drop(events.send((index, event)))
                })),
                None => open = false,
            },
            Some(()) = workers.next(), if !workers.is_empty() => {}
        }
    }
}

/// What a worker tells: the place of its task, and what happened to it.
type Told = (usize, TaskEvent);

struct Dispatcher<'a> {
    plan: &'a Plan,
    shared: &'a Shared<'a>,
    states: Vec<TaskState>,
    /// How many tasks each one still waits for.
    waits: Vec<usize>,
    /// The tasks that wait for each one.
    followers: Vec<Vec<usize>>,
    ready: BTreeSet<usize>,
    /// The failed or late task on whose account each one was skipped.
    blamed: Vec<Option<usize>>,
    done_before: HashSet<usize>,
    /// The waits that are under way: they take nobody's place.
    aside: HashSet<usize>,
    events: (mpsc::UnboundedSender<Told>, mpsc::UnboundedReceiver<Told>),
}

impl<'a> Dispatcher<'a> {
    fn new(plan: &'a Plan, shared: &'a Shared<'a>, done_before: HashSet<usize>) -> Self {
        let mut followers = vec![Vec::new(); plan.tasks.len()];
        for (index, task) in plan.tasks.iter().enumerate() {
            for &before in &task.after {
                followers[before].push(index);
            }
        }
        let waits: Vec<usize> = plan.tasks.iter().map(|task| task.after.len()).collect();
        let ready = waits.iter().enumerate().filter(|(_, waits)| **waits == 0).map(|(index, _)| index).collect();
        // Unbounded, since a worker says at most a handful of things and must never wait to say them.
        let events = mpsc::unbounded_channel();
        Self {
            plan,
            shared,
            states: vec![TaskState::Waiting; plan.tasks.len()],
            waits,
            followers,
            ready,
            blamed: vec![None; plan.tasks.len()],
            done_before,
            aside: HashSet::new(),
            events,
        }
    }

    /// Leads the crew of workers until nothing is left to do.
    ///
    /// Both are always polled side by side: a worker that holds the state file's writer must never wait for the
    /// dispatcher, which wants to write there too.
    async fn walk(&mut self) -> Result<()> {
        let (begin, orders) = mpsc::unbounded_channel();
        let crew = crew(self.plan, self.shared, orders, self.events.0.clone());
        let (led, ()) = tokio::join!(self.lead(begin), crew);
        led
    }

    async fn lead(&mut self, begin: mpsc::UnboundedSender<usize>) -> Result<()> {
        let mut active = 0;
        let mut idle = false;
        loop {
            while let Some(index) = self.next_ready(active) {
                self.ready.remove(&index);
                if let Some(reason) = self.reason_to_skip(index) {
                    self.shared.purse.close(&self.plan.tasks[index].id);
                    self.apply(vec![(index, TaskEvent::Skipped { reason })]).await?;
                    continue;
                }
                if self.is_wait(index) {
                    self.aside.insert(index);
                } else {
                    active += 1;
                }
                // The crew listens for as long as this end is open.
                let _ = begin.send(index);
            }
            if active == 0 && self.aside.is_empty() {
                return Ok(());
            }
            if idle != (active == 0) {
                idle = active == 0;
                self.shared.monitor.event(&Event::Idle { idle });
            }
            let Some(event) = self.events.1.recv().await else { return Ok(()) };
            let mut batch = vec![event];
            while let Ok(event) = self.events.1.try_recv() {
                batch.push(event);
            }
            active -= self.apply(batch).await?;
        }
    }

    /// The next task that may begin beside so many that are under way; a wait always may.
    fn next_ready(&self, active: usize) -> Option<usize> {
        if self.shared.cancel.is_cancelled() {
            return None;
        }
        let room = active < self.plan.pipeline.max_active;
        self.ready.iter().copied().find(|index| room || self.is_wait(*index))
    }

    fn is_wait(&self, index: usize) -> bool {
        matches!(self.plan.tasks[index].step.action, Action::Wait(_))
    }

    /// Why a task is not begun although nothing is left to wait for.
    fn reason_to_skip(&mut self, index: usize) -> Option<String> {
        if self.done_before.contains(&index) {
            return Some("done by the stopped run that this one goes on with".to_owned());
        }
        let failed = self.plan.tasks[index].after.iter().find_map(|&before| match self.states[before] {
            TaskState::Failed { .. } | TaskState::Late { .. } => Some(before),
            _ => self.blamed[before],
        });
        self.blamed[index] = failed;
        failed.map(|failed| {
            let became = if matches!(self.states[failed], TaskState::Late { .. }) { "is late" } else { "failed" };
            format!("{} {became}", self.plan.tasks[failed].id)
        })
    }

    /// Folds events into the tasks' states, stores and tells them, and releases what waited for their ends.
    ///
    /// Returns how many tasks ended by them, waits excepted.
    async fn apply(&mut self, batch: Vec<(usize, TaskEvent)>) -> Result<usize> {
        let mut ended = 0;
        let mut logs = Vec::with_capacity(batch.len());
        for (index, event) in batch {
            let task = &self.plan.tasks[index];
            self.states[index] = self.states[index].apply(&event)?;
            if self.states[index].is_final() {
                ended += usize::from(!self.is_wait(index));
                self.aside.remove(&index);
                for &follower in &self.followers[index] {
                    self.waits[follower] -= 1;
                    if self.waits[follower] == 0 {
                        self.ready.insert(follower);
                    }
                }
            }
            self.shared.monitor.event(&Event::Task { task: &task.id, event: &event });
            logs.push(TaskLog { task: task.id.clone(), at: self.shared.gear.clock.now(), event });
        }
        self.shared.gear.state.append(&self.shared.occasion.run, &logs).await?;
        Ok(ended)
    }

    /// Ends the run: what was not begun is cancelled, the counts are summed up.
    async fn finish(mut self, mut record: RunRecord) -> Result<RunRecord> {
        let waiting: Vec<_> = (0..self.states.len())
            .filter(|&index| !self.states[index].is_final())
            .map(|index| (index, TaskEvent::Cancelled))
            .collect();
        let stopped = !waiting.is_empty() || self.states.contains(&TaskState::Cancelled);
        self.apply(waiting).await?;
        let mut counts = RunCounts::default();
        self.states.iter().for_each(|state| counts.count(state));
        counts.billed_bytes = self.shared.purse.spent();
        record.counts = counts;
        record.finished_at = Some(self.shared.gear.clock.now());
        record.status = if stopped {
            RunStatus::Cancelled
        } else if counts.failed > 0 {
            RunStatus::Failed
        } else if counts.held > 0 {
            RunStatus::Held
        } else if counts.late > 0 {
            RunStatus::Late
        } else {
            RunStatus::Succeeded
        };
        self.shared.gear.state.finish_run(&record).await?;
        Ok(record)
    }
}
