//! A worker: one task's life, from its first attempt to the event that ends it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::fan::Breakers;
use super::gear::Gear;
use super::outcome::{self, Cost, UnitOutcome};
use super::purse::{self, Purse};
use super::scope::Occasion;
use super::{command, extract, load, transform, wait};
use crate::error::{Error, Kind, Result};
use crate::model::ledger::{PullOutcome, PullRecord, Snapshot, UnitRecord};
use crate::model::pipeline::{Action, Pipeline};
use crate::model::plan::{Due, PlannedTask};
use crate::model::run::{TaskEvent, TaskId};
use crate::model::source::Source;
use crate::monitor::{Boundary, Event, Monitor};
use crate::time::{Unit, UnitKey, display_duration};
use crate::warehouse::Permit;

/// What the tasks of one run share.
pub(super) struct Shared<'a> {
    pub gear: &'a Gear,
    pub pipeline: &'a Arc<Pipeline>,
    pub occasion: Occasion,
    /// Whether the run does the days whose turn it is: no backfill, and no single unit that somebody decided on.
    pub ordinary: bool,
    pub monitor: Arc<dyn Monitor>,
    pub cancel: CancellationToken,
    /// What each commit asks for right before its end.
    pub permit: Permit,
    /// What stops single tasks: those that have a limit of time.
    pub limits: Mutex<HashMap<TaskId, CancellationToken>>,
    /// The ledger, kept up as tasks end, so that a transform sees what the extracts before it brought.
    pub ledger: Mutex<Snapshot>,
    /// Which steps are not worth asking on.
    pub breakers: Breakers,
    /// What may still be billed, and what was.
    pub purse: Purse,
}

impl Shared<'_> {
    /// The ledger's record of a unit, as of now.
    pub fn record(&self, step: &crate::model::pipeline::Step, unit: &UnitKey) -> Option<UnitRecord> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).unit(&step.into, unit).cloned()
    }

    /// Whether only backfills have touched a unit, once this run has pulled it: a day of its window belongs to the days from
    /// then on, while an older one that it looks at again remains what it was.
    fn is_backfilled(&self, unit: Option<&Unit>, previous: Option<&UnitRecord>) -> bool {
        let within = match (unit, &self.occasion.window) {
            (Some(unit), Some(window)) => window.start() <= unit.start && unit.end <= window.end(),
            _ => true,
        };
        let of_its_day = self.ordinary && within;
        !of_its_day && previous.map_or(!self.ordinary, |record| record.backfilled)
    }

    /// Writes what became of units into the state store and into this run's ledger.
    pub async fn keep(&self, task: &PlannedTask, outcomes: &[UnitOutcome], cost: Cost) -> Result<()> {
        let table = &task.step.into;
        let (pulls, units): (Vec<_>, Vec<_>) = outcomes
            .iter()
            .map(|outcome| {
                let previous = self.record(&task.step, &outcome.key);
                let backfilled = self.is_backfilled(outcome.unit.as_ref(), previous.as_ref());
                outcome.records(table, &self.occasion.run, cost, previous.as_ref(), backfilled)
            })
            .unzip();
        self.gear.state.record(&pulls, &units).await?;
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        for unit in units {
            ledger.put(unit);
        }
        drop(ledger);
        self.crossed(task, Boundary::Recorded);
        Ok(())
    }

    /// Rows that somebody has rejected before are no reason to ask again: the unit counts as unchanged.
    pub async fn spare_rejected(&self, task: &PlannedTask, outcomes: &mut [UnitOutcome]) -> Result<()> {
        for outcome in outcomes.iter_mut().filter(|outcome| outcome.outcome == PullOutcome::Held) {
            let pulls = self.gear.state.pulls(&task.step.into, Some(&outcome.key)).await?;
            let rejected =
                |pull: &PullRecord| pull.outcome == PullOutcome::Rejected && pull.fingerprint == outcome.fingerprint;
            let loaded = self.record(&task.step, &outcome.key).and_then(|record| record.loaded);
            if let Some(loaded) = loaded.filter(|_| pulls.iter().any(rejected)) {
                outcome.outcome = PullOutcome::Unchanged;
                outcome.rows = loaded.rows;
                outcome.fingerprint = Some(loaded.fingerprint);
                outcome.reason = None;
                self.warn(task, &format!("{} has the rows that were rejected before; its old rows stay", outcome.key));
            }
        }
        Ok(())
    }

    /// What stops a task: the run's end, or the end of its own time.
    pub fn cancel_of(&self, task: &PlannedTask) -> CancellationToken {
        let limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        limits.get(&task.id).unwrap_or(&self.cancel).clone()
    }

    /// How long a task may take, where nothing else ends it after that.
    fn limit_of(&self, task: &PlannedTask) -> Option<Duration> {
        let ends_itself = match &task.step.action {
            Action::Wait(_) | Action::Run(_) => true,
            Action::Extract(extract) => matches!(extract.source, Source::Process(_)),
            Action::Transform(_) | Action::Load(_) => false,
        };
        self.pipeline.steering.timeout_of(&task.step.name).filter(|_| !ends_itself)
    }

    /// Tells that the task has crossed a boundary.
    pub fn crossed(&self, task: &PlannedTask, boundary: Boundary) {
        self.monitor.event(&Event::Boundary { task: &task.id, boundary });
    }

    /// Tells something that stops nothing.
    pub fn warn(&self, task: &PlannedTask, message: &str) {
        let message = self.gear.redactor.redact(message);
        self.monitor.event(&Event::Warning { task: Some(&task.id), message });
    }
}

/// Does one task, and tells every event of it but the first sight of it.
pub(super) async fn work(shared: &Shared<'_>, task: &PlannedTask, tell: impl Fn(TaskEvent)) {
    match Box::pin(purse::metered(shared, task, in_time(shared, task, &tell))).await {
        Ended::Skipped(reason) => tell(TaskEvent::Skipped { reason }),
        Ended::As(event) => tell(event),
        Ended::With(Ok(outcomes)) => tell(outcome::summary(&outcomes)),
        Ended::With(Err(error)) => {
            let event = outcome::failure(&error, &shared.gear.redactor);
            if let Err(second) = keep_failure(shared, task, &error).await {
                shared.warn(task, &format!("the failure could not be written down: {}", second.chain()));
            }
            tell(event);
        }
    }
}

/// The same, but stopped where it takes longer than its step allows: that is a failure of its own.
async fn in_time(shared: &Shared<'_>, task: &PlannedTask, tell: impl Fn(TaskEvent)) -> Ended {
    let Some(limit) = shared.limit_of(task) else { return ended(shared, task, tell).await };
    let stop = shared.cancel.child_token();
    shared.limits.lock().unwrap_or_else(PoisonError::into_inner).insert(task.id.clone(), stop.clone());
    let mut work = Box::pin(ended(shared, task, tell));
    let (ended, over) = tokio::select! {
        ended = &mut work => (ended, false),
        () = tokio::time::sleep(limit) => {
            stop.cancel();
            // What is in the middle of a commit comes to its end.
            (work.await, true)
        }
    };
    shared.limits.lock().unwrap_or_else(PoisonError::into_inner).remove(&task.id);
    match ended {
        Ended::With(Err(error)) if over && error.kind() == Kind::Cancelled && !shared.cancel.is_cancelled() => {
            let doing = format!("`{}` took longer than its timeout of {}", task.step.name, display_duration(limit));
            let hint = "what it had asked for is kept, and the next attempt goes on from there";
            Ended::With(Err(Error::new(Kind::Unavailable, doing).hint(hint)))
        }
        ended => ended,
    }
}

/// How a task ended.
enum Ended {
    Skipped(String),
    /// It writes no table.
    As(TaskEvent),
    With(Result<Vec<UnitOutcome>>),
}

async fn ended(shared: &Shared<'_>, task: &PlannedTask, tell: impl Fn(TaskEvent)) -> Ended {
    Ended::With(match &task.step.action {
        Action::Extract(step) => {
            tell(TaskEvent::Started { attempt: 1 });
            extract::run(shared, task, step, None).await
        }
        Action::Load(step) => match load::prepare(shared, task, step) {
            load::Prepared::Skip(reason) => return Ended::Skipped(reason),
            load::Prepared::Run(inputs) => {
                tell(TaskEvent::Started { attempt: 1 });
                load::run(shared, task, step, inputs).await
            }
        },
        Action::Wait(step) => {
            tell(TaskEvent::Started { attempt: 1 });
            match wait::run(shared, task, step).await {
                Ok(event) => return Ended::As(event),
                // Nothing of it is in the ledger: the next run waits again.
                Err(error) => return Ended::As(outcome::failure(&error, &shared.gear.redactor)),
            }
        }
        Action::Run(step) => match command::prepare(shared, task, step) {
            Ok(command::Prepared::Skip(reason)) => return Ended::Skipped(reason),
            Ok(command::Prepared::Run(inputs)) => match command::run(shared, task, step, inputs, &tell).await {
                Ok(note) => return Ended::As(TaskEvent::Done { note }),
                Err(error) => Err(error),
            },
            Err(error) => {
                tell(TaskEvent::Started { attempt: 1 });
                Err(error)
            }
        },
        Action::Transform(step) => match transform::prepare(shared, task, step).await {
            Ok(transform::Prepared::Skip(reason)) => {
                if let Err(error) = purse::spared(shared, task, &reason).await {
                    shared.warn(task, &format!("what was saved could not be written down: {}", error.chain()));
                }
                return Ended::Skipped(reason);
            }
            Ok(transform::Prepared::Run(statement)) => {
                tell(TaskEvent::Started { attempt: 1 });
                transform::run(shared, task, step, statement).await
            }
            Err(error) => {
                tell(TaskEvent::Started { attempt: 1 });
                Err(error)
            }
        },
    })
}

/// Writes a failed attempt into the ledger of each unit; a stopped one leaves no trace, so that it is gone on with.
async fn keep_failure(shared: &Shared<'_>, task: &PlannedTask, error: &Error) -> Result<()> {
    if matches!(error.kind(), Kind::Cancelled | Kind::Stale) {
        return Ok(());
    }
    let keys = task.keys();
    let now = shared.gear.clock.now();
    let leases = shared.gear.state.lease(&task.step.into, &keys, &shared.occasion.run, now).await?;
    let reason = shared.gear.redactor.redact(&outcome::told(error));
    let outcomes: Vec<UnitOutcome> = keys
        .into_iter()
        .zip(leases)
        .enumerate()
        .map(|(index, (key, lease))| UnitOutcome {
            key,
            unit: task.units.get(index).copied(),
            lease,
            outcome: PullOutcome::Failed,
            rows: 0,
            fingerprint: None,
            changes: None,
            inputs: None,
            reason: Some(reason.clone()),
            probe: None,
            held_stage: None,
        })
        .collect();
    shared.keep(task, &outcomes, Cost { requests: 0, bytes: 0, started_at: now, finished_at: now }).await
}

/// Whether the user asked for the task in so many words.
pub(super) fn is_forced(task: &PlannedTask) -> bool {
    task.due == Due::Forced
}
