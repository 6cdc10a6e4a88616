//! A load task: rows that landed elsewhere are read again, judged and committed as if they had just been pulled.

use std::sync::{Arc, PoisonError};

use super::extract::{self, Given};
use super::gear::Gear;
use super::landing::place;
use super::outcome::UnitOutcome;
use super::worker::{Shared, is_forced};
use crate::error::{Error, Kind, Result};
use crate::extract::{LandedRows, MongoPull, MongoQuery};
use crate::landing::Current;
use crate::model::hook::RetryPolicy;
use crate::model::ledger::UnitState;
use crate::model::pipeline::{Extract, Load};
use crate::model::plan::PlannedTask;
use crate::model::source::{CollectionProbe, Source};
use crate::time::UnitKey;

/// How many documents are read at once.
const BATCH: u32 = 2000;

/// Whether a load has anything to do.
pub(super) enum Prepared {
    /// It has not, and why.
    Skip(String),
    /// It has; with a digest of what landed.
    Run(String),
}

/// Finds out whether what landed has changed since it was last loaded.
pub(super) fn prepare(shared: &Shared<'_>, task: &PlannedTask, step: &Load) -> Prepared {
    let ledger = shared.ledger.lock().unwrap_or_else(PoisonError::into_inner);
    let key = &task.keys()[0];
    let landed =
        step.reads.as_ref().and_then(|read| ledger.unit(&read.table, key)).and_then(|unit| unit.loaded.as_ref());
    let Some(landed) = landed else { return Prepared::Skip("there is nothing to read yet".to_owned()) };
    let inputs = format!("{} rows, {}", landed.rows, landed.fingerprint);
    let fresh = ledger.unit(&task.step.into, key).is_some_and(|record| {
        record.state == UnitState::Loaded
            && record.loaded.as_ref().and_then(|loaded| loaded.inputs.as_ref()) == Some(&inputs)
    });
    if fresh && !is_forced(task) {
        return Prepared::Skip("nothing that it reads has changed".to_owned());
    }
    Prepared::Run(inputs)
}

/// Reads the task's unit and brings it into the warehouse, if it is not there already.
pub(super) async fn run(
    shared: &Shared<'_>,
    task: &PlannedTask,
    step: &Load,
    inputs: String,
) -> Result<Vec<UnitOutcome>> {
    let (pull, current) = landed(shared.gear, &step.rows, &task.keys()[0]).await?;
    let expected = (current.loaded.rows, current.loaded.fingerprint);
    let given = Given { pull: Some(Arc::new(pull)), inputs: Some(inputs), expected: Some(expected) };
    extract::run(shared, task, &step.rows, Some(given)).await
}

/// What reads the rows of a unit from where they landed.
pub(super) async fn landed(gear: &Gear, rows: &Extract, unit: &UnitKey) -> Result<(MongoPull, Current)> {
    let Source::Landed(landing) = &rows.source else { return Err(Error::internal("a load reads what landed")) };
    let place = place(gear, landing).await?;
    let Some(current) = place.current(unit).await? else {
        return Err(Error::new(
            Kind::Source,
            format!("reading {unit} from {}", place.mongo().place(place.collection())),
        )
        .because("it never landed there, or somebody has removed it")
        .hint("the next run pulls it again"));
    };
    let landed = LandedRows {
        unit: unit.clone(),
        generation: current.loaded.generation,
        shape: current.shape.clone(),
        columns: current.columns.clone(),
    };
    let pull = MongoPull {
        mongo: place.mongo().clone(),
        collection: landing.collection.clone(),
        query: MongoQuery::Landed(Box::new(landed)),
        range: None,
        batch_size: BATCH,
        probe: CollectionProbe::Off,
        retry: RetryPolicy::default(),
    };
    Ok((pull, current))
}
