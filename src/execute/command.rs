//! A command's task: compare what it would be run for, run the program, remember that it was done.
//!
//! The ledger knows a command by a name that no table has. A unit is done when its program ended well for what the steps
//! before it had loaded then; it is not done again until one of them changes, and a process that dies in between is healed
//! by the next run.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_128;

use super::gear::Gear;
use super::outcome::{self, Cost, UnitOutcome};
use super::process;
use super::scope::{self, Occasion};
use super::transform::{self, Inputs};
use super::worker::{Shared, is_forced};
use crate::error::{Error, Kind, Result};
use crate::extract::cassette::Tape;
use crate::extract::{Errand, Page, Sink};
use crate::model::errand::Command;
use crate::model::ledger::{Fingerprint, PullOutcome, UnitState};
use crate::model::pipeline::{Per, Pipeline, Step};
use crate::model::plan::PlannedTask;
use crate::model::run::{TaskEvent, TaskId};
use crate::monitor::{Boundary, Event, Monitor};
use crate::secret::Redactor;
use crate::template::Scope;
use crate::time::{Unit, display_duration};
use crate::warehouse::Dialect;

/// Whether a command has anything to do.
pub(super) enum Prepared {
    /// It has not, and why.
    Skip(String),
    /// It has; for each unit of the task, what it is run for.
    Run(Vec<String>),
}

/// Finds out whether anything that the command comes after has changed since it was last run.
pub(super) fn prepare(shared: &Shared<'_>, task: &PlannedTask, step: &Command) -> Result<Prepared> {
    if shared.gear.tape.as_ref().is_some_and(Tape::is_replay) {
        return Ok(Prepared::Skip("no program is run in a test".to_owned()));
    }
    // What a window's command says of its dates is no change of its days: there, the template counts.
    let unit = unit(task, step);
    let text: Vec<String> = if unit.is_some() || task.units.is_empty() {
        let errand = errand(shared.gear, (shared.pipeline, &task.step, step), &scope(shared, task, step)?)?;
        errand.program.command
    } else {
        step.program.command.iter().map(|text| text.text.to_string()).collect()
    };
    let text = text.join("\0");
    let ledger = shared.ledger.lock().unwrap_or_else(PoisonError::into_inner);
    let units: Vec<Option<&Unit>> =
        if task.units.is_empty() { vec![None] } else { task.units.iter().map(Some).collect() };
    let inputs: Vec<Inputs> =
        units.into_iter().map(|unit| transform::inputs(&ledger, &step.reads, &text, unit)).collect();
    // What comes after nothing that brings rows is run whenever it is planned.
    if !is_forced(task) && !step.reads.is_empty() {
        if inputs.iter().all(|inputs| !inputs.any) {
            return Ok(Prepared::Skip("nothing that it comes after is there yet".to_owned()));
        }
        let fresh = task.keys().iter().zip(&inputs).all(|(key, inputs)| {
            ledger.unit(&task.step.into, key).is_some_and(|record| {
                record.state == UnitState::Loaded
                    && record.loaded.as_ref().and_then(|loaded| loaded.inputs.as_ref()) == Some(&inputs.digest)
            })
        });
        if fresh {
            return Ok(Prepared::Skip("nothing that it comes after has changed".to_owned()));
        }
    }
    Ok(Prepared::Run(inputs.into_iter().map(|inputs| inputs.digest).collect()))
}

/// Runs the program, again after a failure where that is asked for, and writes down that it was done.
pub(super) async fn run(
    shared: &Shared<'_>,
    task: &PlannedTask,
    step: &Command,
    inputs: Vec<String>,
    tell: &impl Fn(TaskEvent),
) -> Result<String> {
    let gear = shared.gear;
    let started_at = gear.clock.now();
    let keys = task.keys();
    tell(TaskEvent::Started { attempt: 1 });
    let leases = gear.state.lease(&task.step.into, &keys, &shared.occasion.run, started_at).await?;
    shared.crossed(task, Boundary::Leased);
    let errand = errand(gear, (shared.pipeline, &task.step, step), &scope(shared, task, step)?)?;
    let sink: Arc<dyn Sink> = Arc::new(Listener::of(shared, task));
    let mut attempt = 1;
    let stop = shared.cancel_of(task);
    while let Err(error) = errand.run(&sink, &stop).await {
        if attempt > step.retries || !matches!(error.kind(), Kind::Source | Kind::Unavailable) {
            return Err(error);
        }
        let pause = step.retry_pause.saturating_mul(1 << (attempt - 1).min(16));
        let reason = format!("{}; again in {}", outcome::told(&error), display_duration(pause));
        tell(TaskEvent::Retried { reason: gear.redactor.redact(&reason) });
        tokio::select! {
            () = stop.cancelled() => return Err(Error::new(Kind::Cancelled, "waiting to run it again")),
            () = tokio::time::sleep(pause) => {}
        }
        attempt += 1;
        tell(TaskEvent::Started { attempt });
    }
    let done = |((index, key), lease): ((usize, crate::time::UnitKey), crate::model::ledger::Lease)| UnitOutcome {
        key,
        unit: task.units.get(index).copied(),
        lease,
        outcome: PullOutcome::Loaded,
        rows: 0,
        // What comes after this command sees by it that it was run for something else.
        fingerprint: inputs.get(index).map(|inputs| Fingerprint(xxh3_128(inputs.as_bytes()))),
        changes: None,
        inputs: inputs.get(index).cloned(),
        reason: None,
        probe: None,
        held_stage: None,
    };
    let outcomes: Vec<UnitOutcome> = keys.into_iter().enumerate().zip(leases).map(done).collect();
    let cost = Cost { requests: 0, bytes: 0, started_at, finished_at: gear.clock.now() };
    shared.keep(task, &outcomes, cost).await?;
    let attempts = if attempt > 1 { format!(" at the attempt number {attempt}") } else { String::new() };
    Ok(format!("exit code 0{attempts}"))
}

/// What is run, for people.
pub(super) fn lines(gear: &Gear, of: (&Pipeline, &Step, &Command), scope: &Scope) -> Result<Vec<String>> {
    Ok(errand(gear, of, scope)?.lines())
}

fn errand(gear: &Gear, (pipeline, step, command): (&Pipeline, &Step, &Command), scope: &Scope) -> Result<Errand> {
    let (program, connection) = process::program(gear, (pipeline, step, &command.connection), &command.program, scope)?;
    Ok(Errand { program, connection, state_dir: gear.project.state_dir.clone() })
}

/// The unit that a command is rendered for; one for all that are due has none.
fn unit<'a>(task: &'a PlannedTask, step: &Command) -> Option<&'a Unit> {
    match step.per {
        Per::Unit => task.units.first(),
        Per::Window => None,
    }
}

fn scope(shared: &Shared<'_>, task: &PlannedTask, step: &Command) -> Result<Scope> {
    let dialect = Dialect::of(&shared.gear.connections.get(&shared.pipeline.warehouse)?)?;
    let occasion: Occasion = transform::occasion(&shared.occasion, task);
    Ok(scope::scope(shared.gear, shared.pipeline, &task.step, &occasion, unit(task, step), &dialect))
}

/// Hears what a program says.
pub(super) struct Listener {
    monitor: Arc<dyn Monitor>,
    task: TaskId,
    redactor: Redactor,
}

impl Listener {
    /// The one of a task.
    pub fn of(shared: &Shared<'_>, task: &PlannedTask) -> Self {
        Self { monitor: Arc::clone(&shared.monitor), task: task.id.clone(), redactor: shared.gear.redactor.clone() }
    }
}

impl Sink for Listener {
    fn put(&self, _page: Page) -> Result<()> {
        Err(Error::internal("a command brings no pages"))
    }

    fn said(&self, line: &str) {
        self.monitor.event(&Event::Said { task: &self.task, line: self.redactor.redact(line) });
    }

    fn retrying(&self, _reason: &str, _pause: Duration) {}
}
