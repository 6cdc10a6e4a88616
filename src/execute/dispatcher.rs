//! The dispatcher: begins tasks as what they wait for ends, and is the only writer of task events.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::fan::Breakers;
use super::gear::Gear;
use super::purse::Purse;
use super::resumed::Resumed;
use super::scope::Occasion;
use super::slots::{self, Slots};
use super::worker::{self, Shared};
use crate::error::{Error, Kind, Result};
use crate::logs::RunLog;
use crate::model::job::Hold;
use crate::model::pipeline::Action;
use crate::model::plan::{Due, Plan, PlannedTask};
use crate::model::run::{RunCounts, RunRecord, RunStatus, TaskEvent, TaskLog, TaskState, Trigger};
use crate::monitor::{Event, Monitor};
use crate::time::display_duration;
use crate::warehouse::Permit;

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
    let resumed = Resumed::of(gear, plan, &record).await?;
    let ledger = super::ledger_of(gear, &plan.pipeline).await?;
    // The end of the run's own time stops this run, and nothing else that listens to `cancel`.
    let stop = cancel.child_token();
    let (run, window) = (record.id.clone(), plan.window.clone());
    let shared = Shared {
        gear,
        pipeline: &plan.pipeline,
        occasion: Occasion::new(run, plan.logical_date, window, &plan.pipeline, &ledger),
        ordinary: plan.trigger != Trigger::Backfill && plan.tasks.iter().all(|task| task.due != Due::Retry),
        monitor: Arc::clone(&monitor),
        permit: permit(gear, plan, &stop),
        cancel: stop,
        limits: Mutex::default(),
        ledger: Mutex::new(ledger),
        breakers: Breakers::default(),
        purse: Purse::of(plan),
    };
    let mut dispatcher = Dispatcher::new(plan, &shared, resumed);
    dispatcher.walk().await?;
    let record = dispatcher.finish(record).await?;
    monitor.event(&Event::RunFinished { run: &record });
    Ok(record)
}

/// What the run's commits need: that the job they are for is still this process's, and that nobody has cancelled it.
///
/// The first commit that hears of a cancellation stops the whole run, as the next beat would do.
fn permit(gear: &Gear, plan: &Plan, stop: &CancellationToken) -> Permit {
    let Some((job, generation)) = plan.leased else { return Permit::default() };
    let (state, stop) = (gear.state.clone(), stop.clone());
    Permit::new(move || {
        let (state, stop) = (state.clone(), stop.clone());
        Box::pin(async move {
            match state.hold(job, generation).await? {
                Hold::Firm => Ok(()),
                Hold::CalledOff => {
                    stop.cancel();
                    Err(Error::new(Kind::Cancelled, format!("job {job} is cancelled: nothing is written")))
                }
                Hold::Lost => Err(Error::new(Kind::Stale, format!("the lease on job {job}"))
                    .because("another process has taken it: nothing is written")),
            }
        })
    })
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

/// Stops a run that takes longer than it may; never ends.
async fn overdue(limit: Option<Duration>, shared: &Shared<'_>, over: Arc<AtomicBool>) {
    if let Some(limit) = limit {
        tokio::time::sleep(limit).await;
        // Who stopped it before gets the word.
        if !shared.cancel.is_cancelled() {
            over.store(true, Ordering::Relaxed);
            shared.cancel.cancel();
        }
    }
    std::future::pending::<()>().await;
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
    /// What is known of tasks before they begin.
    resumed: Resumed,
    /// The slots of pools that tasks hold.
    slots: Slots<'a>,
    /// Whether the run has taken longer than it may.
    overdue: Arc<AtomicBool>,
    /// The waits that are under way: they take nobody's place.
    aside: HashSet<usize>,
    events: (mpsc::UnboundedSender<Told>, mpsc::UnboundedReceiver<Told>),
}

impl<'a> Dispatcher<'a> {
    fn new(plan: &'a Plan, shared: &'a Shared<'a>, resumed: Resumed) -> Self {
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
            resumed,
            slots: Slots::new(shared.gear, &plan.pipeline, &shared.occasion.run),
            overdue: Arc::default(),
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
        let (plan, shared) = (self.plan, self.shared);
        let crew = crew(plan, shared, orders, self.events.0.clone());
        let slots = slots::keep(shared.gear, &plan.pipeline, &shared.occasion.run, &*shared.monitor);
        let clock = overdue(plan.pipeline.steering.timeout, shared, Arc::clone(&self.overdue));
        tokio::select! {
            (led, ()) = async { tokio::join!(self.lead(begin), crew) } => led,
            () = slots => Ok(()),
            () = clock => Ok(()),
        }
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
                if let Some(event) = self.resumed.failed.remove(&index) {
                    self.shared.purse.close(&self.plan.tasks[index].id);
                    self.apply(vec![(index, TaskEvent::Started { attempt: 1 }), (index, event)]).await?;
                    continue;
                }
                if self.is_wait(index) {
                    self.aside.insert(index);
                } else if self.slots.take(index, &self.plan.tasks[index], &*self.shared.monitor).await? {
                    active += 1;
                } else {
                    self.ready.insert(index);
                    continue;
                }
                // The crew listens for as long as this end is open.
                let _ = begin.send(index);
            }
            let waits = self.slots.waits() && !self.shared.cancel.is_cancelled();
            if active == 0 && self.aside.is_empty() && !waits {
                return Ok(());
            }
            if idle != (active == 0) {
                idle = active == 0;
                self.shared.monitor.event(&Event::Idle { idle });
            }
            let event = tokio::select! {
                event = self.events.1.recv() => event,
                () = tokio::time::sleep(slots::LOOK), if waits => {
                    self.slots.look_again();
                    continue;
                }
            };
            let Some(event) = event else { return Ok(()) };
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
        let may = |index: usize| self.is_wait(index) || room && self.slots.may_have(&self.plan.tasks[index]);
        self.ready.iter().copied().find(|index| may(*index))
    }

    fn is_wait(&self, index: usize) -> bool {
        matches!(self.plan.tasks[index].step.action, Action::Wait(_))
    }

    /// Why a task is not begun although nothing is left to wait for.
    fn reason_to_skip(&mut self, index: usize) -> Option<String> {
        if self.resumed.done.contains(&index) {
            let which = if self.plan.goes_on_with.is_empty() { "stopped run" } else { "run before" };
            return Some(format!("done by the {which} that this one goes on with"));
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
            let event = self.as_overdue(index, event);
            self.states[index] = self.states[index].apply(&event)?;
            if self.states[index].is_final() {
                ended += usize::from(!self.is_wait(index));
                self.aside.remove(&index);
                self.slots.give_back(index, task).await?;
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

    /// What is stopped since the run has taken longer than it may has failed by that, or was not begun.
    fn as_overdue(&self, index: usize, event: TaskEvent) -> TaskEvent {
        let limit = self.plan.pipeline.steering.timeout.filter(|_| self.overdue.load(Ordering::Relaxed));
        let (Some(limit), TaskEvent::Cancelled) = (limit, &event) else { return event };
        let reason = format!("the run took longer than its timeout of {}", display_duration(limit));
        match self.states[index] {
            TaskState::Running { .. } => TaskEvent::Failed { kind: Kind::Unavailable.name().to_owned(), reason },
            _ => TaskEvent::Skipped { reason },
        }
    }

    /// Ends the run: what was not begun is cancelled, the counts are summed up.
    async fn finish(mut self, mut record: RunRecord) -> Result<RunRecord> {
        let waiting: Vec<_> = (0..self.states.len())
            .filter(|&index| !self.states[index].is_final())
            .map(|index| (index, TaskEvent::Cancelled))
            .collect();
        self.apply(waiting).await?;
        let stopped = self.states.contains(&TaskState::Cancelled);
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
