//! A transform task: render, compare what it would be computed from, commit in the warehouse, record.

use std::sync::{Arc, PoisonError};

use xxhash_rust::xxh3::Xxh3;

use super::gear::Gear;
use super::outcome::{Cost, UnitOutcome};
use super::scope::{self, Occasion};
use super::worker::{Shared, is_forced};
use crate::error::{Error, Kind, Result};
use crate::model::ledger::{Lease, PullOutcome, Snapshot, UnitState};
use crate::model::name::Text;
use crate::model::pipeline::{CheckRule, Guard, Per, Pipeline, Read, Step, Transform};
use crate::model::plan::PlannedTask;
use crate::monitor::Boundary;
use crate::time::{Unit, UnitKey};
use crate::warehouse::{
    BoundCheck, Commit, CommitOutcome, Dialect, Labels, NEW_ROWS, NewRows, UnitCommit, UnitCommitted,
};

/// Whether a transform has anything to do.
pub(super) enum Prepared {
    /// It has not, and why.
    Skip(String),
    /// It has.
    Run(Statement),
}

/// A rendered SELECT with the digests of what it reads.
pub(super) struct Statement {
    sql: String,
    /// For each unit of the task, what its rows are computed from.
    inputs: Vec<String>,
}

/// Renders the step and finds out whether anything that it reads has changed since it was last computed.
pub(super) async fn prepare(shared: &Shared<'_>, task: &PlannedTask, step: &Transform) -> Result<Prepared> {
    let warehouse = shared.gear.warehouse(&shared.pipeline.warehouse).await?;
    let sql = rendered(
        shared.gear,
        shared.pipeline,
        &task.step,
        step,
        &occasion(&shared.occasion, task),
        unit(task, step),
        warehouse.dialect(),
    )?;
    let ledger = shared.ledger.lock().unwrap_or_else(PoisonError::into_inner);
    // What a window's statement says of its dates is no change of its days: there, the template counts.
    let text = if unit(task, step).is_some() || task.units.is_empty() {
        &*sql
    } else {
        &*text_for(&task.step, step, warehouse.dialect())?.text
    };
    let inputs: Vec<Inputs> = if task.units.is_empty() {
        vec![inputs(&ledger, &step.reads, text, None)]
    } else {
        task.units.iter().map(|unit| inputs(&ledger, &step.reads, text, Some(unit))).collect()
    };
    // Of tables that no step writes nobody tells whether they have changed: what reads them is computed every time.
    if !is_forced(task) && step.sources.is_empty() && !step.reads.is_empty() {
        if inputs.iter().all(|inputs| !inputs.any) {
            return Ok(Prepared::Skip("there is nothing to read yet".to_owned()));
        }
        let fresh = task.keys().iter().zip(&inputs).all(|(key, inputs)| {
            ledger.unit(&task.step.into, key).is_some_and(|record| {
                record.state == UnitState::Loaded
                    && record.loaded.as_ref().and_then(|loaded| loaded.inputs.as_ref()) == Some(&inputs.digest)
            })
        });
        if fresh {
            return Ok(Prepared::Skip("nothing that it reads has changed".to_owned()));
        }
    }
    Ok(Prepared::Run(Statement { sql, inputs: inputs.into_iter().map(|inputs| inputs.digest).collect() }))
}

/// Prices a statement again right before it is sent, where that could not be told before and there is a limit.
async fn admit(shared: &Shared<'_>, task: &PlannedTask, sql: &str) -> Result<()> {
    if !shared.purse.asks(task) {
        return Ok(());
    }
    match shared.gear.warehouse(&shared.pipeline.warehouse).await?.price(sql).await? {
        Some(quote) => shared.purse.admit(task, &quote),
        None => Ok(()),
    }
}

/// Computes the task's rows in the warehouse and replaces what changed.
pub(super) async fn run(
    shared: &Shared<'_>,
    task: &PlannedTask,
    step: &Transform,
    statement: Statement,
) -> Result<Vec<UnitOutcome>> {
    let gear = shared.gear;
    admit(shared, task, &statement.sql).await?;
    let started_at = gear.clock.now();
    let keys = task.keys();
    let leases = gear.state.lease(&task.step.into, &keys, &shared.occasion.run, started_at).await?;
    shared.crossed(task, Boundary::Leased);
    let warehouse = gear.warehouse(&shared.pipeline.warehouse).await?;
    let units = unit_commits(shared, task, &keys, &leases, &statement.inputs, task.step.guard);
    let commit = Commit {
        table: task.step.into.clone(),
        grain: shared.pipeline.window.as_ref().filter(|_| !task.units.is_empty()).map(|rule| rule.grain),
        rows: NewRows::Query {
            sql: statement.sql,
            time_column: step.time_column.clone().filter(|_| step.per == Per::Window),
        },
        write: task.step.write.clone(),
        keys: task.step.keys.clone(),
        contract: crate::model::schema::Contract::Evolve,
        units,
        billing: shared.purse.billing(task),
        checks: checks(
            gear,
            shared.pipeline,
            &task.step,
            &occasion(&shared.occasion, task),
            unit(task, step),
            warehouse.dialect(),
        )?,
        layout: task.step.layout.clone(),
        labels: Labels { pipeline: shared.pipeline.name.clone(), step: task.step.name.clone() },
        cancel: shared.cancel_of(task),
        permit: shared.permit.clone(),
        run: shared.occasion.run.clone(),
        at: started_at,
    };
    let committed = warehouse.commit(commit).await?;
    shared.crossed(task, Boundary::Committed);
    for warning in &committed.warnings {
        shared.warn(task, warning);
    }
    let mut outcomes = outcomes(task, &keys, &leases, statement.inputs, &committed.units)?;
    shared.spare_rejected(task, &mut outcomes).await?;
    let cost = Cost { requests: 0, bytes: 0, started_at, finished_at: gear.clock.now() };
    shared.keep(task, &outcomes, cost).await?;
    Ok(outcomes)
}

fn unit_commits(
    shared: &Shared<'_>,
    task: &PlannedTask,
    keys: &[UnitKey],
    leases: &[Lease],
    inputs: &[String],
    guard: Guard,
) -> Vec<UnitCommit> {
    keys.iter()
        .zip(leases)
        .enumerate()
        .map(|(index, (key, lease))| UnitCommit {
            unit: task.units.get(index).copied(),
            key: key.clone(),
            pull: lease.pull,
            generation: lease.generation,
            previous: shared.record(&task.step, key).and_then(|record| record.loaded),
            guard,
            staged: None,
            inputs: inputs.get(index).cloned(),
        })
        .collect()
}

fn outcomes(
    task: &PlannedTask,
    keys: &[UnitKey],
    leases: &[Lease],
    inputs: Vec<String>,
    committed: &[UnitCommitted],
) -> Result<Vec<UnitOutcome>> {
    keys.iter()
        .zip(leases)
        .zip(inputs)
        .enumerate()
        .map(|(index, ((key, lease), inputs))| {
            let unit = committed
                .iter()
                .find(|unit| unit.key == *key)
                .ok_or_else(|| Error::internal(format!("the warehouse said nothing of {key} of {}", task.step.into)))?;
            let (outcome, reason) = match &unit.outcome {
                CommitOutcome::Written | CommitOutcome::Already => (PullOutcome::Loaded, None),
                CommitOutcome::Unchanged => (PullOutcome::Unchanged, None),
                CommitOutcome::Held(reason) => (PullOutcome::Held, Some(reason.clone())),
            };
            Ok(UnitOutcome {
                key: key.clone(),
                unit: task.units.get(index).copied(),
                lease: *lease,
                outcome,
                rows: unit.rows,
                fingerprint: Some(unit.fingerprint),
                changes: unit.changes,
                inputs: Some(inputs),
                reason,
                probe: None,
                held_stage: None,
            })
        })
        .collect()
}

/// What a unit's rows would be computed from.
pub(super) struct Inputs {
    /// A digest of the statement and of every unit that it reads.
    pub digest: String,
    /// Whether any of those units was ever loaded.
    pub any: bool,
}

/// Digests what a unit's rows would be computed from: a text, and the units that are read.
pub(super) fn inputs(ledger: &Snapshot, reads: &[Read], text: &str, unit: Option<&Unit>) -> Inputs {
    let mut digest = Xxh3::new();
    let mut any = false;
    digest.update(text.as_bytes());
    for read in reads {
        for key in read_keys(ledger, read, unit) {
            let loaded = ledger.unit(&read.table, &key).and_then(|record| record.loaded.as_ref());
            any |= loaded.is_some();
            let state = loaded.map(|loaded| (loaded.rows, loaded.fingerprint.0));
            digest.update(format!("\0{}\0{key}\0{state:?}", read.table).as_bytes());
        }
    }
    Inputs { digest: format!("{:032x}", digest.digest128()), any }
}

/// The units that a unit reads of one table: those in its reach, or all there are where either has no window.
fn read_keys(ledger: &Snapshot, read: &Read, unit: Option<&Unit>) -> Vec<UnitKey> {
    let whole = UnitKey::whole();
    match unit {
        Some(unit) if ledger.unit(&read.table, &whole).is_none() => {
            read.reach.upstream_of(unit).iter().map(Unit::key).collect()
        }
        _ => ledger.table(&read.table).map(|record| record.unit.clone()).collect(),
    }
}

/// The unit that the statement is rendered for; a statement over the window has none.
pub(super) fn unit<'a>(task: &'a PlannedTask, step: &Transform) -> Option<&'a Unit> {
    match step.per {
        Per::Unit => task.units.first(),
        Per::Window => None,
    }
}

/// The occasion of a task: a task over several units sees them as its window.
pub(super) fn occasion(run: &Occasion, task: &PlannedTask) -> Occasion {
    let mut occasion = run.clone();
    if let [first, .., last] = task.units.as_slice()
        && let Ok(window) = crate::time::Window::spanning(first.calendar, first.start, last.end)
    {
        occasion.window = Some(window);
    }
    occasion
}

/// The template that a warehouse gets.
fn text_for<'t>(step: &Step, transform: &'t Transform, dialect: &Dialect) -> Result<&'t Text> {
    transform.sql.of(dialect.name).ok_or_else(|| {
        Error::config(format!("the step `{}` has no SQL for {}", step.name, dialect.name)).hint(format!(
            "it has {}; add sql.{} or sql.default",
            transform.sql.dialects().join(", "),
            dialect.name
        ))
    })
}

/// The statement that a step sends.
pub(super) fn rendered(
    gear: &Gear,
    pipeline: &Pipeline,
    step: &Step,
    transform: &Transform,
    occasion: &Occasion,
    unit: Option<&Unit>,
    dialect: &Dialect,
) -> Result<String> {
    let text = text_for(step, transform, dialect)?;
    gear.templates.render(text, &scope::scope(gear, pipeline, step, occasion, unit, dialect))
}

/// The step's checks, with their own SQL rendered over the new rows.
pub(super) fn checks(
    gear: &Gear,
    pipeline: &Pipeline,
    step: &Arc<Step>,
    occasion: &Occasion,
    unit: Option<&Unit>,
    dialect: &Dialect,
) -> Result<Vec<BoundCheck>> {
    step.checks
        .iter()
        .map(|check| {
            let sql = match &check.rule {
                CheckRule::Sql(text) => {
                    let mut scope = scope::scope(gear, pipeline, step, occasion, unit, dialect);
                    scope.this = Some(dialect.ident(NEW_ROWS));
                    let rendered = gear.templates.render(text, &scope);
                    Some(rendered.map_err(|error| error.while_doing(format!("rendering the check `{}`", check.name)))?)
                }
                _ => None,
            };
            Ok(BoundCheck { name: check.name.clone(), rule: check.rule.clone(), severity: check.severity, sql })
        })
        .collect()
}

/// Commits a transform's unit that a guard held, by somebody's decision.
pub(super) async fn approve(shared: &Shared<'_>, task: &PlannedTask, step: &Transform) -> Result<Vec<UnitOutcome>> {
    match prepare(shared, task, step).await? {
        Prepared::Run(statement) => run(shared, task, step, statement).await,
        Prepared::Skip(reason) => {
            Err(Error::new(Kind::Usage, format!("approving {} of {}", task.id, task.step.into)).because(reason))
        }
    }
}
