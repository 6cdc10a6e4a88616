//! The look at a source before its rows are read: late, unchanged since they were loaded, or to be read.

use xxhash_rust::xxh3::xxh3_128;

use super::outcome::{Cost, UnitOutcome};
use super::purse;
use super::worker::{Shared, is_forced};
use crate::error::{Error, Kind, Result};
use crate::extract::{Probe, Pull};
use crate::model::ledger::{Lease, PullOutcome, Snapshot, UnitRecord, UnitState};
use crate::model::pipeline::Extract;
use crate::model::plan::PlannedTask;
use crate::monitor::Boundary;
use crate::time::{Instant, Unit, UnitKey};

/// What the look at the source has shown.
pub(super) enum Looked {
    /// The rows have to be read; with them belongs this state of the source, where it could be told.
    Read(Option<String>),
    /// Nothing is to be read, and that is recorded.
    Ended(Vec<UnitOutcome>),
}

/// Looks in which state the source is, and ends the task where it is late or as it was.
pub(super) async fn look(
    shared: &Shared<'_>,
    task: &PlannedTask,
    step: &Extract,
    pull: &dyn Pull,
    leases: &[Lease],
    started_at: Instant,
) -> Result<Looked> {
    let stop = shared.cancel_of(task);
    let probed = tokio::select! {
        probed = pull.probe() => probed?,
        () = stop.cancelled() => return Err(Error::new(Kind::Cancelled, "stopped")),
    };
    let told = matches!(probed, Probe::Is(_));
    let ended = match probed {
        Probe::Unknown => return Ok(Looked::Read(None)),
        Probe::Late(reason) => late(task, leases, &shared.gear.redactor.redact(&reason)),
        Probe::Is(text) => {
            let state = fingerprint(pull, step, &text);
            let Some(unchanged) = unchanged(shared, task, leases, &state) else { return Ok(Looked::Read(Some(state))) };
            unchanged
        }
    };
    shared.crossed(task, Boundary::Judged);
    if told {
        purse::spared(shared, task, "the source is as it was").await?;
    }
    let finished_at = shared.gear.clock.now();
    shared.keep(task, &ended, Cost { requests: 1, bytes: 0, started_at, finished_at }).await?;
    Ok(Looked::Ended(ended))
}

/// The state of a source together with what is asked of it: another statement may find other rows in a source that is as it was.
pub(super) fn fingerprint(pull: &dyn Pull, step: &Extract, state: &str) -> String {
    let asked = xxh3_128(format!("{} {:?}", pull.identity(), step.nested).as_bytes());
    format!("{asked:032x} {state}")
}

/// Whether a unit's rows were read from the source when it was in this very state.
fn as_loaded(record: &UnitRecord, state: &str) -> bool {
    record.state == UnitState::Loaded && record.loaded.is_some() && record.probe.as_deref() == Some(state)
}

/// Whether all units of a task were read when the source was in this very state.
pub(super) fn is_as_loaded(ledger: &Snapshot, task: &PlannedTask, state: &str) -> bool {
    let loaded = |key: &UnitKey| ledger.unit(&task.step.into, key).is_some_and(|record| as_loaded(record, state));
    !is_forced(task) && task.keys().iter().all(loaded)
}

fn late(task: &PlannedTask, leases: &[Lease], reason: &str) -> Vec<UnitOutcome> {
    let late = |(key, unit, lease)| UnitOutcome {
        key,
        unit,
        lease,
        outcome: PullOutcome::Late,
        rows: 0,
        fingerprint: None,
        changes: None,
        inputs: None,
        reason: Some(reason.to_owned()),
        probe: None,
        held_stage: None,
    };
    units(task, leases).map(late).collect()
}

/// The outcomes of units whose rows were read from the source when it was in this very state; none where any was not.
fn unchanged(shared: &Shared<'_>, task: &PlannedTask, leases: &[Lease], state: &str) -> Option<Vec<UnitOutcome>> {
    if is_forced(task) {
        return None;
    }
    let unchanged = |(key, unit, lease)| {
        let loaded = shared.record(&task.step, &key).filter(|record| as_loaded(record, state))?.loaded?;
        Some(UnitOutcome {
            key,
            unit,
            lease,
            outcome: PullOutcome::Unchanged,
            rows: loaded.rows,
            fingerprint: Some(loaded.fingerprint),
            changes: None,
            inputs: None,
            reason: None,
            probe: Some(state.to_owned()),
            held_stage: None,
        })
    };
    units(task, leases).map(unchanged).collect()
}

/// The units of a task with their leases.
fn units(task: &PlannedTask, leases: &[Lease]) -> impl Iterator<Item = (UnitKey, Option<Unit>, Lease)> {
    let units = task.keys().into_iter().zip(leases).enumerate();
    units.map(|(index, (key, lease))| (key, task.units.get(index).copied(), *lease))
}
