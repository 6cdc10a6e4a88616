//! Somebody's decision on a held unit: its new rows are committed after all, or thrown away.

use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;

use super::bookmark;
use super::extract::{held_dir, held_units};
use super::fan::Breakers;
use super::gear::Gear;
use super::outcome::{Cost, UnitOutcome};
use super::place::Place;
use super::purse::{self, Purse};
use super::scope::Occasion;
use super::transform;
use super::worker::Shared;
use crate::error::{Error, Kind, Result};
use crate::model::cost::Expected;
use crate::model::ledger::{PullOutcome, UnitRecord, UnitState};
use crate::model::name::TableName;
use crate::model::pipeline::{Action, Extract, Guard, Pipeline, Step};
use crate::model::plan::{Due, PlannedTask};
use crate::model::run::TaskId;
use crate::monitor::Void;
use crate::stage;
use crate::time::{Unit, UnitKey, Window};
use crate::warehouse::UnitCommit;

/// What a decision did.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Decided {
    /// The table.
    pub table: TableName,
    /// The unit.
    pub unit: UnitKey,
    /// The rows that the unit has now.
    pub rows: u64,
    /// The pipeline whose downstream steps the next run brings up to date.
    pub pipeline: String,
}

/// Commits the rows that a guard held.
///
/// # Errors
/// A unit that is not held, or whose held rows are gone.
pub async fn approve(gear: &Gear, table: &TableName, unit: &str) -> Result<Decided> {
    let held = Held::find(gear, table, unit).await?;
    let run = format!("approve-{}", held.pipeline.name);
    let ledger = super::ledger_of(gear, &held.pipeline).await?;
    let now = gear.clock.now();
    let today = now.with_timezone(&held.pipeline.timezone).date_naive();
    let window = held.unit.map(|unit| Window::spanning(unit.calendar, unit.start, unit.end)).transpose()?;
    let shared = Shared {
        gear,
        pipeline: &held.pipeline,
        occasion: Occasion::new(run, today, window, &held.pipeline, &ledger),
        ordinary: false,
        monitor: Arc::new(Void),
        limits: Mutex::default(),
        cancel: CancellationToken::new(),
        permit: crate::warehouse::Permit::default(),
        ledger: Mutex::new(ledger),
        breakers: Breakers::default(),
        purse: Purse::default(),
    };
    let task = held.task();
    let rows = match &held.step.action {
        Action::Extract(extract) => commit_stage(&shared, &held, &task, extract).await?,
        Action::Load(load) => commit_stage(&shared, &held, &task, &load.rows).await?,
        Action::Wait(_) | Action::Run(_) => {
            return Err(Error::usage(format!("`{}` writes no rows that could be held", held.step.name)));
        }
        Action::Transform(step) => {
            let outcomes = Box::pin(purse::metered(&shared, &task, transform::approve(&shared, &task, step))).await?;
            outcomes.iter().map(|outcome| outcome.rows).sum()
        }
    };
    Ok(Decided { table: table.clone(), unit: held.key, rows, pipeline: held.pipeline.name.clone() })
}

/// Throws away the rows that a guard held; the old rows count as the unit's rows again.
///
/// # Errors
/// A unit that is not held.
pub async fn reject(gear: &Gear, table: &TableName, unit: &str) -> Result<Decided> {
    let held = Held::find(gear, table, unit).await?;
    let mut record = held.record.clone();
    record.state = if record.loaded.is_some() { UnitState::Loaded } else { UnitState::Missing };
    record.reason = None;
    let place = record.held_stage.take();
    let rows = record.loaded.as_ref().map_or(0, |loaded| loaded.rows);
    // The pull is remembered with its fingerprint: the same rows are not asked about again.
    let mut pulls = gear.state.pulls(table, Some(&held.key)).await?;
    pulls.retain(|pull| pull.pull == record.last_pull && pull.outcome == PullOutcome::Held);
    for pull in &mut pulls {
        pull.outcome = PullOutcome::Rejected;
    }
    gear.state.record(&pulls, &[record]).await?;
    release(gear, table, place.as_deref()).await?;
    Ok(Decided { table: table.clone(), unit: held.key, rows, pipeline: held.pipeline.name.clone() })
}

/// A held unit with the step that writes it.
struct Held {
    pipeline: Arc<Pipeline>,
    step: Arc<Step>,
    key: UnitKey,
    unit: Option<Unit>,
    record: UnitRecord,
}

impl Held {
    async fn find(gear: &Gear, table: &TableName, unit: &str) -> Result<Self> {
        let owner = gear.project.pipelines.iter().find_map(|pipeline| {
            pipeline.steps.iter().find(|step| step.into == *table).map(|step| (Arc::clone(pipeline), Arc::clone(step)))
        });
        let Some((pipeline, step)) = owner else {
            return Err(
                Error::usage(format!("no step of this project writes {table}")).hint("`haul status` lists the tables")
            );
        };
        let unit = match pipeline.calendar() {
            Some(calendar) if unit != UnitKey::whole().as_str() => Some(calendar.parse(unit)?),
            _ => None,
        };
        let key = unit.map_or_else(UnitKey::whole, |unit| unit.key());
        let snapshot = gear.state.snapshot(std::slice::from_ref(table)).await?;
        match snapshot.unit(table, &key) {
            Some(record) if record.state == UnitState::Held => {
                let record = record.clone();
                Ok(Self { pipeline, step, key, unit, record })
            }
            Some(record) => Err(Error::usage(format!("{key} of {table} is {}, not held", record.state.name()))),
            None => Err(Error::usage(format!("{key} of {table} was never pulled"))
                .hint("`haul status` shows the units, `!` marks the held ones")),
        }
    }

    fn task(&self) -> PlannedTask {
        // The guard has had its say: this time everything passes.
        let step = Step { guard: Guard::OPEN, ..(*self.step).clone() };
        PlannedTask {
            id: TaskId { step: step.name.clone(), unit: self.key.clone() },
            step: Arc::new(step),
            units: self.unit.into_iter().collect(),
            due: Due::Forced,
            after: Vec::new(),
            expected: Expected::Free,
        }
    }
}

async fn commit_stage(shared: &Shared<'_>, held: &Held, task: &PlannedTask, extract: &Extract) -> Result<u64> {
    let gear = shared.gear;
    let gone = || {
        Error::new(Kind::Storage, format!("reading the held rows of {} of {}", held.key, held.step.into))
            .hint(format!("pull them again: `haul run {} --force`", held.pipeline.name))
    };
    let place = held.record.held_stage.as_deref().ok_or_else(gone)?;
    let manifest = stage::read(&held_dir(gear, place)).map_err(|error| gone().because(error))?;
    let (rows, fingerprint) = manifest.units.get(&held.key).copied().unwrap_or_default();
    let started_at = gear.clock.now();
    let leases =
        gear.state.lease(&held.step.into, std::slice::from_ref(&held.key), &shared.occasion.run, started_at).await?;
    let unit = UnitCommit {
        unit: held.unit,
        key: held.key.clone(),
        pull: leases[0].pull,
        generation: leases[0].generation,
        previous: held.record.loaded.clone(),
        guard: Guard::OPEN,
        staged: Some((rows, fingerprint)),
        inputs: None,
    };
    let place_of_rows = Place::of(gear, &held.pipeline, &task.step).await?;
    let committed = place_of_rows.put(shared, task, extract, &manifest, vec![unit]).await?;
    let changes = committed.units.first().and_then(|unit| unit.changes);
    let outcome = UnitOutcome {
        key: held.key.clone(),
        unit: held.unit,
        lease: leases[0],
        outcome: PullOutcome::Approved,
        rows,
        fingerprint: Some(fingerprint),
        changes,
        inputs: None,
        reason: None,
        probe: None,
        held_stage: None,
    };
    let cost = Cost { requests: 0, bytes: 0, started_at, finished_at: gear.clock.now() };
    shared.keep(task, &[outcome], cost).await?;
    bookmark::keep(gear, &task.step, extract, &manifest).await?;
    debug_assert!(held_units(&manifest).contains(&held.key) || rows == 0, "a held stage has its unit");
    release(gear, &held.step.into, Some(place)).await?;
    Ok(rows)
}

/// Removes a held stage that no unit waits for any more.
async fn release(gear: &Gear, table: &TableName, place: Option<&str>) -> Result<()> {
    let Some(place) = place else { return Ok(()) };
    let snapshot = gear.state.snapshot(std::slice::from_ref(table)).await?;
    if snapshot.table(table).all(|record| record.held_stage.as_deref() != Some(place)) {
        let dir = held_dir(gear, place);
        stage::discard(&dir)?;
        // Fails, as it should, while another stage of the unit is there.
        let _ = dir.parent().map(std::fs::remove_dir);
    }
    Ok(())
}
